"""A client of HTTP/3 (RFC 9114): a proxy in front is asked by it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

Headers = list[tuple[bytes, bytes]]


async def get(port: int, name: str, path: str, authority: Path, headers: Headers) -> tuple[int, bytes]:
    """Ask the server of this name at a port of loopback. Gives the status and the body."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=name)
    configuration.load_verify_locations(str(authority))
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=_Client) as client:
        assert isinstance(client, _Client)
        where = [(":method", "GET"), (":scheme", "https"), (":authority", f"{name}:{port}"), (":path", path)]
        return await client.ask([*((key.encode(), value.encode()) for key, value in where), *headers])


class _Client(QuicConnectionProtocol):
    """One request."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)
        self._status, self._body = 0, b""
        self._done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    async def ask(self, headers: Headers) -> tuple[int, bytes]:
        """Send it, and wait for the whole response."""
        self._http.send_headers(self._quic.get_next_available_stream_id(), headers, end_stream=True)
        self.transmit()
        return await self._done

    def quic_event_received(self, event: QuicEvent) -> None:
        """See QuicConnectionProtocol."""
        for one in self._http.handle_event(event):
            self._received(one)

    def _received(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._status = int(dict(event.headers).get(b":status", b"0"))
        elif isinstance(event, DataReceived):
            self._body += event.data
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended and not self._done.done():
            self._done.set_result((self._status, self._body))
