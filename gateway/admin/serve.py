"""The admin listener serves its aiohttp application on connections of our own.

So its clients meet the public side's limits and its one strict reader: what a head may take in time and in
bytes, what may be sent ahead, how long a response may wait to be read. aiohttp's own server has none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from time import perf_counter
from typing import Any, cast

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.admin import browsers, guard
from gateway.call import Call, CallRoute, Snapshot, Target, new_id
from gateway.core.errors import GatewayError, InternalError, Saturated
from gateway.core.http import request_target
from gateway.core.http.head import check_expect
from gateway.core.http.request_reader import Request
from gateway.core.methods import SAFE
from gateway.core.model import Route, Timeouts
from gateway.edge.client import body
from gateway.edge.client.body import RequestStream
from gateway.edge.client.connection import ClientConnection
from gateway.edge.response import reply
from gateway.edge.response.head import REQUEST_ID
from gateway.runtime.periodic import Boundary

L = logging.getLogger("asab.web.al")
_NOTICE = 25  # asab.log.LOG_NOTICE
_PAUSE = 0.5  # seconds at most between two pages
_CALL = web.RequestKey("call", Call)
_BODY = web.RequestKey("body", bytes)
_REFUSED = frozenset({401, 403, 429})
# What a body may have, in bytes and in time, and how long a stream may stand still, as a route says it;
# nothing else of this one is used.
_ROUTE: CallRoute = Route(
    "admin", "/", "admin", cast(Target, None), timeouts=Timeouts(body=10.0), body_limit=64 * 1024
)
_CONFIG = "/admin/v1/config"  # and `/admin/v1/config:check` and the like: what is sent there may be a config
_CONFIG_ROUTE: CallRoute = Route(
    "config", "/", "admin", cast(Target, None), timeouts=Timeouts(body=30.0), body_limit=16 * 1024 * 1024
)
_SESSION_ROUTE: CallRoute = Route(  # nobody knows whose it is, and a ticket comes with its head
    "session", "/", "admin", cast(Target, None), timeouts=Timeouts(body=2.0), body_limit=4 * 1024
)
_CONFIRM = f"{_CONFIG}:confirm"
_CHANGES = 4  # requests that change something, at a time, once their body has come
_LOOKS = 4  # of those that change nothing but may send a config too: who only looks keeps no change waiting
_LARGE = 8  # bodies of changes that may hold a config, at a time: each is memory. Of looks, as many as _LOOKS
_SMALL_BODY = 64 * 1024  # bytes of one that keeps no other from coming
# Of those that show a ticket. Nobody knows who they are yet: beyond it they are refused at once, because each
# that waits has one of the few connections.
_SIGNING_IN = 16
_LONGEST = 2000  # characters of a field that a client chooses
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Streamed(web.Response):
    """A page that comes bit by bit: what writes it runs once the page's turn is over, so that others have
    theirs. make: gets the call, and gives what `Stream.end` gives, or a whole response; what it raises before
    either is one, too."""

    def __init__(self, make: Callable[[Call], Awaitable[web.StreamResponse]]) -> None:
        super().__init__()
        self.make = make


class Slow(Streamed):
    """A page that reads, parses or compares much: made once its turn is over, one of such at a time. What
    others ask for, probes and metrics among them, does not wait for it."""


class AdminService:
    """Serves the requests of the admin listener (see edge.client.connection.Service) by one web.Application,
    in a task each. draining: whether connections should end. snapshot: the live one."""

    def __init__(
        self, app: web.Application, draining: Callable[[], bool], snapshot: Callable[[], Snapshot]
    ) -> None:
        app.middlewares.append(self._with_body)  # behind the guard
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        self._draining = draining
        self._snapshot = snapshot
        self._boundary = Boundary("a page of the admin listener")
        self._streaming = Boundary("a stream of the admin listener", reraises=(ConnectionError, GatewayError))
        self._turn, self._turn_of_slow = asyncio.Lock(), asyncio.Lock()
        self._changing = asyncio.Semaphore(_CHANGES)
        self._looking = asyncio.Semaphore(_LOOKS)
        self._signing_in = asyncio.Semaphore(_SIGNING_IN)
        self._large = asyncio.Semaphore(_LARGE)
        self._large_looks = asyncio.Semaphore(_LOOKS)

    async def setup(self) -> None:
        """Freeze the application; no route or middleware can be added from now on."""
        await self._runner.setup()

    async def cleanup(self) -> None:
        """Let the application end what it has started."""
        await self._runner.cleanup()

    def serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: RequestStream | None
    ) -> None:
        """Write the response, in a task. A body that no page takes is discarded (see
        ClientConnection.done)."""
        client.run(self._serve(client, request, request_body, content))

    def holder(self, request: Request, peer: str) -> str:
        """Here only the address counts."""
        return peer

    def gone(self, request: Request, peer: str) -> None:
        """Log a request whose client left before its turn."""
        _log(peer, request.method, request.target, 499, 0.0)

    def sent_on(self, request: Request, peer: str, status: int) -> str:
        """Log a request that its listener sent on; gives its id."""
        _log(peer, request.method, request.target, status, 0.0)
        return new_id()

    def refused(self, error: GatewayError, peer: str, request: Request | None) -> bytes:
        """Log what never became a request; gives the whole response."""
        method, path = (request.method, request.target) if request is not None else ("", "")
        _log(peer, method, path, error.status, 0.0)
        return reply.refusal(error, new_id())

    async def _serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: RequestStream | None
    ) -> None:
        began = perf_counter()
        call = Call(
            request.method,
            request.target,
            request.head,
            client.peer,
            self._snapshot(),
            content,
            client,
            request_body,
            old=request.old,
            keep_alive=request.keep_alive,
            draining=self._draining,
        )
        response: web.StreamResponse | None = None
        with self._boundary:
            if request.target in guard.PROBES:
                response = await self._respond(call)
            else:
                response = await self._page(call)
        if isinstance(response, Slow):
            response = await self._slowly(call, response)
        elif isinstance(response, Streamed):
            response = await self._stream(call, response)
        if not isinstance(response, web.Response | reply.Sent):
            response = reply.problem(call, InternalError())
        if isinstance(response, web.Response):
            for name, value in browsers.HEADERS.items():
                response.headers.setdefault(name, value)
        call.id = response.headers.get(REQUEST_ID, call.id)
        status = response.status

        def observe(call: Call) -> None:
            _log(call.peer, call.method, call.target, status, perf_counter() - began)

        reply.finish(call, response, observe)

    async def _stream(self, call: Call, page: Streamed) -> web.StreamResponse:
        """Write a page that comes bit by bit, until it ends or its client leaves."""
        call.route = _ROUTE
        try:
            with self._streaming:
                return await _made(call, page)
        except (ConnectionError, GatewayError, asyncio.CancelledError):
            pass  # its client left, or takes nothing any more
        return reply.Sent(call.status or 499, keep_alive=False)

    async def _slowly(self, call: Call, page: Slow) -> web.StreamResponse | None:
        """A page that has a turn of its own. None after a bug, which is logged."""
        with self._boundary:
            return await _in_turn(self._turn_of_slow, _made(call, page))
        return None

    async def _page(self, call: Call) -> web.StreamResponse:
        """What changes something may wait long, for a disk or a process: it keeps no page waiting."""
        response = self._respond(call)
        return await (_in_turn(self._turn, response) if call.method in SAFE else response)

    async def _respond(self, call: Call) -> web.StreamResponse:
        """The response of the application."""
        server, task, client = self._runner.server, asyncio.current_task(), call.client
        assert server is not None and task is not None and client is not None
        try:
            _, path, query = request_target.resolve(call.method, call.target, call.head.hosts)
            check_expect(call.head, old=call.old)
        except GatewayError as error:
            return guard.problem(error)
        message = RawRequestMessage(
            call.method,
            call.target,
            HttpVersion10 if call.old else HttpVersion11,
            _headers(call),
            (),
            not call.keep_alive,
            None,
            upgrade=False,
            chunked=False,
            url=URL.build(path=path, query_string=query, encoded=True),
        )
        protocol = cast(Any, _Protocol(client.transport, call.peer))
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        page_request = server.request_factory(message, EMPTY_PAYLOAD, protocol, writer, task)
        page_request[_CALL], page_request[_BODY] = call, b""
        began = perf_counter()
        response = await self._handled(page_request)
        if call.method not in SAFE and response.status in _REFUSED:  # such have half of the loop at most
            await asyncio.sleep(min(perf_counter() - began, _PAUSE))
        return response

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._runner.server is not None
        try:
            return await self._runner.server.request_handler(request)
        except web.HTTPException as error:
            return error

    @web.middleware
    async def _with_body(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Read the body of what may change something, once the guard has let it in; only then it takes the
        place of others. Raises GatewayError."""
        if request.method in SAFE or request.match_info.http_exception is not None:
            return await handler(request)
        call = request[_CALL]
        call.route = _route_of(request.path)
        body.check(call)
        async with self._reading(request.path, body.announced_length(call)):
            request[_BODY] = await body.read(call)
            async with self._lane(request.path):
                return await handler(request)

    def _reading(self, path: str, length: int | None) -> AbstractAsyncContextManager[None]:
        """What bounds bodies, which come as slowly as a client likes. Raises Saturated: none waits for those.
        length: as announced, None if it is not."""
        if path == guard.SESSION:
            return _at_once(self._signing_in, "sign in at the moment. Try again, or with the token itself.")
        if length is not None and length <= _SMALL_BODY:
            return nullcontext()
        places = self._large_looks if path in guard.LOOKS else self._large
        return _at_once(places, "send a large body at the moment. Try again.")

    def _lane(self, path: str) -> AbstractAsyncContextManager[None]:
        """What bounds the work for a body that has come. A confirmation is in time or in vain: it waits for
        nobody."""
        if path in (guard.SESSION, _CONFIRM):
            return nullcontext()
        return self._looking if path in guard.LOOKS else self._changing


