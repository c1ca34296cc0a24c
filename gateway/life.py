"""The life of a request: a straight line from head to answer, and the only error wall."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.call import Call, Snapshot
from gateway.core import access, paths, target, tenancy
from gateway.core.errors import BadRequest, GatewayError, InternalError
from gateway.core.head import Head, from_pairs
from gateway.core.model import Identity, Tenant
from gateway.core.tokens import bearer
from gateway.edge import body, cors, reply
from gateway.edge.server import ClientConnection

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
    """Serves each request of the public listener: `direct` those that need not wait, `handle` the others.
    Both begin in `begin`, and what goes wrong ends in `_error`."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    # --- without a task ---

    def direct(self, client: ClientConnection, head: Head, request_body: bytes) -> bool:
        """A whole simple request. True: it is answered, or will be by callbacks. False: `handle` goes on
        with what has begun, once aiohttp has parsed the same bytes."""
        call = self._call(head, client, None)
        try:
            self.begin(call)
            assert call.route is not None  # only OPTIONS * has none, and that is not simple
            direct = getattr(call.route.target, "direct", None)
            call.on_end = self._ended
            if direct is not None and direct(call, request_body):
                return True
        except Exception as error:  # noqa: BLE001 - the error wall, as in _answer
            self._refuse(call, client, self._error(call, error))
            return True
        call.on_end = None
        client.begun = call
        return False

    def _ended(self, call: Call, relay: Any) -> None:
        """A direct call is over: its answer has left, or an error is the answer."""
        client = call.client
        assert isinstance(client, ClientConnection)
        if relay.error is not None and not relay.begun:
            self._refuse(call, client, self._error(call, relay.error))
            return
        if relay.error is not None:
            call.code = relay.error.code
        self._policies.observe(call)
        client.direct_done(keep_alive=relay.keep_alive)

    def _refuse(self, call: Call, client: ClientConnection, error: GatewayError) -> None:
        response = reply.problem(call, error)
        raw = reply.as_bytes(call, response)
        call.status, call.bytes_out = response.status, len(raw)
        if client.transport is not None:
            client.transport.write(raw)
        self._policies.observe(call)
        client.direct_done(keep_alive=response.keep_alive is not False)

    def refused(self, request_id: str, error: GatewayError, peer: str) -> None:
        """What never became a request is counted and logged all the same."""
        call = Call(Head("", ""), peer, self._policies.snapshot())
        call.id, call.status, call.code = request_id, error.status, error.code
        self._policies.observe(call)

    # --- with a task ---

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its head to the last byte of its answer."""
        client = request.protocol
        assert isinstance(client, ClientConnection)
        call, client.begun = client.begun, None
        begun = call is not None
        if call is None:
            call = self._call(
                from_pairs(request.method, request.raw_path, request.raw_headers), client, request
            )
        call.request = request
        call.old = request.version < (1, 1)
        call.keep_alive = request.keep_alive
        try:
            response = await self._answer(call, begun=begun)
            await self._finish(call, response)
        except (ConnectionError, asyncio.CancelledError):
            call.status = 499  # the client left before its answer (nginx's word for it)
            raise
        finally:
            self._policies.observe(call)
        return response

    async def _answer(self, call: Call, *, begun: bool) -> web.StreamResponse:
        """The error wall: whatever goes wrong becomes problem+json, or has cut an answer that had begun."""
        try:
            if is_preflight(call.head):
                return await self._preflight(call)
            if not begun:
                self.begin(call)
            if call.route is None:
                return reply.empty(204)  # OPTIONS *
            return await call.route.target(call)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the one error wall
            return reply.problem(call, self._error(call, error))

    def _error(self, call: Call, error: Exception) -> GatewayError:
        """What the client is told. A bug of ours is logged, and never leaked."""
        if not isinstance(error, GatewayError):
            L.error("A bug in the gateway failed request %s", call.id, exc_info=error)
            error = InternalError()
        call.code = error.code
        return error

    # --- both ---

    def _call(self, head: Head, client: ClientConnection, request: web.BaseRequest | None) -> Call:
        call = Call(head, client.peer, self._policies.snapshot(), request, client)
        call.draining = self._policies.draining
        return call

    def begin(self, call: Call) -> None:
        """All that need not wait: match, verify, tenant, access, rate limit, size."""
        self._match(call, call.method)
        route = call.route
        if route is None:
            return
        if not route.public:
            head = call.head
            call.identity = identity = self._policies.verify(bearer(head.authorization))
            named = head.tenants
            if "tenant" in call.params:
                named = [*named, call.params["tenant"]]
            call.tenant = tenancy.resolve(identity, call.snapshot.tenants, named)
            access.require(route, call.method, identity)
            self._policies.limit(call.tenant)
        body.check(call)

    def _match(self, call: Call, method: str) -> None:
        head = call.head
        if head.ambiguous:
            raise BadRequest("A header's name or value can be read in two ways.", close=True)
        if head.codings and head.codings != ["chunked"]:
            raise BadRequest("The only transfer coding that is understood is chunked.", close=True)
        host, call.path, call.query = target.resolve(call.method, head.target, head.hosts)
        if call.path == "*":
            return
        call.route, call.params = call.snapshot.table.match(method, host, call.path)
        if not call.route.encoded_slash:
            paths.refuse_encoded_slash(call.path)
        strip = call.route.strip
        call.subpath = (call.path[len(strip) :] or "/") if strip else call.path

    async def _preflight(self, call: Call) -> web.Response:
        """CORS asks before authentication, by the method that is to come, and never reaches a backend."""
        assert call.request is not None
        self._match(call, call.head.asked)
        return await cors.preflight(call.route.cors if call.route else None, call.request)

    async def _finish(self, call: Call, response: web.StreamResponse) -> None:
        """Write the answer to its end, so that what is observed is what was sent."""
        if isinstance(response, reply.Sent):
            return
        request = call.request
        assert request is not None
        call.status = response.status
        reply.decorate(call, response)
        await response.prepare(request)
        await response.write_eof()
        call.bytes_out = response.body_length


def is_preflight(head: Head) -> bool:
    """Fetch standard: OPTIONS with an Origin and Access-Control-Request-Method."""
    return head.method == "OPTIONS" and bool(head.asked) and bool(head.origins)
