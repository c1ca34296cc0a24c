"""A server that only introduces itself in MongoDB's protocol, and a listener that writes down commands."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import bson
from pymongo import monitoring

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013


class Introduction:
    """Answers every command with these members, or all but the handshake with `then`, or those that `first`
    names (in small letters) with what it says. For `async with`; its `uri` has no database."""

    def __init__(
        self,
        then: dict[str, Any] | None = None,
        first: dict[str, dict[str, Any]] | None = None,
        **members: Any,
    ) -> None:
        self._first = {name.encode(): answer for name, answer in (first or {}).items()}
        self._answer = {"ok": 1, "isWritablePrimary": True, "minWireVersion": 0, **members}
        self._then = then or self._answer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.uri = ""

    async def __aenter__(self) -> Introduction:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.uri = f"mongodb://127.0.0.1:{port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                length, number, _, kind = struct.unpack("<iiii", await reader.readexactly(16))
                command = (await reader.readexactly(length - 16)).lower()
                introduced = b"ismaster" in command or b"hello" in command
                answer = self._answer if introduced else self._then
                named = [given for name, given in self._first.items() if name in command]
                writer.write(_reply(named[0] if named else answer, number, kind))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)


def _reply(answer: dict[str, Any], number: int, kind: int) -> bytes:
    body = bson.encode(answer)
    if kind == _OP_QUERY:
        body, kind = struct.pack("<iqii", 0, 0, 0, 1) + body, _OP_REPLY
    else:
        body, kind = struct.pack("<iB", 0, 0) + body, _OP_MSG
    return struct.pack("<iiii", 16 + len(body), 1, number, kind) + body


class Commands(monitoring.CommandListener):
    """The commands that this process sends to one database. The driver keeps listeners for good, so one
    listens for all tests."""

    def __init__(self) -> None:
        self._database = ""
        self.seen: list[dict[str, Any]] = []

    def of(self, database: str) -> None:
        """Begin anew."""
        self._database, self.seen = database, []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.database_name == self._database:
            self.seen.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        return None

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        return None


commands = Commands()
monitoring.register(commands)
