"""The life of a request: a straight line from head to response, and the only error boundary of requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from gateway.call import Call, CallRoute, Delivery, Snapshot
from gateway.core.errors import (
    BadRequest,
    ClientLimit,
    Draining,
    GatewayError,
    InternalError,
    LoopDetected,
    MethodNotAllowed,
    NoRoute,
    forget_traces,
)
from gateway.core.http import request_target as target
from gateway.core.http.head import Head
from gateway.core.http.request_reader import Request
from gateway.core.http.tickets import MARK, without_tickets
from gateway.core.methods import KNOWN
from gateway.core.model import Identity
from gateway.core.policy import access
from gateway.core.policy.forwarding import client_key
from gateway.edge.client import body
from gateway.edge.client.body import RequestStream
from gateway.edge.client.connection import ClientConnection
from gateway.edge.response import cors, reply
from gateway.runtime.periodic import Boundary

L = logging.getLogger(__name__)


class Live(Protocol):
    """What has the live snapshot (config/live.py): another one after each change of the config."""

    @property
    def current(self) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class Policies:
    """What a life asks of the other rooms, as plain functions.

    live: has the live snapshot. known, peek: whose credential a head holds, where no route was found to ask
    (see `auth.chain.AuthenticationChain`). limit: count a call of a tenant (TenantLimit). limit_client: count
    one of a client that is not known, by its address (ClientLimit); False of both: the one of the same name
    with `later` can tell. limit_client_now: the same for a call that cannot wait. count, log, keep: a call
    that has ended. check_via: a request's Via (LoopDetected).
    """

    live: Live
    known: Callable[[Head], Identity | None]
    peek: Callable[[Head], Identity | None]
    limit: Callable[[Call], bool]
    limit_later: Callable[[Call], Awaitable[None]]
    limit_client: Callable[[Call], bool]
    limit_client_later: Callable[[Call], Awaitable[None]]
    limit_client_now: Callable[[Call], None]
    count: Callable[[Call], None]
    log: Callable[[Call], None]
    keep: Callable[[Call], None]
    check_via: Callable[[Sequence[str]], None]


class ErrorBoundary:
    """The only error boundary of requests: an error of ours is kept for the client, a bug is logged and
    becomes one. What is no error (a client that left, a cancellation) passes. A context manager, because
    `with` costs a request less than a call.

    error: what is to be the response, None when nothing went wrong.
    """

    __slots__ = ("_call", "error")

    def __init__(self, call: Call) -> None:
        self._call = call
        self.error: GatewayError | None = None

    def __enter__(self) -> ErrorBoundary:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None or isinstance(error, ConnectionError) or not isinstance(error, Exception):
            return False
        if not isinstance(error, GatewayError):
            L.error("A bug in the gateway failed request %s", self._call.id, exc_info=error)
            forget_traces(error)
            error = InternalError()
        self._call.code = error.code
        self.error = error
        forget_traces(error)
        return True


class Life:
    """Serves each request of the public listener: without a task where nothing has to be waited for, else in
    one. Both begin in `begin`, within the same error boundary.

    inside: the calls that have begun and not ended. drained: those that the drain ended, which is what is
    logged of them. draining: the gateway is about to end, and connections should.
    """

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self.inside: set[Call] = set()
        self.drained: set[Call] = set()
        self.draining = False
        self._observing = Boundary("counting and logging a call")

    def serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: RequestStream | None
    ) -> None:
        """One request, with all of its body or (content) with a stream of it: respond at once, or by
        callbacks; else in a task."""
        call = self._call(client, request, request_body, content)
        response: web.StreamResponse | None = None
        with ErrorBoundary(call) as boundary:
            if cors.is_preflight(call):
                response = self._preflight(call)
            elif self.begin(call):
                if call.route is None:
                    response = reply.empty(204)  # OPTIONS *
                elif content is None:
                    call.on_end = self._ended
                    if call.route.target.try_serve(call):
                        return
        if boundary.error is not None:
            response = reply.problem(call, boundary.error)
        if response is not None:
            reply.finish(call, response, self.observe)
            return
        call.on_end = None
        client.run(self._serve(call, client))

    def drain_begins(self) -> None:
        """From now on connections end with the response that they wait for."""
        self.draining = True

    def is_draining(self) -> bool:
        """See `Call.draining`."""
        return self.draining

    def _ended(self, call: Call, delivery: Delivery) -> None:
        """A call without a task is over: its response has left, or an error is the response."""
        client = call.client
        assert client is not None
        error = delivery.error
        if error is not None:
            call.code = error.code
            if not delivery.begun:
                reply.finish(call, reply.problem(call, error), self.observe)
                return
        self.observe(call)
        client.done(keep_alive=delivery.keep_alive)

    async def _serve(self, call: Call, client: ClientConnection) -> None:
        """What has to wait: for an issuer of tokens, a seat, a connection, the store, the rest of a body."""
        try:
            response = await self._respond(call, client)
        except (ConnectionError, asyncio.CancelledError):
            response = self._abandoned(call)
        reply.finish(call, response, self.observe)

    def refused(self, error: GatewayError, peer: str, request: Request | None) -> bytes:
        """What never became a request is counted and logged all the same, with what could be read of it."""
        if request is not None:
            call = self._lost(request, peer)
        else:
            call = Call("", "", Head(), peer, self._policies.live.current)
        call.status, call.code = error.status, error.code
        self._let_read(call, call.method)
        with suppress(ClientLimit):  # this one has its response already; the next one is refused
            self._policies.limit_client_now(call)
        self.observe(call)
        fields = cors.headers(call.cors, call.origin) if call.cors is not None else ()
        return reply.refusal(error, call.id, fields)

    def holder(self, request: Request, peer: str) -> str:
        """The holder of a request, as far as that costs nothing: the tenant of a known token, else the
        client's address."""
        identity = self._policies.peek(request.head)
        if identity is not None:
            return f"tenant {identity.tenant.value}"
        return client_key(peer, request.head.forwarded, self._policies.live.current.trusted)

    def gone(self, request: Request, peer: str) -> None:
        """A client left before its request had its turn: it is counted and logged as any that left."""
        self.sent_on(request, peer, 499)

    def sent_on(self, request: Request, peer: str, status: int) -> str:
        """What a listener answers itself is counted and logged as any request; gives its id."""
        call = self._lost(request, peer)
        call.status = status
        self.observe(call)
        return call.id

    def _lost(self, request: Request, peer: str) -> Call:
        """A call that is not served, for what is counted and logged of it."""
        snapshot = self._policies.live.current
        return Call(request.method, request.target, request.head, peer, snapshot, old=request.old)

    async def _respond(self, call: Call, client: ClientConnection) -> web.StreamResponse:
        """The target's response, or the problem that takes its place."""
        route = call.route
        assert route is not None
        with ErrorBoundary(call) as boundary:
            if not call.authorized:
                await self._authorize_later(call, route, client)
            return await route.target.serve(call)
        assert boundary.error is not None
        if client.transport is None or client.transport.is_closing():  # it had begun, and is cut
            return reply.Sent(call.status or 499, keep_alive=False)
        return reply.problem(call, boundary.error)

    async def _authorize_later(self, call: Call, route: CallRoute, client: ClientConnection) -> None:
        """What `begin` could not do at once. The wait is cancelled when the client leaves, or when the time
        to drain is over."""
        task = asyncio.current_task()
        assert task is not None
        client.when_gone(task.cancel)
        try:
            if call.uncounted:
                await self._policies.limit_client_later(call)
            if route.public:
                body.check(call)
                return
            assert route.authentication is not None
            identity = call.identity
            if identity is None:
                identity = await route.authentication.authenticate(call)
            if call.tenant is not None or not self._authorize(call, route, identity):
                await self._policies.limit_later(call)
                body.check(call)
        finally:
            client.when_gone(None)

    def _call(
        self, client: ClientConnection, request: Request, body: bytes, content: RequestStream | None
    ) -> Call:
        policies = self._policies
        call = Call(  # no keywords: they cost more
            request.method,
            request.target,
            request.head,
            client.peer,
            policies.live.current,
            content,
            client,
            body,
            request.old,
            request.keep_alive,
            self.is_draining,
        )
        self.inside.add(call)
        return call

    def observe(self, call: Call) -> None:
        """The call has ended: it is counted and logged, once."""
        self.inside.discard(call)
        if self.drained and call in self.drained:
            call.code = Draining.code
        with self._observing:  # its client has its response, and may want the next one
            self._policies.count(call)
            self._policies.log(call)
            self._policies.keep(call)

    def _abandoned(self, call: Call) -> web.StreamResponse:
        """What becomes of a call that was given up: its client left, or the time to drain is over."""
        if call.code != Draining.code:
            call.status = 499  # the client left before its response (nginx's word for it)
        elif not call.status:
            call.status = Draining.status
            if call.client is not None and call.client.transport is not None:
                return reply.problem(call, Draining(close=True))
        return reply.Sent(call.status, keep_alive=False)

    def begin(self, call: Call) -> bool:
        """All that need not wait: loops, match, identity, tenant, access, limits, size. Raises GatewayError.

        False when only `_authorize_later` can tell who calls, or whether a shared limit lets it: what comes
        after that is still to be done.
        """
        try:
            if call.head.via:
                self._policies.check_via(call.head.via)
            self._match(call, call.method)
            if call.method not in KNOWN and call.route is not None:
                access.require_listed(call.route, call.method)
        except GatewayError as error:
            if call.route is None and isinstance(error, BadRequest | LoopDetected):
                self._let_read(call, call.method)
            self._count_refused(call)
            raise
        route = call.route
        if route is None:
            self._policies.limit_client_now(call)
        elif route.public:
            if call.query and MARK in call.query:  # it is not used up here, and no backend's to use
                call.query = without_tickets(call.query)
            if not self._policies.limit_client(call):
                call.uncounted = True
                return False
            body.check(call)
            call.authorized = True
        else:
            authentication = route.authentication
            assert authentication is not None
            identity = authentication.try_authenticate(call)
            if identity is None:
                return False
            return self._authorize(call, route, identity)
        return True

    def _authorize(self, call: Call, route: CallRoute, identity: Identity) -> bool:
        """All that depends on who calls: tenant, access, limits, size. False: from the limits on, all is
        still to be done. Raises GatewayError."""
        call.identity = identity
        named = call.head.tenants
        if "tenant" in call.params:
            named = [*named, call.params["tenant"]]
        call.tenant = access.resolve_tenant(identity, call.snapshot.tenants, named)
        access.require(route, call.method, identity)
        if not self._policies.limit(call):
            return False
        body.check(call)
        call.authorized = True
        return True

    def _count_refused(self, call: Call) -> None:
        """What is refused before anybody is asked for a token (no such path, no such method, a bad request)
        counts as a call of nobody known, unless it came with a token that is. Raises ClientLimit."""
        if self._policies.known(call.head) is None:
            self._policies.limit_client_now(call)

    def _let_read(self, call: Call, method: str) -> None:
        """What is refused before its route is known, by a page that the route would let read it, can be read
        by that page. What it says is our own. Where not even the path is known, no page can read it."""
        if not call.head.origins:
            return
        try:
            host, path = target.likely(call.target, call.head.hosts)
            call.cors = call.snapshot.table.match(method, host, path)[0].cors
        except MethodNotAllowed as error:
            call.cors = error.cors
        except GatewayError:
            return

    def _match(self, call: Call, method: str) -> None:
        head = call.head
        host, call.path, call.query = target.resolve(method, call.target, head.hosts)
        if call.path == "*":
            return
        try:
            call.route, call.params = call.snapshot.table.match(method, host, call.path)
        except MethodNotAllowed as error:
            call.cors = error.cors  # so that a page can read that it is 405
            raise
        except NoRoute:
            call.route = call.snapshot.own_route(method, call.path)
        call.cors = call.route.cors
        if not call.route.encoded_slash:
            target.refuse_encoded_slash(call.path)
        strip = call.route.strip
        call.subpath = (call.path[len(strip) :] or "/") if strip else call.path

    def _preflight(self, call: Call) -> web.Response:
        """CORS asks before authentication, by the method that is to come, and never reaches a backend. A
        browser sends no token with it, so it counts for its address, but apart from calls without a token."""
        try:
            self._match(call, call.head.asked)
        except BadRequest:
            self._let_read(call, call.head.asked)
            raise
        finally:
            self._policies.limit_client_now(call)
        methods: list[str] = []
        if call.route is not None:  # only OPTIONS * has none
            host = target.host_of(call.head.hosts[0])
            methods = call.snapshot.table.methods(call.route, host, call.path)
        return cors.preflight(call.cors, call, methods)
