"""Who may call the admin listener: no foreign Host header (DNS rebinding), and an operator who may do what is
asked. On loopback whoever comes without a token may look; to change something takes a token and a role. Every
refused try is told to the audit, but for what is not there and what is merely wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from gateway.admin import browsers
from gateway.admin.console import pages as console
from gateway.admin.operators import NoOperator, Operators, SignedIn
from gateway.admin.refusals import Refusals, address_of
from gateway.call import new_id
from gateway.core.config.operator import Operator, Role
from gateway.core.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    MethodNotAllowed,
    NoRoute,
    Unauthenticated,
)
from gateway.core.http.request_target import host_of
from gateway.core.jwt.verify import bearer
from gateway.core.methods import SAFE
from gateway.core.process import listeners
from gateway.edge.response import reply
from gateway.edge.response.head import REQUEST_ID

_SIGNED_IN = web.RequestKey("signed_in", SignedIn)
_LOOPBACK = SignedIn(Operator("loopback", Role.VIEWER))  # whoever runs on this machine
_NOBODY = SignedIn(Operator("nobody", Role.VIEWER))  # who shows a ticket, or asks how the process is
_V1 = "/admin/v1/"
SESSION = f"{_V1}session"
# What has an unsafe method and changes nothing of the gateway: it is for all who may look.
LOOKS = frozenset(
    {
        SESSION,
        *(_V1 + name for name in ("config:check", "config:rehearse", "explain", "tickets", "session:end")),
    }
)
VERIFY = f"{_V1}audit:verify"
_COSTLY = frozenset({VERIFY})  # to look takes a credential there, too
PROBES = frozenset({"/livez", "/readyz"})  # a prober holds no token
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make(
    operators: Operators, refusals: Refusals, hosts: Collection[str], *, token_needed: bool
) -> Middleware:
    """The middleware. hosts: names (lower case) that the listener may be called by, beside localhost and
    addresses. token_needed: to look, too."""

    async def let_in(request: web.Request) -> None:
        """Raises GatewayError where the request may not have its page."""
        _check_host(request, hosts)
        if request.path in PROBES:
            request[_SIGNED_IN] = _NOBODY
            return
        browsers.check(request.method, request.headers)
        if console.is_public(request.path):
            request[_SIGNED_IN] = _NOBODY
            return
        request[_SIGNED_IN] = await _sign_in(request, operators, refusals, token_needed=token_needed)
        require(request, _least(request))
        if _changes(request):
            browsers.check_content(request.headers)

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            await let_in(request)
            if request.method == hdrs.METH_OPTIONS and request.path == "*":  # what aiohttp cannot route
                return reply.empty(204)
            return await handler(request)
        except GatewayError as error:
            await refusals.note(request, error, _who(request, error))
            return problem(error)
        except web.HTTPNotFound:
            return problem(NoRoute("The admin listener has no such path."))
        except web.HTTPMethodNotAllowed as error:
            allow = ", ".join(sorted({*error.allowed_methods, hdrs.METH_OPTIONS}))
            if request.method == hdrs.METH_OPTIONS:
                return reply.empty(204, {hdrs.ALLOW: allow})
            return problem(MethodNotAllowed(allow))

    return guard


def _check_host(request: web.Request, hosts: Collection[str]) -> None:
    """No foreign name: that of the Host, or of the target where HTTP/1.0 has no Host. A client that names
    none (in HTTP/1.0, or by an empty Host, RFC 9112 section 3.2) is no browser that a page
    has led here by DNS rebinding. Raises BadRequest, Forbidden."""
    values = request.headers.getall(hdrs.HOST, ())
    if len(values) != 1:
        raise BadRequest("A request has exactly one Host header.", close=True)
    host = host_of(values[0])
    if not host or host == "localhost" or host in hosts:
        return
    if not listeners.is_address(listeners.plain(host)):  # in any spelling: none can be another's name
        raise Forbidden("This Host is not served; add it to [admin] hosts in gateway.conf.")


async def _sign_in(
    request: web.Request, operators: Operators, refusals: Refusals, *, token_needed: bool
) -> SignedIn:
    """Who asks. To look on loopback takes no credential; one that is shown all the same counts. Raises
    Unauthenticated, NoOperator, ClientLimit, IssuerUnavailable."""
    shown = request.headers.getall(hdrs.AUTHORIZATION, ())
    if request.path == SESSION and _changes(request):
        return _NOBODY  # the ticket tells who
    needed = token_needed or _changes(request) or request.path in _COSTLY
    if not (needed or any(one[:7].lower() == "bearer " for one in shown)):
        return _LOOPBACK
    try:
        return await operators.of(bearer(shown), request.headers.getall("X-Tenant", ()))
    except (Unauthenticated, NoOperator):
        if shown:
            refusals.count(address_of(request))
        raise


def _who(request: web.Request, error: GatewayError) -> Operator | str:
    """Who was refused, as far as is known."""
    if isinstance(error, NoOperator):
        return error.who
    found = request.get(_SIGNED_IN, _NOBODY)
    return "" if found is _NOBODY else found.operator


def _changes(request: web.Request) -> bool:
    """Whether a page is asked for that changes something, and not one that is not there."""
    return request.method not in SAFE and request.match_info.http_exception is None


def _least(request: web.Request) -> Role:
    """The least role that gets to a page at all. An editor gets to what changes the config, which asks what
    exactly is theirs; all else that changes something is an owner's."""
    if not _changes(request) or request.path in LOOKS:
        return Role.VIEWER
    return Role.EDITOR if request.path.startswith(_V1) else Role.OWNER


def operator(request: web.Request) -> Operator:
    """Who asks, once the guard has let them in."""
    return request[_SIGNED_IN].operator


def signed_in(request: web.Request) -> SignedIn:
    """Who asks, and until when the credential is good."""
    return request[_SIGNED_IN]


def shows_credential(request: web.Request) -> bool:
    """Whether it is known who asks, and not only that they are on this machine."""
    return request[_SIGNED_IN] is not _LOOPBACK


def require(request: web.Request, role: Role) -> Operator:
    """Who asks, where they have at least this role. Raises Forbidden."""
    found = operator(request)
    if found.role < role:
        theirs = f"{found.name} has the role {found.role.name.lower()}"
        raise Forbidden(f"This takes the role {role.name.lower()}; {theirs}.")
    return found


def caller(request: web.Request) -> str:
    """Who asks for a change of credentials, for their log."""
    return f"{operator(request).name} at the admin listener"


def problem(error: GatewayError) -> web.Response:
    """The response to a request that is refused, with an id of its own."""
    request_id = new_id()
    response = reply.problem_response(error, request_id)
    response.headers[REQUEST_ID] = request_id
    return response
