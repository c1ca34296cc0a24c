"""The life of a request: a straight line from head to answer, and the only error wall."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from gateway.call import Call, Snapshot
from gateway.core import access, headers, target, tenancy
from gateway.core.errors import GatewayError, InternalError, Unauthenticated
from gateway.core.model import Identity, Tenant
from gateway.edge import body, cors, reply

L = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policies:
    """What a life asks of the services, as plain functions.

    snapshot: the live one. verify: a token to an identity (Unauthenticated). limit: one request of a
    tenant (TenantLimit). observe: a call that has ended. draining: whether connections should end.
    """

    snapshot: Callable[[], Snapshot]
    verify: Callable[[str], Identity]
    limit: Callable[[Tenant], None]
    observe: Callable[[Call], None]
    draining: Callable[[], bool]


class Life:
    """Serves each request of the public listener."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its head to the last byte of its answer."""
        policies = self._policies
        call = Call(
            request.method,
            request.raw_path,
            request.headers,
            _peer(request),
            policies.snapshot(),
            request,
        )
        call.draining = policies.draining
        try:
            response = await self._answer(call)
            await self._finish(call, response)
        except (ConnectionError, asyncio.CancelledError):
            call.status = call.status or 499  # the client left before its answer (nginx's word for it)
            raise
        finally:
            policies.observe(call)
        return response

    async def _answer(self, call: Call) -> web.StreamResponse:
        """The error wall: whatever goes wrong becomes problem+json, or cuts an answer that has begun."""
        try:
            if cors.is_preflight(call.method, call.headers):
                return await self._preflight(call)
            self.begin(call)
            if call.route is None:
                return reply.empty(204)  # OPTIONS *
            return await call.route.target(call)
        except GatewayError as error:
            return self._failed(call, error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the one error wall: a bug of ours is logged, never leaked
            L.exception("A bug in the gateway failed request %s", call.id)
            return self._failed(call, InternalError())

    def begin(self, call: Call) -> None:
        """All that need not wait: match, verify, tenant, access, rate limit, size."""
        self._match(call, call.method)
        route = call.route
        if route is None:
            return
        if not route.public:
            call.identity = identity = self._policies.verify(_bearer(call))
            named = call.headers.getall("X-Tenant", ())
            if "tenant" in call.params:
                named = [*named, call.params["tenant"]]
            call.tenant = tenancy.resolve(identity, call.snapshot.tenants, named)
            access.require(route, call.method, identity)
            self._policies.limit(call.tenant)
        body.check_length(call)

    def _match(self, call: Call, method: str) -> None:
        headers.refuse_ambiguous(call.headers.items())
        hosts = call.headers.getall(hdrs.HOST, ())
        host, call.path, call.query = target.resolve(call.method, call.target, hosts)
        if call.path == "*":
            return
        call.route, call.params = call.snapshot.table.match(method, host, call.path)
        strip = call.route.strip
        call.subpath = (call.path[len(strip) :] or "/") if strip else call.path

    async def _preflight(self, call: Call) -> web.Response:
        """CORS asks before authentication, by the method that is to come, and never reaches a backend."""
        assert call.request is not None
        self._match(call, call.headers[hdrs.ACCESS_CONTROL_REQUEST_METHOD])
        return await cors.preflight(call.route.cors if call.route else None, call.request)

    def _failed(self, call: Call, error: GatewayError) -> web.StreamResponse:
        call.code = error.code
        if call.response is not None:
            reply.abort(call)
            return call.response
        return reply.problem(call, error)

    async def _finish(self, call: Call, response: web.StreamResponse) -> None:
        """Write the answer to its end, so that what is observed is what was sent."""
        request = call.request
        assert request is not None
        call.status = response.status
        if not response.prepared:
            reply.decorate(call, response)
            await response.prepare(request)
        await response.write_eof()
        call.bytes_out = response.body_length


def _bearer(call: Call) -> str:
    """The token of the Authorization header (RFC 6750 section 2.1)."""
    values = call.headers.getall(hdrs.AUTHORIZATION, ())
    if len(values) != 1:
        raise Unauthenticated("Send one Authorization header: Bearer and a token.")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send the token as Authorization: Bearer.")
    return token.strip()


def _peer(request: web.BaseRequest) -> str:
    """The client's address, empty for a unix socket."""
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) and name else ""
