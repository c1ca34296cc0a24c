"""One conversation with a backend: send the head and the body, read the answer's head, read its body.

A request is tried on another address only while no byte of it was sent; never after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import ClientError, ServerTimeoutError, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage

from gateway.core.errors import BackendMalformed, BackendReset, BackendTimeout, GatewayError
from gateway.core.headers import Pairs
from gateway.core.model import Timeouts
from gateway.edge.pool import Pool

_MAX_INTERIM = 16
_MAX_LINE = 16 * 1024


def request_head(method: str, target: str, headers: Pairs) -> bytes:
    """The request line and the header section. The values were checked: no CR, LF or NUL is in them."""
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append("\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


class Exchange:
    """One request on one connection. Use: `send`, `head`, `body`, and `close` in any case."""

    __slots__ = ("_chunked", "_connection", "_payload", "_pool", "_timeouts", "_upload")

    def __init__(self, pool: Pool, connection: ResponseHandler, timeouts: Timeouts) -> None:
        self._pool = pool
        self._connection = connection
        self._timeouts = timeouts
        self._upload: asyncio.Task[None] | None = None
        self._payload: StreamReader | None = None

    def send(
        self,
        method: str,
        head: bytes,
        body: bytes = b"",
        stream: AsyncIterator[bytes] | None = None,
        chunked: bool = False,
    ) -> None:
        """Write the request. A body in hand goes out with the head; a stream follows as it comes."""
        connection = self._connection
        connection.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        if connection.transport is not None:
            connection.transport.write(head + body)
        if stream is not None:
            self._upload = asyncio.create_task(self._send_stream(stream, chunked))

    async def _send_stream(self, stream: AsyncIterator[bytes], chunked: bool) -> None:
        """Relay the request body with back-pressure; what goes wrong is raised where the head is awaited."""
        connection = self._connection
        try:
            async for chunk in stream:
                if connection.transport is None:
                    return  # the answer, or its absence, says why
                if chunked:
                    chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
                connection.transport.write(chunk)
                await connection._drain_helper()
            if chunked and connection.transport is not None:
                connection.transport.write(b"0\r\n\r\n")
        except GatewayError as error:
            connection.set_exception(error)
        except (ConnectionError, ClientError):
            return

    async def head(self) -> RawResponseMessage:
        """The answer's head. Raises BackendReset, BackendMalformed, BackendTimeout, and what the upload
        met. After a BackendTimeout it may be awaited again: the backend may still be at work."""
        try:
            async with asyncio.timeout(self._timeouts.first_byte) as limit:
                if self._upload is not None and not self._upload.done():
                    self._start_when_sent(limit)
                message, payload = await self._final_head()
        except TimeoutError:
            raise BackendTimeout(
                f"The backend's answer did not begin within {self._timeouts.first_byte:g} s."
            ) from None
        except HttpProcessingError:
            raise BackendMalformed() from None
        except (ClientError, ConnectionError):
            raise BackendReset("The backend closed the connection before it answered.") from None
        self._payload = payload
        self._connection.read_timeout = self._timeouts.idle
        return message

    def _start_when_sent(self, limit: asyncio.Timeout) -> None:
        """The time to the first byte counts from the end of the request, not from its beginning."""
        assert self._upload is not None
        limit.reschedule(None)
        loop, seconds = asyncio.get_running_loop(), self._timeouts.first_byte

        def sent(_: asyncio.Task[None]) -> None:
            if self._payload is None:
                with suppress(RuntimeError):  # the answer came first: there is nothing to time any more
                    limit.reschedule(loop.time() + seconds)

        self._upload.add_done_callback(sent)

    async def _final_head(self) -> tuple[RawResponseMessage, StreamReader]:
        for _ in range(_MAX_INTERIM + 1):
            message, payload = await self._connection.read()
            if message.code >= 200:
                return message, payload
            if message.code == 101:
                raise BackendMalformed("The backend switched protocols unasked.")
        raise BackendMalformed("The backend sent too many interim answers.")

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come (its body may still wait to be read)."""
        return self._payload is not None and self._payload.is_eof()

    async def body(self) -> AsyncIterator[bytes]:
        """The answer's body as it comes. Raises BackendReset when it is cut off, BackendTimeout when it
        stalls."""
        payload = self._payload
        assert payload is not None
        if not payload.is_eof():
            self._connection.start_timeout()
        try:
            while chunk := await payload.readany():
                yield chunk
        except ServerTimeoutError:
            raise BackendTimeout("The backend's answer stalled.") from None
        except (HttpProcessingError, ClientError, ConnectionError):
            raise BackendReset("The backend's answer was cut off.") from None

    @property
    def upload_complete(self) -> bool:
        """Whether the whole request was sent."""
        return self._upload is None or self._upload.done()

    async def finish(self) -> None:
        """Read the rest of the answer and discard it, head and body, with no limit on the time."""
        if self._payload is None:
            _, self._payload = await self._final_head()
        self._connection.read_timeout = None
        async for _ in self.body():
            pass

    def abort(self) -> None:
        """Stop now: whoever waits for the answer gets BackendReset."""
        self._connection.set_exception(ConnectionResetError())
        if self._payload is not None:
            self._payload.set_exception(ConnectionResetError())

    def close(self) -> None:
        """Let go of the connection: kept when the exchange came to its end, closed otherwise."""
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            self._connection.force_close()
        if not self.complete:
            self._connection.force_close()
        self._pool.release(self._connection)
