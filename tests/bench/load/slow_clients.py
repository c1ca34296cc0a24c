"""Slow clients, many at once, in a process of their own. python -m tests.bench.load.slow_clients KIND JSON

Kinds, and what they print as JSON in the end:
upload, download   drip until a line comes on stdin, then finish as fast as they can
heads              a byte of a request's head each second, until the server has had enough
paced              whole requests, 0.3 to 2.2 s apart on each connection
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

# Loopback's segments of 64 KiB would let a server's kernel take in the whole of a slow client's answer.
_SEGMENT = 1448  # bytes, as on Ethernet
_RECEIVE_BUFFER = 8 * 1024  # bytes; a larger one would read ahead of the client
_RAMP = 1.0  # seconds over which the clients come
_FINISH, _HEADS_END = 15.0, 16.0  # seconds
UPLOAD, UPLOAD_PIECE, UPLOAD_EVERY = 64 * 1024, 1024, 1.0  # bytes, bytes, seconds
DOWNLOAD_PIECE, DOWNLOAD_EVERY = 5 * 1024, 0.5
PAUSE = (0.3, 2.2)  # seconds between an answer and the next request
_POST = b"x" * 1024


@dataclass
class Plan:
    """prefix: before each path. authorization: the header's value. requests: of each paced connection."""

    port: int
    count: int
    prefix: str = ""
    authorization: str = ""
    requests: int = 0


@dataclass
class Found:
    """statuses: answers by status, or why there was none; whole: answers that were right to the last byte;
    seconds: from the first byte until the end, of each client."""

    statuses: Counter[str]
    whole: int
    seconds: list[float]

    def tell(self, why: str, began: float, *, whole: bool = False) -> None:
        self.statuses[why] += 1
        self.whole += whole
        self.seconds.append(time.monotonic() - began)


Client = Callable[[Plan, int, asyncio.Event, Found], Awaitable[None]]


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=sock, limit=_RECEIVE_BUFFER)


def _head(plan: Plan, method: str, path: str, length: int = 0) -> bytes:
    lines = [f"{method} {plan.prefix}{path} HTTP/1.1", "Host: bench", f"Authorization: {plan.authorization}"]
    lines += [f"Content-Length: {length}"] if method == "POST" else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, int]:
    """Status and the length of the body that follows."""
    top = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", top)
    return top[9:12].decode(), int(length[1]) if length else 0


async def _drip(every: float, hurry: asyncio.Event) -> None:
    if hurry.is_set():
        return
    try:
        async with asyncio.timeout(every):
            await hurry.wait()
    except TimeoutError:
        pass


async def _upload(plan: Plan, number: int, hurry: asyncio.Event, found: Found) -> None:
    began = time.monotonic()
    reader, writer = await _open(plan.port)
    try:
        writer.write(_head(plan, "POST", "/upload", UPLOAD))
        for _ in range(UPLOAD // UPLOAD_PIECE):
            writer.write(b"x" * UPLOAD_PIECE)
            await writer.drain()
            await _drip(UPLOAD_EVERY, hurry)
        async with asyncio.timeout(_FINISH):
            status, length = await _answer(reader)
            body = await reader.readexactly(length)
        found.tell(status, began, whole=body == str(UPLOAD).encode())
    finally:
        writer.transport.abort()


async def _download(plan: Plan, number: int, hurry: asyncio.Event, found: Found) -> None:
    began = time.monotonic()
    reader, writer = await _open(plan.port)
    try:
        writer.write(_head(plan, "GET", "/large"))
        status, left = await _answer(reader)
        size = left
        while left and not hurry.is_set():
            left -= len(await reader.readexactly(min(left, DOWNLOAD_PIECE)))
            await _drip(DOWNLOAD_EVERY, hurry)
        async with asyncio.timeout(_FINISH):
            await reader.readexactly(left)
        found.tell(status, began, whole=status == "200" and size == 1024 * 1024)
    finally:
        writer.transport.abort()


async def _heads(plan: Plan, number: int, hurry: asyncio.Event, found: Found) -> None:
    began = time.monotonic()
    reader, writer = await _open(plan.port)
    reading: asyncio.Task[tuple[str, int]] | None = None
    try:
        async with asyncio.timeout(_HEADS_END):
            reading = asyncio.create_task(_answer(reader))
            for byte in _head(plan, "GET", "/quick") * 2:
                writer.write(bytes([byte]))
                if (await asyncio.wait({reading}, timeout=1.0))[0]:
                    break
            status, _ = await reading
            found.tell(status, began, whole=status == "408")
    finally:
        if reading is not None:
            reading.cancel()
        writer.transport.abort()


async def _paced(plan: Plan, number: int, hurry: asyncio.Event, found: Found) -> None:
    choose = random.Random(number)
    prefix = f"{plan.prefix}-{number}"
    mine = Plan(plan.port, 1, prefix, plan.authorization)
    reader, writer = await _open(plan.port)
    try:
        for _ in range(plan.requests):
            await asyncio.sleep(choose.uniform(*PAUSE))
            post = choose.random() < 0.5
            began = time.monotonic()
            head = _head(mine, "POST" if post else "GET", "/quick", len(_POST))
            writer.write(head + _POST if post else head)
            async with asyncio.timeout(_FINISH):
                status, length = await _answer(reader)
                await reader.readexactly(length)
            found.tell(status, began, whole=status == "200")
    finally:
        writer.transport.abort()


KINDS: dict[str, Client] = {"upload": _upload, "download": _download, "heads": _heads, "paced": _paced}


async def run(kind: str, plan: Plan) -> dict[str, Any]:
    """All clients of a kind, until each has ended."""
    hurry = asyncio.Event()
    found = Found(Counter(), 0, [])
    # The line on stdin, or its end: then the bench has gone, and so should we.
    asyncio.get_running_loop().add_reader(sys.stdin, hurry.set)

    async def one(number: int) -> None:
        await asyncio.sleep(_RAMP * number / plan.count)
        began = time.monotonic()
        try:
            await KINDS[kind](plan, number, hurry, found)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            found.tell(type(error).__name__, began)

    waiting = asyncio.gather(*(one(number) for number in range(plan.count)))
    await waiting
    asyncio.get_running_loop().remove_reader(sys.stdin)
    return {
        "clients": plan.count,
        "statuses": dict(found.statuses),
        "whole": found.whole,
        "shortest_s": min(found.seconds, default=0.0),
        "longest_s": max(found.seconds, default=0.0),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], Plan(**json.loads(sys.argv[2]))))))
