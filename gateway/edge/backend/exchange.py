"""One conversation with a backend, driven by the bytes that come: no task, no future.

The request goes out, the response's head is checked before use (core/http/response_head.py), its body is
taken apart by its framing and handed to a Sink. The connection is kept only when the response ended exactly
where it said, nothing came after it, and the whole request was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gateway.core.errors import BackendMalformed, GatewayError, InternalError
from gateway.core.http import response_head
from gateway.core.http.chunks import MAX_WORK, ChunkedReader
from gateway.core.http.response_head import ResponseHead
from gateway.core.model import Timeouts
from gateway.edge.backend import faults
from gateway.edge.backend.connection import USER, Connection

_MAX_INTERIM = 16
_END_OF_HEAD = b"\r\n\r\n"


class Sink(Protocol):
    """Where a response goes. `begin` once, `write` for each piece, then `end`; or `fail`, at any time.

    Sinks make a chain: one that copies what passes, say, is a sink that hands all on to the next. The last
    one is the client's relay (edge/response/relay.py).
    """

    def interim(self, head: ResponseHead) -> None:
        """An interim response, before `begin`."""
        ...

    def begin(self, head: ResponseHead) -> None:
        """The head. Raises the GatewayError that the exchange fails with instead."""
        ...

    def write(self, data: bytes) -> None:
        """A piece of the body, without the framing of the connection to the backend."""
        ...

    def flush(self) -> None:
        """The rest is not here yet: send what there is."""
        ...

    def end(self) -> None:
        """All of the body was given."""
        ...

    def fail(self, error: GatewayError) -> None:
        """The exchange has failed; nothing follows."""
        ...


def _done_already(exchange: Exchange, reusable: bool) -> None:
    """Takes the place of an `on_done` that was called. Breaks the reference cycle with its owner, so that
    refcounting frees both: finding them was 8 % of the time of a gateway under load (py-spy)."""


class Exchange:
    """A request on a connection. `deadline` is on the monotonic clock, 0.0 for none; the owner calls `expire`
    when it has passed.

    on_done(exchange, reusable) is called exactly once, when the backend has nothing more to do with it:
    then its seat is free.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_connection",
        "_discarding",
        "_interim",
        "_left",
        "_method",
        "_on_done",
        "_on_upgrade",
        "_sink",
        "_timeouts",
        "deadline",
        "done",
        "ends",
        "head",
        "paused",
        "sent",
    )

    def __init__(
        self,
        connection: Connection,
        method: str,
        sink: Sink,
        timeouts: Timeouts,
        ends: float,
        on_done: Callable[[Exchange, bool], None],
    ) -> None:
        self._connection = connection
        self._method = method
        self._sink: Sink | None = sink
        self._timeouts = timeouts
        self._on_done = on_done
        self._buffer = b""
        self._left = 0
        self._chunks: ChunkedReader | None = None
        self._interim = 0
        self._discarding = False
        self.ends = ends  # when the whole call must be over, 0.0 for never
        self.deadline = 0.0
        self.head: ResponseHead | None = None
        self._on_upgrade: Callable[[ResponseHead, bytes, bytes], None] | None = None
        self.done = False
        self.paused = False
        self.sent = True
        connection.carry(self)

    @property
    def connection(self) -> Connection:
        """The one that carries it; its owner again after `on_done`."""
        return self._connection

    # --- the request ---

    def expect_upgrade(self, take: Callable[[ResponseHead, bytes, bytes], None]) -> None:
        """The request asks for one: `take` gets a 101 (its head, the same as bytes, and what follows it)."""
        self._on_upgrade = take

    @property
    def expects_upgrade(self) -> bool:
        """Whether a 101 may come."""
        return self._on_upgrade is not None

    def send(self, request: bytes, *, complete: bool = True) -> None:
        """Write the request, or its beginning (then say `sent_all` after the rest)."""
        transport = self._connection.transport
        assert transport is not None
        self.sent = complete
        if complete:
            self._wait_until(self._timeouts.first_byte)
        elif self.ends:
            self.deadline = self.ends
        transport.write(request)

    def sent_all(self) -> None:
        """The request is complete; from now on the backend's time counts."""
        self.sent = True
        if self.head is None:
            self._wait_until(self._timeouts.first_byte)

    def _wait_until(self, seconds: float) -> None:
        if self._discarding:
            return
        deadline = monotonic() + seconds
        self.deadline = min(deadline, self.ends) if self.ends else deadline

    # --- the response ---

    def feed(self, data: bytes) -> None:
        """Bytes from the backend."""
        try:
            if self.head is None:
                data = self._read_head(self._buffer + data if self._buffer else data)
                if self.head is None:
                    return
                self._read_body(data)
                if self._sink is not None:
                    self._sink.flush()
            else:
                self._read_body(data)
        except GatewayError as error:
            self._fail(error)
        except BaseException:  # a bug: the sink hears of it before asyncio does
            self.drop()
            raise

    def _read_head(self, data: bytes) -> bytes:
        """Sets `head` once it is whole; gives what follows it."""
        while True:
            end = data.find(_END_OF_HEAD)
            if end < 0 or end > response_head.MAX_HEAD:
                if len(data) > response_head.MAX_HEAD:
                    raise BackendMalformed("The head of the backend's response is too long.")
                if not data.startswith(b"HTTP/1."[: len(data)]) or b"\n" in data.replace(b"\r\n", b""):
                    raise BackendMalformed("The backend's response is not HTTP/1.1.")
                self._buffer = data
                return b""
            raw, data = data[:end], data[end + 4 :]
            head = response_head.parse(raw, self._method)
            if head.status == 101 and self._on_upgrade is not None:
                self._buffer = b""
                self._on_upgrade(head, raw, data)
                return b""
            if head.status >= 200:
                break
            self._interim += 1
            if head.status == 101 or self._interim > _MAX_INTERIM:
                raise BackendMalformed("The backend sent an interim response that nobody asked for.")
            if head.status != 100 and self._sink is not None:
                self._sink.interim(head)
        self._buffer = b""
        self.head = head
        self._left = head.length
        if head.chunked and not head.bodyless:
            self._chunks = ChunkedReader(max_work=MAX_WORK)
        if head.stream:
            self.ends = 0.0
        if self._sink is not None:
            self._sink.begin(head)
        return data

    def _read_body(self, data: bytes) -> None:
        head = self.head
        assert head is not None
        if head.bodyless or self._left == 0:
            self._finish(surplus=bool(data))
        elif self._chunks is not None:
            pieces = self._chunks.feed(data)
            if pieces:  # what came together leaves together: a write for each tiny chunk costs a system call
                self._pass(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if self._chunks.done:
                self._finish(surplus=bool(self._chunks.surplus))
            elif self._chunks.has_more:  # tiny chunks: other connections must not wait for all of them
                self._connection.rest_later()
        elif self._left > 0:
            piece = data[: self._left]
            self._left -= len(piece)
            if piece:
                self._pass(piece)
            if self._left == 0:
                self._finish(surplus=len(piece) < len(data))
        elif data:
            self._pass(data)
        if not self.done and not self.paused:
            self._wait_until(self._timeouts.idle)

    def _pass(self, piece: bytes) -> None:
        if self._sink is not None:
            self._sink.write(piece)

    def _finish(self, *, surplus: bool) -> None:
        assert self.head is not None
        reusable = self.sent and not surplus and not self.head.close and not self._connection.lost
        try:
            self._release(reusable)
        except BaseException:  # a bug: the response has left, and the sink does not know of its end
            self._tell(InternalError())
            raise
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.end()
            except BaseException:
                sink.fail(InternalError())
                raise

    def connection_lost(self) -> None:
        """The backend's end of the connection is gone. What came before that still counts."""
        while not self.done and self._chunks is not None and self._chunks.has_more:
            self.feed(b"")
        if self.done:
            return
        head = self.head
        if head is None:
            self._fail(faults.connection_lost(head_came=False, why=self._connection.fault))
        elif not head.bodyless and head.length < 0 and not head.chunked and self._connection.ended:
            self._finish(surplus=False)  # a body that ends with the connection
        else:
            self._fail(faults.connection_lost(head_came=True))

    @property
    def is_silent(self) -> bool:
        """Whether no byte of a response has come."""
        return self.head is None and not self._interim and not self._buffer

    def expire(self, discard_until: float | None) -> None:
        """The deadline has passed: whoever waits gets BackendTimeout, or RequestTimeout while the client's
        body is not here. Then the backend is let go. discard_until: a time on the monotonic clock, for a
        thread, which cannot be cancelled: its response is discarded first, at most until then."""
        sink, self._sink = self._sink, None
        if sink is not None:
            if self.head is None and not self.sent and self._connection.writable is None:
                # The backend takes all that there is: it is the client that is late.
                sink.fail(faults.body_late())
            else:
                sink.fail(faults.response_late(head_came=self.head is not None))
        if self.done:
            return
        if sink is not None and discard_until is not None:
            self.discard(discard_until)
        else:
            self.abort()

    def discard(self, until: float) -> None:
        """The response is not wanted any more: read on to the end, at most until then (monotonic clock), for
        a thread that cannot be cancelled."""
        self._sink = None
        self.resume()
        self.ends = self.deadline = until
        self._discarding = True

    def drop(self) -> None:
        """A bug keeps it from ending by its own rules: end it, and say so."""
        self._fail(InternalError())

    def abort(self) -> None:
        """Stop now; the sink is not called any more."""
        self._sink = None
        if not self.done:
            self._release(False)

    def _fail(self, error: GatewayError) -> None:
        if self.done:
            return
        try:
            self._release(False)
        finally:  # a bug in there keeps no client waiting
            self._tell(error)

    def _tell(self, error: GatewayError) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.fail(error)

    def _release(self, reusable: bool) -> None:
        self.done = True
        self._on_upgrade = None  # breaks the reference cycle: it names this exchange
        self._connection.carry(None)
        on_done, self._on_done = self._on_done, _done_already
        try:
            self.resume()
        finally:  # whatever happens, the seat is given back
            on_done(self, reusable)

    # --- back-pressure ---

    def writable(self) -> None:
        """A body is sent by a task, which waits in `Connection.drained`."""

    def pause(self) -> None:
        """Read no more from the backend for now; its idle time stands still."""
        if not self.paused and not self.done:
            self.paused = True
            self.deadline = self.ends
            self._connection.pause_reading(USER)

    def expire_at(self, moment: float) -> None:
        """Set the deadline of a paused exchange. moment: on the monotonic clock."""
        if self.paused and not self.done:
            self.deadline = min(moment, self.ends) if self.ends else moment

    def resume(self) -> None:
        """Read on after a pause; the idle time begins anew."""
        if self.paused:
            self.paused = False
            self._connection.resume_reading(USER)
            if not self.done:
                self._wait_until(self._timeouts.idle)
