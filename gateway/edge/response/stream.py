"""A response of ours that comes bit by bit, with back-pressure: its writer waits for a slow client.

Once it has begun an error can only cut the connection. A client that leaves, or takes nothing for as long as
the route lets a response stand still, ends the task that writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import GatewayError, RequestTimeout
from gateway.edge.response import reply
from gateway.edge.response.head import own_head


class Stream:
    """`with Stream(...) as stream:` around all of it. begun: the head has left. endless: it has no end of its
    own, so a client that ends its side has left. length: of all that is written, where it is known.

    While it is written it is the connection's writer (see gateway.call.Client).
    """

    def __init__(
        self,
        call: Call,
        content_type: str,
        headers: Mapping[str, str] | None = None,
        *,
        endless: bool = False,
        status: int = 200,
        length: int | None = None,
    ) -> None:
        assert call.route is not None and call.client is not None
        self._call = call
        self._client = call.client
        self._task = asyncio.current_task()
        self._patience = call.route.timeouts.idle
        self.endless = endless
        self._chunked = not call.old and length is None
        self._response = web.StreamResponse(status=status, headers=headers)
        self._response.content_type = content_type
        if length is not None:
            self._response.headers[hdrs.CONTENT_LENGTH] = str(length)
        self._room: asyncio.Future[None] | None = None
        self.begun = False
        self.keep_alive = call.keep_alive and (not call.old or length is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Cut a response that cannot be completed: it must not look complete."""
        self._client.detach(self)
        if kind is not None and self.begun:
            self.cut()

    # --- what the connection says ---

    def is_stream(self) -> bool:
        """Whether it has no end of its own."""
        return self.endless

    def resume(self) -> None:
        """The client has taken what was written: the writer continues."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def close_after(self) -> None:
        """The connection ends with this response."""
        self.keep_alive = False

    def client_lost(self) -> None:
        """The client left: the task that writes is cancelled."""
        if self._task is not None:
            self._task.cancel()

    def leave_off(self) -> None:
        """Does nothing: its writer learns of the drain by other means, and ends it."""

    def give_up(self, error: GatewayError) -> None:
        """It has begun, so nothing can be the response instead."""
        self.cut()

    def cut(self) -> None:
        """End the connection now; `client_lost` follows."""
        if self._client.transport is not None:
            reply.reset(self._client.transport)

    # --- for the writer ---

    async def write(self, data: bytes) -> None:
        """Send, and wait until the client has taken most of it. Raises ConnectionError when it left,
        RequestTimeout when it takes nothing any more. A HEAD request gets no body."""
        if self._call.method == "HEAD" or not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._send(data if self.begun else self._begin() + data)

    async def end(self, *, close: bool = False) -> web.StreamResponse:
        """Send the end, and give what the target gives. close: the request was not read to its end, so the
        connection cannot go on."""
        self.keep_alive = self.keep_alive and not close
        head = b"" if self.begun else self._begin()
        last = b"0\r\n\r\n" if self._chunked and self._call.method != "HEAD" else b""
        if head or last:
            await self._send(head + last)
        return reply.Sent(self._call.status, keep_alive=self.keep_alive)

    def _begin(self) -> bytes:
        """The head."""
        call, response = self._call, self._response
        self._client.attach(self)
        self.begun = True
        call.status = response.status
        if self._chunked:
            response.headers[hdrs.TRANSFER_ENCODING] = "chunked"
        if not self.keep_alive or call.draining():
            self.keep_alive = False
            response.force_close()
        return own_head(call, response)

    async def _send(self, data: bytes) -> None:
        client = self._client
        if client.transport is None:
            raise ConnectionResetError("The client left.")
        client.transport.write(data)
        self._call.bytes_out += len(data)
        if not client.writing_paused:
            return
        self._room = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._patience):
                await self._room
        except TimeoutError:
            raise RequestTimeout(f"The client took nothing for {self._patience:g} s.") from None
