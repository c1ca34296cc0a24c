"""Questions and messages between two processes of one gateway, a master and a worker, over a connected unix
stream socket.

    channel = await Channel.open(ours, {"ready": on_ready, "seats": exchange}, on_end=worker_gone)
    grants = await channel.ask("seats", report)      # what the handler of that name gives on the other side
    channel.tell("revoked", {"tenant": "acme"})      # no answer
    await channel.close()

Both sides are alike: each may ask, tell, and has handlers, which are all there before the first byte is
read. A handler gets the body and gives the answer: a plain function, called at once and in the order in which
things were sent, or a coroutine function, which runs in a task. Bodies are what JSON holds (a tuple arrives
as a list, a key of a dict as text), up to MOST bytes. What is sent in one turn of the event loop is written
at its end.

A handler that raises AskFailed answers with that error; any other exception is a bug, logged where it is
raised, and AskFailed without its words on the side that asked. A channel ends with the process on its other
side, and also where that breaks the protocol or reads nothing while MOST bytes wait for it. No question
outlives it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from itertools import count
from typing import Any, cast

from gateway.runtime.periodic import Boundary

L = logging.getLogger(__name__)
MOST = 64 * 1024 * 1024  # bytes of a frame, and of what waits to be sent: a config is 16 MiB at most
WAIT = 5.0  # seconds for an answer
_LENGTH = 4  # bytes before each frame, big endian
_END = 1.0  # seconds that the last bytes may take
_BUG = "it failed there, see the log"

Handler = Callable[[Any], Any | Awaitable[Any]]


class ChannelError(Exception):
    """There is no answer."""


class ChannelEnded(ChannelError):
    """The other side has gone, or this one has closed the channel."""


class NoAnswer(ChannelError):
    """The other side has not answered in time. What was asked for may still happen there."""


class AskFailed(ChannelError):
    """The other side answered with an error. Its text has no secrets."""


class Frames:
    """Cuts a stream of bytes into frames. Pure."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete with these bytes. Raises ValueError for one that is too long."""
        buffer, found, at = self._buffer, [], 0
        buffer += data
        while len(buffer) - at >= _LENGTH:
            length = int.from_bytes(buffer[at : at + _LENGTH], "big")
            if length > self._most:
                raise ValueError(f"a frame of {length} bytes")
            if len(buffer) - at - _LENGTH < length:
                break
            at += _LENGTH
            found.append(bytes(memoryview(buffer)[at : at + length]))
            at += length
        del buffer[:at]
        return found


def frame(message: object) -> bytes:
    """A message as it is sent. Raises ValueError or TypeError for what JSON does not hold, or not in MOST
    bytes."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    raw = text.encode("utf-8", "surrogatepass")  # names of files may hold any byte
    if len(raw) > MOST:
        raise ValueError(f"a message of {len(raw)} bytes between processes; at most {MOST}")
    return len(raw).to_bytes(_LENGTH, "big") + raw


class Channel(asyncio.Protocol):
    """One side of a channel. `open` makes it."""

    # Messages: [number, name, body] asks, with 0 for a number it tells; [-number, null, body] is an answer,
    # and [-number, "why", null] one that failed.

    def __init__(self, handlers: Mapping[str, Handler], on_end: Callable[[], None]) -> None:
        self._handlers = handlers
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._frames = Frames()
        self._unsent: list[bytes] = []
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._boundary = Boundary("a message between master and worker", reraises=(AskFailed,))

    @classmethod
    async def open(
        cls, sock: socket.socket, handlers: Mapping[str, Handler], on_end: Callable[[], None] = lambda: None
    ) -> Channel:
        """The channel over a socket, which is the channel's from now on. on_end: called once, when the other
        side has ended it, and not after `close`."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(handlers, on_end), sock=sock)
        return channel

    @property
    def ended(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._closed or self._lost.done()

    async def ask(self, name: str, body: Any = None, wait: float = WAIT) -> Any:
        """The answer of the other side. wait: seconds. Raises ChannelEnded, NoAnswer or AskFailed."""
        if self.ended:
            raise ChannelEnded("the channel has ended")
        number = next(self._numbers)
        self._send([number, name, body])
        answer = self._asked[number] = self._loop.create_future()
        try:
            async with asyncio.timeout(wait):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"no answer to {name!r} within {wait:g} s") from None
        finally:
            self._asked.pop(number, None)

    def tell(self, name: str, body: Any = None) -> None:
        """Send a message. Nothing happens where the channel has ended."""
        if not self.ended:
            self._send([0, name, body])

    async def close(self) -> None:
        """Send what was told, and end: questions under way raise ChannelEnded, handlers are cancelled."""
        self._write()
        self._closed = True
        self._fail_asked()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait([self._lost], timeout=_END)
            self._transport.abort()

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the other side."""
        try:
            for raw in self._frames.feed(data):
                number, name, body = json.loads(raw.decode("utf-8", "surrogatepass"))
                self._received(number, name, body)
        except (ValueError, TypeError) as error:
            self._abort(f"what came is no message: {type(error).__name__}")

    def connection_lost(self, error: Exception | None) -> None:
        """The other side has gone."""
        if not self._lost.done():
            self._lost.set_result(None)
        self._fail_asked()
        for task in self._tasks:
            task.cancel()
        if not self._closed:
            self._on_end()

    # --- both ways ---

    def _received(self, number: int, name: str | None, body: Any) -> None:
        if number >= 0:
            self._handle(number, str(name), body)
            return
        answer = self._asked.get(-number)
        if answer is None or answer.done():
            return  # nobody waits for it any more
        if name is None:
            answer.set_result(body)
        else:
            answer.set_exception(AskFailed(name))

    def _handle(self, number: int, name: str, body: Any) -> None:
        handler = self._handlers.get(name)
        if handler is None:  # the other process may run another version
            L.warning("a message between master and worker that this version does not know: %s", name)
            self._answer(number, f"there is nothing of the name {name!r}", None)
            return
        why, result = _BUG, None
        try:
            with self._boundary:
                result, why = handler(body), ""
        except AskFailed as error:
            why = str(error)
        if isawaitable(result):
            task = self._loop.create_task(self._later(number, result), name=f"channel: {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(number, why or None, result)

    async def _later(self, number: int, working: Awaitable[Any]) -> None:
        why, result = _BUG, None
        try:
            with self._boundary:
                result, why = await working, ""
        except AskFailed as error:
            why = str(error)
        self._answer(number, why or None, result)

    def _answer(self, number: int, why: str | None, result: Any) -> None:
        if not number:
            return
        with self._boundary:
            self._send([-number, why, None if why else result])
            return
        self._send([-number, _BUG, None])  # the result is nothing that JSON holds

    def _send(self, message: list[Any]) -> None:
        raw = frame(message)
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent.append(raw)

    def _write(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent or self._transport is None or self.ended:
            return
        self._transport.writelines(unsent)
        if self._transport.get_write_buffer_size() > MOST:
            self._abort(f"the other side reads nothing, and {MOST} bytes wait for it")

    def _abort(self, why: str) -> None:
        L.error("the channel between master and worker ends: %s", why)
        if self._transport is not None:
            self._transport.abort()

    def _fail_asked(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ChannelEnded("the channel has ended"))
