"""An answer of ours that comes bit by bit, with back-pressure: whoever writes it waits for a slow client.

Once it has begun an error can only cut the connection, which life.py does. A client that leaves, or takes
nothing for as long as the route lets an answer stand still, ends the task that writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

from aiohttp import web

from gateway.call import Call
from gateway.core.errors import GatewayError, RequestTimeout
from gateway.edge import reply


class Stream:
    """`with Stream(...) as stream:` around all of it. begun: the head has left. endless: it has no end of its
    own, so a client that ends its side has left.

    While it is written it is the connection's relay (see gateway.call.Client).
    """

    def __init__(
        self,
        call: Call,
        content_type: str,
        headers: Mapping[str, str] | None = None,
        *,
        endless: bool = False,
    ) -> None:
        assert call.route is not None
        self._call = call
        self._task = asyncio.current_task()
        self._patience = call.route.timeouts.idle
        self._endless = endless
        self.begun = False
        self.keep_alive = True
        self.response = web.StreamResponse(headers=headers)
        self.response.content_type = content_type

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._call.client is not None and self._call.client.relay is self:
            self._call.client.relay = None

    # --- what the connection says ---

    def is_stream(self) -> bool:
        return self._endless

    def resume(self) -> None:
        """aiohttp's writer knows."""

    def client_lost(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # --- for who writes ---

    async def begin(self) -> None:
        """Send the head, 200."""
        call, client = self._call, self._call.client
        assert call.request is not None
        if client is not None:
            client.relay = self
        self.begun = True
        call.status = self.response.status
        reply.decorate(call, self.response)
        await self.response.prepare(call.request)

    async def write(self, data: bytes) -> None:
        """Send, once the client has taken most of what was sent before. Raises ConnectionError when it left,
        RequestTimeout when it takes nothing any more. A HEAD request gets no body."""
        if self._call.method == "HEAD":
            return
        try:
            async with asyncio.timeout(self._patience):
                await self.response.write(data)
        except TimeoutError:
            raise RequestTimeout(f"The client took nothing for {self._patience:g} s.") from None

    async def end(self, *, close: bool = False) -> web.StreamResponse:
        """Send the end, and give what the target gives. close: the request was not read to its end, so the
        connection cannot go on."""
        if close or not self.keep_alive:
            self.response.force_close()
        await self.response.write_eof()
        return self.response


def cut(call: Call, error: GatewayError) -> web.StreamResponse | None:
    """End an answer that has begun and cannot be completed: it must not look complete. None: it has not
    begun, so the error can be the answer."""
    request, client = call.request, call.client
    if request is None or not request.writer.output_size or client is None:
        return None
    if client.transport is not None:
        reply.reset(client.transport)
    call.code = error.code
    return reply.Sent(call.status, keep_alive=False)
