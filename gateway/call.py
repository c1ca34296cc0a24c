"""Call: one request's life, and what is known about it so far."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import GatewayError
from gateway.core.http.head import Head
from gateway.core.model import CorsRule, Identity, Route, Tenant, WebSocketRule
from gateway.core.policy.budget import Held
from gateway.core.policy.certificates import Name
from gateway.core.policy.forwarding import is_trusted
from gateway.core.policy.limits import Fields
from gateway.core.routing import snapshot as compiled
from gateway.runtime.loop_slices import LoopSlice

if TYPE_CHECKING:
    from aiohttp import web  # commands that only compile a config need not wait for its import


class Target(Protocol):
    """What answers the requests of a route: a backend, the document store, the front page."""

    def try_serve(self, call: Call) -> bool:
        """Serve a call that came whole, if nothing has to be waited for: at once, or by callbacks.

        True: the call is on its way, and ends by `call.on_end`. False: nothing was done, and `serve` is to
        do it. Raises GatewayError, which becomes the response.
        """
        ...

    async def serve(self, call: Call) -> web.StreamResponse:
        """Serve any call; may wait. Gives the response, or what says that it was sent (`reply.Sent`). Raises
        GatewayError; ConnectionError or CancelledError when the client left."""
        ...


class Authentication(Protocol):
    """What tells who makes the calls of a route that is not public."""

    def try_authenticate(self, call: Call) -> Identity | None:
        """The identity, where that needs no waiting; None where only `authenticate` can tell. Raises
        Unauthenticated, ClientLimit."""
        ...

    async def authenticate(self, call: Call) -> Identity:
        """The identity of a call of which `try_authenticate` could not tell it, or (later, while its response
        is a stream) whether its credential is still good. May wait. Raises Unauthenticated."""
        ...


class Signer(Protocol):
    """Tells a backend who calls in a form that it can check: header lines."""

    def lines(self, identity: Identity | None, backend: str) -> bytes:
        """For the next requests of this identity (None: nobody) to the backend of this name."""
        ...

    def bound(self, identity: Identity | None, backend: str, method: str, target: str) -> bytes:
        """For this request alone. target: path and query as the backend gets them."""
        ...


CallRoute = Route[Target, Authentication]
Snapshot = compiled.Snapshot[Target, Authentication]


class Delivery(Protocol):
    """What became of a response that was written by callbacks.

    error: why it was not completed, None when it was. begun: whether some of it has been written, so that no
    other response can follow. keep_alive: whether the connection can carry another request.
    """

    @property
    def error(self) -> GatewayError | None: ...
    @property
    def begun(self) -> bool: ...
    @property
    def keep_alive(self) -> bool: ...


class ResponseWriter(Protocol):
    """A response that is written to a client's connection by callbacks: what others call on it.

    begun: bytes of it have left, so an error can only cut the connection. endless: it has no end of its own
    (an event stream, a WebSocket), so a drain does not wait for it.
    """

    @property
    def begun(self) -> bool: ...
    @property
    def endless(self) -> bool: ...

    def is_stream(self) -> bool:
        """Whether it is, or may become, a stream without end: its client has left once it ends its side."""
        ...

    def resume(self) -> None:
        """The client has taken what was written; more may be."""
        ...

    def close_after(self) -> None:
        """The connection cannot be kept alive after this response."""
        ...

    def client_lost(self) -> None:
        """The connection is gone."""
        ...

    def leave_off(self) -> None:
        """The gateway drains: end an endless response where its client understands the end."""
        ...

    def give_up(self, error: GatewayError) -> None:
        """The request cannot be completed: the error is the response, or the connection is cut."""
        ...

    def cut(self) -> None:
        """End the connection now; `client_lost` follows."""
        ...


class ClientTunnel(ResponseWriter, Protocol):
    """What a connection carries that is no longer HTTP. It gets all bytes that the client sends."""

    def from_client(self, data: bytes) -> None:
        """Bytes that the client sent."""
        ...


class Certificate(Protocol):
    """A client's certificate, verified with its connection (edge/tls/client_certificate.py).

    fingerprint: SHA-256 of it. begins, ends: when it is valid, in seconds since the epoch. lines: the header
    lines that tell a backend of it. is_current: what it was verified with has not changed since. tls: the
    section [tls:NAME] that has verified it.
    """

    fingerprint: str
    tls: str
    names: tuple[Name, ...]
    begins: float
    ends: float
    lines: bytes

    @property
    def is_current(self) -> bool: ...


class Client(Protocol):
    """The client's connection, as the code that serves its call sees it.

    transport: None once it is gone. writer: the response that is being written by callbacks, None when none
    is. tunnel: what the connection carries once it is no longer HTTP. writing_paused: what was written waits
    for the client to read. scheme: https where the connection has TLS, else http. fields: header lines of
    each response. certificate: the client's, None when it showed none.
    """

    transport: asyncio.Transport | None
    scheme: str
    fields: bytes

    @property
    def certificate(self) -> Certificate | None: ...
    @property
    def writer(self) -> ResponseWriter | None: ...
    @property
    def tunnel(self) -> ClientTunnel | None: ...
    @property
    def writing_paused(self) -> bool: ...
    @property
    def can_keep_alive(self) -> bool:
        """Whether anything may follow the request in hand."""
        ...

    def done(self, *, keep_alive: bool, expected: bool = True) -> None:
        """The request in hand has its response (or its client is gone). keep_alive: the response lets the
        connection go on. expected: the client expects its end, so it may be closed at once if all of the
        request has come."""
        ...

    def attach(self, writer: ResponseWriter) -> None:
        """Let this writer write the current response, and call it when the client reads, or leaves."""
        ...

    def detach(self, writer: ResponseWriter) -> None:
        """The writer is done. Nothing happens when it is not the one that is attached."""
        ...

    def when_gone(self, callback: Callable[[], object] | None) -> None:
        """Have it called when the client leaves while no writer is attached; None: nothing any more."""
        ...

    def cancel_call(self) -> None:
        """Do to the call in hand what is done when the client leaves while no writer is attached."""
        ...

    def begin_tunnel(self, tunnel: ClientTunnel) -> bytes:
        """From now on the connection is the tunnel's. Gives the bytes that came behind the request."""
        ...


