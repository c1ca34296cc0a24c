"""A request's body: the stream from the connection that feeds it to the one task that reads it.

It is read within the limits and times of its route, and 100 Continue is sent only once the call is accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from time import monotonic

from gateway.call import Call
from gateway.core.errors import BodyTooLarge, RequestTimeout
from gateway.core.http.head import check_expect
from gateway.core.policy.deadline import BodyAllowance
from gateway.edge.response.head import CONTINUE

_STREAM_LIMIT = 128 * 1024  # bytes that wait to be read; beyond it the client has to wait


class RequestStream:
    """What was fed waits until it is read.

    on_full: called when the client has to wait. on_room: called when all of it was read, so that the client
    may go on. fed: bytes so far. waiting: those of them that nobody has read.
    """

    __slots__ = ("_ended", "_error", "_full", "_on_full", "_on_room", "_pieces", "_wakeup", "fed", "waiting")

    def __init__(self, on_full: Callable[[], None], on_room: Callable[[], None]) -> None:
        self._on_full = on_full
        self._on_room = on_room
        self._pieces: list[bytes] = []
        self._error: Exception | None = None
        self._ended = self._full = False
        self._wakeup: asyncio.Future[None] | None = None
        self.fed = self.waiting = 0

    # --- for the connection ---

    def feed(self, piece: bytes) -> None:
        """A piece of the body came; it may be empty."""
        if not piece:
            return
        self._pieces.append(piece)
        self.fed += len(piece)
        self.waiting += len(piece)
        self._wake()
        if self.waiting > _STREAM_LIMIT and not self._full:
            self._full = True
            self._on_full()

    def end(self) -> None:
        """All of the body was fed."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """It ends here, without having been whole; nothing of it is read any more."""
        self._error = error
        self._pieces.clear()
        self.waiting = 0
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    # --- for the task that reads ---

    @property
    def has_ended(self) -> bool:
        """Whether all of the body has come, read or not."""
        return self._ended

    async def read(self) -> bytes:
        """What has come since the last time, at least a byte; empty at the end. Raises the error given to
        `fail`, once, and ConnectionResetError after that."""
        while not (self._pieces or self._ended or self._error is not None):
            self._wakeup = asyncio.get_running_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        if self._error is not None:
            error, self._error = self._error, ConnectionResetError("The body has ended before its end.")
            try:
                raise error
            finally:
                del error  # breaks the reference cycle of the error, its traceback and this frame
        pieces, self._pieces = self._pieces, []
        self.waiting = 0
        self._full = False
        self._on_room()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def announced_length(call: Call) -> int | None:
    """The body's length by its Content-Length, None when it is chunked; 0 without a body."""
    if call.head.length >= 0:
        return call.head.length
    return None if call.head.codings else 0  # the only coding is chunked


def check(call: Call) -> None:
    """Refuse a body by the head, before a byte is read, or by its size when it came whole. Raises
    BodyTooLarge, ExpectationFailed."""
    assert call.route is not None
    head = call.head
    if head.expect:
        check_expect(head, old=call.old)
    length = len(call.body) if head.codings and call.content is None else head.length
    if length > call.route.body_limit:
        raise BodyTooLarge(f"The body may hold at most {call.route.body_limit} bytes.", close=True)


async def chunks(call: Call) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises BodyTooLarge, RequestTimeout (between two chunks, or it comes too
    slowly), BadRequest, and ConnectionError when the client left: that is no error, the call ends as
    499. Only the time in which a chunk is waited for counts as the client's."""
    content, route = call.content, call.route
    assert route is not None
    if content is None:
        call.bytes_in = len(call.body)
        if call.body:
            yield call.body
        return
    _send_continue(call)
    allowance = BodyAllowance(route.timeouts.body, route.timeouts.body_rate)
    while True:
        began = monotonic()
        try:
            async with asyncio.timeout(allowance.left):
                chunk = await content.read()
        except TimeoutError:
            if content.fed > call.bytes_in:  # bytes came, and it is we who were late to read them
                continue
            raise RequestTimeout(allowance.too_slow(), close=True) from None
        if not chunk:
            return
        allowance.came(len(chunk), monotonic() - began)
        call.bytes_in += len(chunk)
        if call.bytes_in > route.body_limit:
            raise BodyTooLarge(f"The body may hold at most {route.body_limit} bytes.", close=True)
        yield chunk


async def read(call: Call) -> bytes:
    """The whole body. Raises as `chunks` does; where its memory is counted (call.held), also as Held.grow
    does: before a byte is read, if its length is announced."""
    held = call.held
    if call.content is None:
        if held is not None:
            held.grow(len(call.body))
        call.bytes_in = len(call.body)
        return call.body
    announced = announced_length(call)
    if held is not None:
        held.grow(announced or 0)
    whole = BytesIO()  # copied as it comes: joining ten megabytes at the end would hold up the event loop
    async for chunk in chunks(call):
        if held is not None and announced is None:
            held.grow(len(chunk))
        whole.write(chunk)
    return whole.getvalue()


def _send_continue(call: Call) -> None:
    """100 Continue, if the client waits for it before it sends its body (RFC 9110 section 10.1.1)."""
    client = call.client
    if call.waits_for_word and client is not None and client.transport is not None:
        call.continued = True
        client.transport.write(CONTINUE)
