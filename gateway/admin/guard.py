"""Who may call the admin listener: no foreign Host header (DNS rebinding), and an operator who may do what is
asked. On loopback whoever comes without a token may look; to change something takes a token and a role."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from gateway.admin.console import pages as console
from gateway.call import new_id
from gateway.core.config.operator import Operator, Role
from gateway.core.errors import BadRequest, Forbidden, GatewayError, MethodNotAllowed, NoRoute
from gateway.core.http.request_target import host_of
from gateway.core.jwt.issuer import LOCAL
from gateway.core.jwt.verify import bearer
from gateway.core.methods import SAFE
from gateway.core.model import Identity, Tenant
from gateway.core.policy import access
from gateway.core.process import listeners
from gateway.edge.response import reply
from gateway.edge.response.head import REQUEST_ID

_OPERATOR = web.RequestKey("operator", Operator)
_LOOPBACK = Operator("loopback", Role.VIEWER)  # whoever runs on this machine
_PROBER = Operator("prober", Role.VIEWER)
_V1 = "/admin/v1/"
# What has an unsafe method and changes no config: to look at something takes a body.
_LOOKS = frozenset(
    _V1 + name for name in ("config:check", "config:rehearse", "explain", "tickets", "session:end")
)
PROBES = frozenset({"/livez", "/readyz"})  # a prober holds no token
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make(
    verify: Callable[[str], Awaitable[Identity]],
    tenants: Callable[[], Mapping[str, Tenant]],
    hosts: Collection[str],
    *,
    token_needed: bool,
) -> Middleware:
    """The middleware. tenants: those of the live config. hosts: names (lower case) that the listener may be
    called by, beside localhost and addresses."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            _check_host(request, hosts)
            if request.path in PROBES or console.is_public(request.path):
                request[_OPERATOR] = _PROBER
            elif token_needed or _changes(request) or hdrs.AUTHORIZATION in request.headers:
                identity = await _check_token(request, verify, tenants())
                request[_OPERATOR] = Operator(f"{identity.tenant}/{identity.subject}", Role.OWNER)
            else:
                request[_OPERATOR] = _LOOPBACK
            require(request, _least(request))
            if request.method == hdrs.METH_OPTIONS and request.path == "*":  # what aiohttp cannot route
                return reply.empty(204)
            return await handler(request)
        except GatewayError as error:
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


async def _check_token(
    request: web.Request, verify: Callable[[str], Awaitable[Identity]], tenants: Mapping[str, Tenant]
) -> Identity:
    """As on the public listener: one token, of a tenant that is served, with the scope. Whoever runs another
    issuer, for a tenant perhaps, does not run the gateway, so its tokens do not count."""
    identity = await verify(bearer(request.headers.getall(hdrs.AUTHORIZATION, ())))
    if identity.kind == "jwt" and identity.issuer != LOCAL:
        raise Forbidden("The admin listener takes tokens of the gateway's own issuer only.")
    access.resolve_tenant(identity, tenants, request.headers.getall("X-Tenant", ()))
    if access.ADMIN_SCOPE not in identity.scopes:
        raise access.lacks([access.ADMIN_SCOPE])
    return identity


def _changes(request: web.Request) -> bool:
    """Whether a page is asked for that changes something, and not one that is not there."""
    return request.method not in SAFE and request.match_info.http_exception is None


def _least(request: web.Request) -> Role:
    """The least role that gets to a page at all. An editor gets to what changes the config, which asks what
    exactly is theirs; all else that changes something is an owner's."""
    if not _changes(request) or request.path in _LOOKS:
        return Role.VIEWER
    return Role.EDITOR if request.path.startswith(_V1) else Role.OWNER


def operator(request: web.Request) -> Operator:
    """Who asks, once the guard has let them in."""
    return request[_OPERATOR]


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
