"""What attacks go through: gunicorn ... :threaded (Flask) and uvicorn ... :asynchronous (FastAPI)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from flask import Flask, Response, request
from starlette.responses import StreamingResponse

_PIECE = bytes(64 * 1024)
# Eight threads that stream as fast as they can hand on the interpreter lock every 5 ms: then the backend, and
# not what is before it, would be what a quick view waits for.
sys.setswitchinterval(0.0005)

threaded = Flask(__name__)
asynchronous = FastAPI()


@threaded.get("/quick")
def quick() -> str:
    return "quick"


@threaded.get("/sleep/<float:seconds>")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@threaded.get("/large/<int:mib>")
def large(mib: int) -> Response:
    """So many MiB, as fast as they are taken."""
    return Response(_pieces(mib), mimetype="application/octet-stream")


@threaded.post("/upload")
def upload() -> str:
    """How many bytes came."""
    return str(len(request.get_data()))


def _pieces(mib: int) -> Iterator[bytes]:
    for _ in range(mib * 16):
        yield _PIECE


@asynchronous.get("/quick")
async def quick_one() -> str:
    return "quick"


@asynchronous.get("/large/{mib}")
async def large_one(mib: int) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in _pieces(mib):
            yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@asynchronous.post("/upload")
async def upload_one(call: Request) -> int:
    """How many bytes came."""
    return sum([len(piece) async for piece in call.stream()])


@asynchronous.get("/events")
async def events(every: float = 0.0) -> StreamingResponse:
    """Tiny events without end, so many seconds apart."""

    async def lines() -> AsyncIterator[bytes]:
        while True:
            yield b"data: x\n\n"
            await asyncio.sleep(every)

    return StreamingResponse(lines(), media_type="text/event-stream")


@asynchronous.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            elif message.get("bytes") is not None:
                await socket.send_bytes(message["bytes"])
            else:
                return
    except (WebSocketDisconnect, RuntimeError):
        return


@asynchronous.websocket("/flood")
async def flood(socket: WebSocket) -> None:
    """Sends texts of one character as fast as they are taken."""
    await socket.accept()
    try:
        while True:
            await socket.send_text("x")
    except (WebSocketDisconnect, RuntimeError):
        return
