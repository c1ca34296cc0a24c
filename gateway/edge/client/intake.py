"""Turns what one client sends into requests: heads, and bodies whole or as streams.

Reading takes turns too. One read from a socket holds up to 256 KiB, libuv makes up to 32 of them before it
looks at another socket, and a read of tiny chunks takes a hundred times the time of one that is a single
piece. So after a large read the next one waits for another turn of the loop, and so does the rest of what
takes long to parse; meanwhile nothing more is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from gateway.call import ClientTunnel, ResponseWriter
from gateway.core.errors import GatewayError
from gateway.core.fairness.turns import Turns
from gateway.core.http.request_reader import Request, RequestReader
from gateway.edge.client.body import RequestStream
from gateway.edge.client.linger import Lingering
from gateway.edge.client.liveness import HalfClosed
from gateway.edge.client.memory import ConnectionMemory, RequestMemory
from gateway.edge.reading import LARGE, LARGE_COST, PausableReader, ReadTurns

# Reasons to read nothing at the moment; any of them is enough.
BODY, AHEAD, TURN = 1, 2, 4

_READ_AHEAD = 64 * 1024  # bytes that a client may send ahead while its request is served, and one read more
# Many clients send head and body in separate packets. A small body that is complete a moment later is handled
# as if it had come in one piece: without a stream, and to the backend in one write.
_SMALL_BODY = 64 * 1024  # bytes
_SMALL_BODY_TIME = 0.05  # seconds that its parts may take to come


class PendingBody:
    """A small body that a request waits for before it is served. request: that request. size: bytes of the
    body received so far. on_late(request, pieces): called when the wait is given up."""

    __slots__ = ("_on_late", "_pieces", "_timer", "request", "size")

    def __init__(self, request: Request, on_late: Callable[[Request, list[bytes]], None]) -> None:
        self.request = request
        self._on_late = on_late
        self._pieces: list[bytes] = []
        self.size = 0
        self._timer = asyncio.get_running_loop().call_later(_SMALL_BODY_TIME, self.stop_waiting)

    def add(self, piece: bytes) -> None:
        """Add a part of the body. The wait ends when the body is large, or the client waits for 100
        Continue."""
        self._pieces.append(piece)
        self.size += len(piece)
        head = self.request.head
        if head.expect or max(head.length, self.size) > _SMALL_BODY:
            self.stop_waiting()

    def complete(self, piece: bytes) -> bytes:
        """Returns the whole body, given its last part."""
        self._timer.cancel()
        return b"".join([*self._pieces, piece])

    def stop_waiting(self) -> None:
        """Have the request served with what has arrived; the rest follows as a stream."""
        self._timer.cancel()
        self._on_late(self.request, self._pieces)

    def cancel(self) -> None:
        """The connection ends."""
        self._timer.cancel()


class Intake(PausableReader):
    """Reads the requests of one connection; `ClientConnection` serves them.

    turns, reads: of the listener. memory: its budget for unfinished requests, None for any amount.
    busy: a request is being served, or waits for its turn; what comes after it is not read before that is
    over. request: the one being served. broken: its body cannot be read, nor what comes after.
    half_closed: the client sends no more. lingering: all responses are written, and what still comes is
    discarded. head_since: when the first byte of an incomplete head came. writer, tunnel: as in
    gateway.call.Client.
    """

    __slots__ = (
        "_body_size", "_content", "_discarding_since", "_memory", "_pending", "_reader", "_reads",
        "_rest_scheduled", "_turns", "broken", "busy", "half_closed", "head_since", "lingering", "request",
        "tunnel", "writer",
    )  # fmt: skip

    def __init__(self, turns: Turns, reads: ReadTurns, memory: RequestMemory | None = None) -> None:
        super().__init__()
        self._memory = ConnectionMemory(memory)
        self._body_size = 0  # of the request being served, where it came whole
        self._turns = turns
        self._reads = reads
        self._reader = RequestReader()
        self._content: RequestStream | None = None  # of the request being served, until its end has come
        self._pending: PendingBody | None = None
        self._rest_scheduled = False  # the unread rest of a received body waits for its turn
        self._discarding_since = 0.0  # since when the rest of a body is discarded, after the response
        self.busy = self.broken = False
        self.request: Request | None = None
        self.writer: ResponseWriter | None = None
        self.tunnel: ClientTunnel | None = None
        self.half_closed: HalfClosed | None = None
        self.lingering: Lingering | None = None
        self.head_since = 0.0

    # --- for the connection that serves them ---

    def _serve(self, request: Request, body: bytes, content: RequestStream | None) -> None:
        """Serve a request: with its whole body, or with a stream of it."""
        raise NotImplementedError

    def _refuse(self, error: GatewayError, request: Request | None = None) -> None:
        """Respond to what is no valid request. request: given when only its body is invalid."""
        raise NotImplementedError

    def _request_over(self, request: Request | None) -> None:
        """The rest of a body was discarded."""
        raise NotImplementedError

    def _holder(self, request: Request | None) -> str:
        """The tenant or the address that a request is charged to."""
        raise NotImplementedError

    def _close_transport(self) -> None:
        """Close the connection: nothing more comes, and no response is to be written."""
        raise NotImplementedError

    def linger(self) -> None:
        """Close the connection lingering: nothing more on it can be read."""
        raise NotImplementedError

    # --- bytes from the client ---

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: of requests, of a tunnel, or to be discarded."""
        if self.tunnel is not None:
            self.tunnel.from_client(data)
            return
        if len(data) >= LARGE:
            self.pause_reading(TURN)
            self._reads.later(self._resume_turn, LARGE_COST)
        if self.lingering is not None:
            self.lingering.discard(data)
            return
        if self.broken:
            return
        self._reader.feed(data)
        if self._rest_scheduled:
            return
        if self.busy:
            self._read_ahead()
        else:
            self._read_next()

    def _resume_turn(self) -> None:
        if not self._rest_scheduled:
            self.resume_reading(TURN)

    def _read_ahead(self) -> None:
        """Read while a request is served: more of its body, then what the client sent after it."""
        if self._content is not None:
            self._read_stream(self._content)
        if self._content is None and self._reader.held > _READ_AHEAD:
            self.pause_reading(AHEAD)
        if self._count_memory() is not None:  # nothing after the current request will be read
            self.broken = True
            self._reader.take()

    def _read_next(self) -> None:
        """Read while no request is served."""
        if self._pending is not None:
            self._read_small_body(self._pending.request)
        elif self._discarding_since:
            self._discard_rest()
        else:
            self._read_head()
        if self.busy and self._content is None and self._reader.held > _READ_AHEAD:
            self.pause_reading(AHEAD)  # after the request that has just begun

    def _schedule_rest(self, request: Request | None) -> None:
        """Leave the rest of a received body to a later turn. request: the body's, None when not known."""
        if not self._rest_scheduled:
            self._rest_scheduled = True
            self.pause_reading(TURN)
            self._turns.later(self._holder(request), self._read_rest)

    def _read_rest(self) -> None:
        self._rest_scheduled = False
        if self.transport is not None and self.lingering is None and not self.broken:
            if self.busy:
                self._read_ahead()
            else:
                self._read_next()
        self._resume_turn()

    def _read_head(self) -> None:
        """Serve the next request, if its head is complete."""
        reader = self._reader
        try:
            request = reader.read_head()
        except GatewayError as error:
            self._refuse(error)
            return
        if request is None:
            if reader.held:
                if not self.head_since:
                    self.head_since = monotonic()
                if (too_much := self._count_memory()) is not None:
                    self._refuse(too_much)
                    return
            if self.half_closed is not None:
                self._close_transport()
            return
        self.head_since = 0.0
        if reader.whole:
            self._serve(request, b"", None)
        else:
            self._read_small_body(request)

    def _read_small_body(self, request: Request) -> None:
        """Read what has arrived of a request's body. The request is refused where that fails."""
        reader, pending = self._reader, self._pending
        try:
            piece = reader.read_body()
        except GatewayError as error:
            self._refuse(error, request)
            return
        if reader.whole:
            self._pending = None
            self._serve(request, pending.complete(piece) if pending is not None else piece, None)
        elif self.half_closed is not None and not reader.has_more:
            self._close_transport()
        else:
            if pending is None:
                self._pending = pending = PendingBody(request, self._serve_stream)
            pending.add(piece)
            if self._pending is not None and (too_much := self._count_memory()) is not None:
                self._refuse(too_much, request)
                return
            if reader.has_more:
                self._schedule_rest(request)

    def _serve_stream(self, request: Request, pieces: list[bytes]) -> None:
        """Serve a request with its body as a stream: it is large, or slow."""
        self._pending = None
        self._content = content = RequestStream(self._pause_body, self._resume_body)
        for piece in pieces:
            content.feed(piece)
        self._serve(request, b"", content)

    def _pause_body(self) -> None:
        self.pause_reading(BODY)

    def _resume_body(self) -> None:
        self.resume_reading(BODY)
        if self._memory.size:
            self._count_memory()

    def _read_stream(self, content: RequestStream) -> None:
        """Read more of the body of the request being served. Where it cannot be read, its reader gets the
        error, and the connection closes after the response."""
        try:
            piece = self._reader.read_body()
        except GatewayError as error:
            self._break_body(content, error)
            return
        content.feed(piece)
        if (too_much := self._count_memory()) is not None:
            self._break_body(content, too_much)
        elif self._reader.whole:
            self._content = None
            content.end()
        elif self._reader.has_more:
            self._schedule_rest(self.request)

    def _break_body(self, content: RequestStream, error: GatewayError) -> None:
        self.broken = True
        self._content = None
        self._reader.take()
        if self.writer is not None:
            self.writer.close_after()
        content.fail(error.with_traceback(None))

    def _count_memory(self) -> GatewayError | None:
        """Count the memory held now; returns the error when it is too much."""
        size = self._reader.held + self._body_size
        if self._pending is not None:
            size += self._pending.size
        elif self._content is not None:
            size += self._content.waiting
        return self._memory.set(size, self._current_holder)

    def _current_holder(self) -> str:
        return self._holder(self._pending.request if self._pending is not None else self.request)

    def _discard_rest(self) -> None:
        """Discard the rest of the body of a request that has its response; then the next one is read."""
        try:
            self._reader.read_body()
        except GatewayError:
            self.linger()
        else:
            if self._reader.whole:
                self._discarding_since = 0.0
                self._request_over(None)
            elif self._reader.has_more:
                self._schedule_rest(None)