def _route_of(path: str) -> CallRoute:
    """What the body may have."""
    if path == guard.SESSION:
        return _SESSION_ROUTE
    is_config = path == _CONFIG or (path.startswith(f"{_CONFIG}:") and path != _CONFIRM)
    return _CONFIG_ROUTE if is_config else _ROUTE


def _at_once(places: asyncio.Semaphore, too_many: str) -> AbstractAsyncContextManager[None]:
    """One of the places. Raises Saturated where none is free."""
    if places.locked():
        raise Saturated(f"Too many {too_many}")
    return places


async def _made(call: Call, page: Streamed) -> web.StreamResponse:
    """What a page comes to. Raises GatewayError where its response has begun."""
    try:
        return await page.make(call)
    except GatewayError as error:
        if call.status:
            raise
        return guard.problem(error)


async def _in_turn(
    turn: asyncio.Lock, response: Coroutine[Any, Any, web.StreamResponse]
) -> web.StreamResponse:
    """Pages may be long: one is made at a time, and then the event loop is left alone for as long as that
    took. So a client that asks for them without end has half of it at most, and probes do not wait."""
    try:
        async with turn:
            began = perf_counter()
            try:
                return await response
            finally:
                await asyncio.sleep(min(perf_counter() - began, _PAUSE))
    finally:
        response.close()  # where its client left before its turn


def body_of(request: web.Request) -> bytes:
    """The body of a request that may change something."""
    return request[_BODY]


class _Protocol:
    """What a request of aiohttp's needs of its connection."""

    ssl_context = None

    def __init__(self, transport: asyncio.Transport | None, peer: str) -> None:
        self.transport = transport
        self.peername = (peer, 0) if peer else None
        self.sockname = transport.get_extra_info("sockname") if transport is not None else None


def _headers(call: Call) -> CIMultiDictProxy[str]:
    """All header lines, as they came, but for two: the Host is the one that the request is for, which in
    HTTP/1.0 the target alone may name; and Expect is checked already, for aiohttp would write the 100 itself,
    on a connection that it does not have."""
    found = CIMultiDict(call.headers)
    found.popall(hdrs.EXPECT, None)
    found.popall(hdrs.HOST, None)
    for host in call.head.hosts:
        found.add(hdrs.HOST, host)
    return CIMultiDictProxy(found)


def _log(peer: str, method: str, path: str, status: int, seconds: float) -> None:
    """Logged where [logging] asks for notices."""
    L.log(_NOTICE, "%s %s %s %d %.1f ms", peer, method, path[:_LONGEST], status, 1000 * seconds)
