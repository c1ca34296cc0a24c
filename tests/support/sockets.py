"""WebSockets on raw connections: a client, and a backend that does as it is told, frame by frame."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable

from gateway.core.websocket import frames
from gateway.core.websocket.handshake import accept
from tests.eventually import END
from tests.fakes import Heard, RawClient, Script

CONTINUATION, TEXT, BINARY = frames.CONTINUATION, frames.TEXT, frames.BINARY
CLOSE, PING, PONG = frames.CLOSE, frames.PING, frames.PONG
KEY = base64.b64encode(bytes(range(16))).decode()


def raw_frame(opcode: int, payload: bytes = b"", *, masked: bool, final: bool = True, bits: int = 0) -> bytes:
    size = len(payload)
    second = 0x80 if masked else 0
    if size < 126:
        head = bytes((opcode | bits | (0x80 if final else 0), second | size))
    elif size < 65536:
        head = bytes((opcode | bits | (0x80 if final else 0), second | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((opcode | bits | (0x80 if final else 0), second | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + _mask(payload, key)


def _mask(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


class Peer:
    """One end of a WebSocket. masks: it is the client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masks: bool) -> None:
        self.reader, self.writer, self.masks = reader, writer, masks
        self.head = ""

    def send(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        self.writer.write(raw_frame(opcode, payload, masked=self.masks, final=final))

    def close(self, code: int, reason: str = "") -> None:
        self.send(CLOSE, frames.close_payload(code, reason))

    async def frame(self, timeout: float = END) -> tuple[int, bool, bytes]:
        """Opcode, whether it is final, payload. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(timeout):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            assert bool(second & 0x80) != self.masks, "frames of a client are masked, a server's are not"
            key = await self.reader.readexactly(4) if second & 0x80 else b""
            payload = await self.reader.readexactly(size)
        return first & 0x0F, bool(first & 0x80), _mask(payload, key) if key else payload

    async def message(self, timeout: float = END) -> bytes:
        opcode, final, payload = await self.frame(timeout)
        assert final and opcode in (TEXT, BINARY), (opcode, payload)
        return payload

    async def closed(self, timeout: float = END) -> tuple[int, str]:
        """The code and the reason of the close frame that comes next; 1006 when the connection just ends."""
        try:
            while True:
                opcode, _, payload = await self.frame(timeout)
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006, ""

    async def ended(self, timeout: float = END) -> bool:
        """Whether the connection ends."""
        async with asyncio.timeout(timeout):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        return True

    def cut(self) -> None:
        self.writer.transport.abort()


Play = Callable[[Peer], Awaitable[None]]


def switching(key: str, more: str = "") -> bytes:
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept(key)}\r\n{more}\r\n"
    ).encode()


def websocket(play: Play, more: str = "") -> Script:
    """A backend's script: takes the upgrade and plays."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert heard.one("Upgrade") == "websocket"
        writer.write(switching(heard.one("Sec-WebSocket-Key") or "", more))
        await play(Peer(reader, writer, masks=False))
        writer.close()

    return script


async def echo(peer: Peer) -> None:
    """Every frame back as it is, a close too."""
    while True:
        opcode, final, payload = await peer.frame(60)
        peer.writer.write(raw_frame(opcode, payload, masked=False, final=final))
        await peer.writer.drain()
        if opcode == CLOSE:
            return


def request(path: str, authority: str, *lines: str) -> bytes:
    """The head of an opening handshake; `lines` are added to it."""
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {authority}",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


async def connect(address: tuple[str, int], path: str, headers: dict[str, str], *more: str) -> Peer:
    """An open WebSocket; `head` is the answer's. Fails when the upgrade is refused."""
    client = await RawClient.connect(address)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    client.send(request(path, f"{address[0]}:{address[1]}", *lines, *more))
    peer = Peer(client.reader, client.writer, masks=True)
    peer.head = await client.head()
    assert peer.head.startswith("HTTP/1.1 101 "), peer.head
    assert f"Sec-WebSocket-Accept: {accept(KEY)}\r\n" in peer.head
    return peer