class Content(Protocol):
    """A body as it comes (edge/client/body.py). fed: bytes that have come. has_ended: all of it
    has."""

    fed: int

    @property
    def has_ended(self) -> bool: ...
    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises GatewayError when it is broken, ConnectionError when the
        client left."""
        ...

    def fail(self, error: Exception) -> None:
        """Its reader gets this error, and nothing of it is read any more."""
        ...


_ID_BYTES = 16
_random = b""
_random_at = 0


def new_id() -> str:
    """A request id: 16 random bytes in hex. The system is asked for 256 of them at once (a call each would
    be 7 % of a proxied request, measured)."""
    global _random, _random_at
    at = _random_at
    if at == len(_random):
        _random, at = os.urandom(256 * _ID_BYTES), 0
    _random_at = at + _ID_BYTES
    return _random[at:_random_at].hex()


_valid_id = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII).fullmatch


def _given_id(head: Head, peer: str, snapshot: Snapshot) -> str:
    """The id that a trusted proxy gave the request; "" when there is none that is one word."""
    if len(head.ids) != 1 or not _valid_id(head.ids[0]) or not is_trusted(peer, snapshot.trusted):
        return ""
    return head.ids[0]


def _never() -> bool:
    return False


class Call:
    """What is known about a request. Made from a head and a peer.

    content: the body as it comes, None when the request came whole; then body is all of it.
    target: of the request line, as it came. peer: address, "" for a unix socket. old: the client speaks
    HTTP/1.0. keep_alive: its connection may go on after this. client_fields: header lines of the response
    that its connection asks for. draining: whether the gateway is about to end.
    Found on the way, in this order: path and query (canonical path, query byte for byte), route, cors (the
    route's; of a 405 the path's), params (decoded), subpath (the path that the target sees), identity,
    tenant, limit_fields (header fields of the response that tell the status of limits), authorized (nothing
    about who calls, or whether it may, is still to be asked), uncounted (the limit of its client's address is
    still to be asked), held (the memory of its body, where the
    target counts it), slice (its share of the event loop's time, where the target needs much). on_end: called
    once, when a call that `Target.try_serve` took is over.
    Kept for the log: status, code, address (the backend's, tried last), bytes_in, bytes_out, queue_s,
    backend_s.
    """

    __slots__ = (
        "address",
        "authorized",
        "backend_s",
        "body",
        "bytes_in",
        "bytes_out",
        "client",
        "client_fields",
        "code",
        "content",
        "continued",
        "cors",
        "draining",
        "head",
        "held",
        "id",
        "identity",
        "keep_alive",
        "limit_fields",
        "method",
        "old",
        "on_end",
        "params",
        "path",
        "peer",
        "query",
        "queue_s",
        "received_at",
        "route",
        "slice",
        "snapshot",
        "started",
        "status",
        "subpath",
        "target",
        "tenant",
        "uncounted",
    )

    def __init__(
        self,
        method: str,
        target: str,
        head: Head,
        peer: str,
        snapshot: Snapshot,
        content: Content | None = None,
        client: Client | None = None,
        body: bytes = b"",
        old: bool = False,
        keep_alive: bool = True,
        draining: Callable[[], bool] = _never,
    ) -> None:
        self.id = (head.ids and _given_id(head, peer, snapshot)) or new_id()
        self.started = time.perf_counter()
        self.received_at = time.time()
        self.head = head
        self.method = method
        self.target = target
        self.peer = peer
        self.snapshot = snapshot
        self.content = content
        self.continued = False
        self.body = body
        self.client = client
        self.client_fields = client.fields if client is not None else b""
        self.old = old
        self.keep_alive = keep_alive
        self.path = ""
        self.query = ""
        self.subpath = ""
        self.route: CallRoute | None = None
        self.cors: CorsRule | None = None
        self.params: Mapping[str, str] = {}
        self.identity: Identity | None = None
        self.authorized = False
        self.uncounted = False
        self.tenant: Tenant | None = None
        self.limit_fields: Fields = ()
        self.held: Held | None = None
        self.slice: LoopSlice | None = None
        self.draining = draining
        self.on_end: Callable[[Call, Delivery], None] | None = None
        self.status = 0
        self.code = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.queue_s = 0.0
        self.backend_s = 0.0
        self.address = ""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """All headers of the request, read anew: for the few calls that need more than their head says."""
        found: CIMultiDict[str] = CIMultiDict()
        for line in self.head.raw.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            found.add(name, value.strip(" \t"))
        return CIMultiDictProxy(found)

    @property
    def waits_for_word(self) -> bool:
        """Whether the client may be holding its body back until it is told to go on (RFC 9110 section
        10.1.1). Then nobody knows what comes next: that body, or another request."""
        content = self.content
        if content is None or not self.head.expect or self.old or self.continued:
            return False
        return not content.fed

    @property
    def forwarded(self) -> Sequence[tuple[str, str]]:
        """The X-Forwarded-* lines that count: those of a trusted proxy (see core/policy/forwarding)."""
        said = self.head.forwarded
        return said if said and is_trusted(self.peer, self.snapshot.trusted) else ()

    @property
    def websocket(self) -> WebSocketRule | None:
        """The route's rule when this request is to become a WebSocket. Any other Upgrade, and one on a route
        without the rule, is ignored (RFC 9110 section 7.8)."""
        rule = self.route.websocket if self.route is not None else None
        if rule is None or self.old or self.method != "GET" or self.head.upgrades != ["websocket"]:
            return None
        return rule if "upgrade" in self.head.connection else None

    @property
    def origin(self) -> str:
        """The value of Origin, "" without exactly one."""
        origins = self.head.origins
        return origins[0] if len(origins) == 1 else ""
