"""One client's connection: aiohttp's protocol, with a short way for simple requests.

A simple request that came whole is served straight from `data_received`, without aiohttp's parser or its
request; everything else is handed to aiohttp unchanged. Only this file and handler.py make use of aiohttp's
server internals (3.14); each use has its test.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sys
import termios
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from aiohttp import web

from gateway.call import new_id
from gateway.core.errors import RequestTimeout
from gateway.core.head import MAX_HEAD, Head, parse_simple
from gateway.edge import reply, unparsed
from gateway.edge.handler import Handler, Service

L = logging.getLogger(__name__)
KEEP_ALIVE = 65.0  # seconds that a client's idle connection stays open
HEAD_TIME = 10.0  # seconds that a request's head may take from its first byte
READ_TIME = 60.0  # seconds that a client may take no byte of what waits for it
_HELD = 64 * 1024  # bytes that a client may send ahead while its request is served
_GATHERED = 64 * 1024  # bytes of a request that came in parts and may still take the short way
_GATHER_TIME = 0.05  # seconds that its parts may take to come


class ClientConnection(Handler):
    """One client's connection.

    busy: a whole simple request is being served; nothing further is parsed until that is over, so that
    answers keep their order. serving: the task that serves it, if it needs one. clean: aiohttp's parser holds
    no part of a request, so the next bytes begin one. It is lost for good when aiohttp gets what this file
    does not understand to its last byte.
    """

    __slots__ = (
        "_awaited",
        "_gather_end",
        "_gathering",
        "_held",
        "_last",
        "_new",
        "_unread",
        "busy",
        "clean",
        "head_since",
        "serving",
        "stalled_since",
        "waits",
    )

    def __init__(self, server: web.Server, service: Service, **more: Any) -> None:
        self._new = True
        super().__init__(server, service, **more)
        self.serving: asyncio.Task[None] | None = None
        self.busy = True  # until aiohttp waits for the first request
        self.clean = True
        self.head_since = self.stalled_since = 0.0
        self.waits = 0  # bytes that wait for the client, when that was looked at last
        self._held = b""
        self._gathering = 0  # bytes of the whole request whose parts are coming (1: not known yet), else 0
        self._gather_end: asyncio.TimerHandle | None = None
        self._last: Head | None = None
        self._unread = False  # what was sent ahead waits until the client has read

    # --- aiohttp waits for a request: its `_waiter`, seen ---

    @property
    def _waiter(self) -> asyncio.Future[None] | None:
        return self._awaited

    @_waiter.setter
    def _waiter(self, waiter: asyncio.Future[None] | None) -> None:
        """Whoever sent its first request before aiohttp was ready for it stays on the short way."""
        self._awaited = waiter
        if waiter is not None and self._new:
            self._new = False
            self._next()
        if waiter is not None and self.half_closed:
            self.end_half_closed()

    def _idle(self) -> bool:
        """aiohttp waits for a request and has none in hand."""
        waiter = self._awaited
        closing = self._close or self._force_close
        return waiter is not None and not waiter.done() and not self._messages and not closing

    # --- bytes from the client ---

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_client(data)
        elif self.busy:
            self._hold(data)
        elif not (self.clean and self._idle()):
            self._leave_to_aiohttp(data)
        elif self._gathering:
            self._gather(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Serve the request that begins these bytes: directly if it is simple and whole, else by aiohttp."""
        end = data.find(b"\r\n\r\n")
        simple = parse_simple(data[:end], self._last) if end > 0 else None
        if simple is None:
            if end < 0 and len(data) < MAX_HEAD:
                self._wait_for(1, data)
            else:
                self._leave_to_aiohttp(data)
            return
        method, target, head = simple
        self._last = head
        start = end + 4
        stop = start + max(head.length, 0)
        if stop > len(data):
            if stop > _GATHERED:
                self._leave_to_aiohttp(data)
            else:
                self._wait_for(stop, data)
            return
        self._begin_direct(data[stop:])
        self._service.direct(self, method, target, head, data[start:stop])

    def _wait_for(self, size: int, data: bytes) -> None:
        """For the rest of a request, for a moment: many clients send head and body apart."""
        self._gathering, self._held = size, data
        if self._gather_end is None:
            self._gather_end = self._loop.call_later(_GATHER_TIME, self._end_gathering)

    def _gather(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= self._gathering:
            self._take(self._gathered())
        if not self._gathering and self._gather_end is not None:
            self._gather_end.cancel()
            self._gather_end = None

    def _gathered(self) -> bytes:
        self._gathering = 0
        data, self._held = self._held, b""
        return data

    def _end_gathering(self) -> None:
        """The rest takes its time: aiohttp goes on with what there is."""
        self._gather_end = None
        if self._gathering and self.transport is not None:
            self._leave_to_aiohttp(self._gathered())

    def drain(self) -> None:
        """Close it if it is idle. What has begun to come is served whole: aiohttp's own `close` would read no
        more of it, and leave the connection open."""
        self._end_gathering()
        if self._idle() and not self.busy and not self.head_since:
            self.force_close()

    def serve(self, work: Coroutine[None, None, None]) -> None:
        """Go on with the request in hand in a task, which ends with `direct_done`."""
        self.serving = self._loop.create_task(work)
        self.serving.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        """Whatever became of the task, no client waits for ever."""
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            L.error("A bug in the gateway left a request without an answer", exc_info=bug)
        if task is self.serving:
            self.direct_done(keep_alive=False)

    def _begin_direct(self, ahead: bytes) -> None:
        """Keep aiohttp's accounts: clean-up waits for a request in progress."""
        self.busy = True
        self._held = ahead
        self._request_in_progress = True

    def direct_done(self, *, keep_alive: bool) -> None:
        """The direct request is answered (or its client gone); go on with what was sent ahead."""
        if not self.busy:
            return
        self.busy = self._request_in_progress = False
        self.serving = None
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        if not keep_alive or (self.half_closed and not self._held):
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self._next()

    def _next(self) -> None:
        """The request is over; what was sent ahead comes next."""
        # What comes before the loop turns is held behind it.
        self.busy = bool(self._held) or self.writing_paused
        if self.busy:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Not before the client has read: answers of ours, too, would pile up."""
        if self.writing_paused:
            self._unread = True
            return
        self.busy = False
        if self.transport is not None:
            self.transport.resume_reading()
            held, self._held = self._held, b""
            if held:
                self.data_received(held)

    def has_whole_request(self) -> bool:
        return self.busy or super().has_whole_request()

    def is_last(self) -> bool:
        return not self._held and super().is_last()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD and self.transport is not None:
            self.transport.pause_reading()

    def _leave_to_aiohttp(self, data: bytes) -> None:
        """And all that follows: from now on its parser may hold a part of a request."""
        self.clean = False
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        """To aiohttp, unchanged; and note when a head began that did not end, and how long its first line
        is (aiohttp has one error for a long target and a long header)."""
        if self._idle() and not self.head_since:
            self._line_length, self._line_ended = 0, False
        if not self._line_ended:
            end = data.find(b"\r\n")
            self._line_ended = end >= 0
            self._line_length += end if end >= 0 else len(data)
        self.feed(data)
        if self._messages or not self._idle():
            self.head_since = 0.0
        elif not self.head_since and not self.clean:
            self.head_since = monotonic()

    def _process_keepalive(self) -> None:
        """aiohttp closes idle connections here; one that is served directly is not idle."""
        if self.busy:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """The time to drain is over."""
        await super().shutdown(timeout)
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.gather(self.serving, return_exceptions=True)

    def begin_tunnel(self, tunnel: Any) -> bytes:
        """The connection is no longer HTTP, to its end. Gives what aiohttp kept of what follows the head."""
        self.tunnel = self.relay = tunnel
        early, self._message_tail = self._message_tail, b""
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        return early

    def head_is_late(self, now: float) -> bool:
        """Whether a head has been coming for too long. Then it is refused and the connection closed."""
        if not self.head_since or now - self.head_since < HEAD_TIME or not self._idle():
            return False
        error = RequestTimeout("The request's head did not come in time.")
        request_id = new_id()
        if self.transport is not None:
            self.transport.write(unparsed.answer(error, request_id))
        self._service.refused(request_id, error, self.peer)
        self.force_close()
        return True

    # --- bytes to the client ---

    def reads_no_more(self, now: float) -> bool:
        """Whether the client took nothing for too long of what waits for it, here and in the kernel. Then the
        connection is cut; slow is who takes a byte."""
        transport = self.transport
        if transport is None or not self.writing_paused:
            self.stalled_since = 0.0
            return False
        waits = transport.get_write_buffer_size() + _unsent(transport)
        if waits != self.waits or not self.stalled_since:
            self.waits, self.stalled_since = waits, now
            return False
        if now - self.stalled_since < READ_TIME:
            return False
        reply.reset(transport)
        return True

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread:
            self._unread = False
            self._loop.call_soon(self._go_on)

    def connection_lost(self, exc: BaseException | None) -> None:
        task = self._task_handler
        if self._gather_end is not None:
            self._gather_end.cancel()
        super().connection_lost(exc)
        if task is not None and not self._request_in_progress:
            task.cancel()  # aiohttp would wait 10 s for the rest of a body that was not read
        self._held = b""
        if self.relay is not None:
            self.relay.client_lost()
        elif self.on_gone is not None:
            self.on_gone()


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the other end has not taken (tcp(7), SIOCOUTQ)."""
    number = bytearray(4)
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, number)
    except OSError:
        return 0
    return int.from_bytes(number, sys.byteorder)
