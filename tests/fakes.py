"""Backends that do as they are told on the wire, clients that speak raw bytes, and targets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from aiohttp import web

from gateway.call import Call
from gateway.config.ports import HeadMoved, NoRevision
from gateway.core.config.audit import Entry
from gateway.core.config.revision import CONFIRMED, EXPIRED, Draft, Revision
from tests.eventually import END, takes


@dataclass
class Heard:
    """A request as a backend heard it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


Script = Callable[[Heard, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_head(reader: asyncio.StreamReader) -> Heard | None:
    """A head, without its body; None at the end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *rest = raw.decode("utf-8", "surrogateescape").split("\r\n")[:-2]
    pairs = [(name, value.strip()) for name, _, value in (item.partition(":") for item in rest)]
    return Heard(line, pairs)


async def read_body(heard: Heard, reader: asyncio.StreamReader) -> bytes:
    if heard.one("Transfer-Encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    return await reader.readexactly(int(heard.one("Content-Length") or 0))


def answer(body: bytes = b"ok", status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer with a Content-Length."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class Backend:
    """A backend on a real socket. `script` answers each request; its body was read unless `heads_only`.
    port: 0 for any. host: the address that it listens at. tls: its side of it."""

    script: Script
    heads_only: bool = False
    port: int = 0
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http{'s' if self.tls else ''}://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
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
        self.connections += 1
        try:
            while (heard := await read_head(reader)) is not None:
                self.heard.append(heard)
                if not self.heads_only:
                    heard.body = await read_body(heard, reader)
                await self.script(heard, reader, writer)
                if writer.is_closing():
                    break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


def always(raw: bytes) -> Script:
    """Answers each request with these bytes, HEAD with their head alone."""
    head = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head if heard.line.startswith("HEAD ") else raw)

    return script


def then_close(raw: bytes) -> Script:
    """Answers with these bytes and closes the connection."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    return script


class Busy:
    """A script that takes its time, and counts how many requests were inside at once, at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inside = 0
        self.most = 0

    async def __call__(
        self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._inside += 1
        self.most = max(self.most, self._inside)
        await takes(self._seconds)
        self._inside -= 1
        writer.write(answer())


class RawClient:
    """A client that sends bytes as given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> RawClient:
        return cls(*await asyncio.open_connection(*address))

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def head(self, timeout: float = END) -> str:
        """The next head, status line and headers."""
        async with asyncio.timeout(timeout):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def answer(self, timeout: float = END) -> tuple[str, bytes]:
        """The next head and its body (by Content-Length)."""
        head = await self.head(timeout)
        length = next(
            (
                int(line.split(":")[1])
                for line in head.split("\r\n")
                if line.lower().startswith("content-length")
            ),
            0,
        )
        async with asyncio.timeout(timeout):
            return head, await self.reader.readexactly(length)

    async def rest(self, timeout: float = END) -> bytes:
        """All until the connection ends; a reset ends it too."""
        received = b""
        async with asyncio.timeout(timeout):
            try:
                while data := await self.reader.read(65536):
                    received += data
            except ConnectionError:
                pass
        return received

    def close(self) -> None:
        self.writer.transport.abort()


class FakeTarget:
    """A target that serves each call by this function, and nothing at once."""

    def __init__(self, serve: Callable[[Call], Awaitable[web.StreamResponse]]) -> None:
        self._serve = serve

    def try_serve(self, call: Call) -> bool:
        return False

    async def serve(self, call: Call) -> web.StreamResponse:
        return await self._serve(call)


async def _never(call: Call) -> web.StreamResponse:
    raise AssertionError


NOWHERE = FakeTarget(_never)


class MemoryRevisions:
    """A RevisionStore, and what a data folder remembers, for as long as the test."""

    def __init__(self) -> None:
        self.kept: list[tuple[Revision, str]] = []
        self.states: dict[str, str] = {}
        self.draft: Draft | None = None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def head(self) -> Revision | None:
        return self.kept[-1][0] if self.kept else None

    async def add(self, draft: Draft, parent: int, number: int = 0) -> Revision:
        head = await self.head()
        if head is not None and head.number != parent:
            raise HeadMoved(head)
        number = max(number, (head.number if head else 0) + 1)
        size, origin = len(draft.text.encode()), replace(draft.origin, role="")
        more = draft.restores, False, draft.confirm_by, draft.run
        revision = Revision(number, parent, draft.digest, size, draft.at, origin, *more)
        self.kept.append((revision, draft.text))
        self.draft = None
        return revision

    def _at(self, number: int) -> int:
        for index, (revision, _) in enumerate(self.kept):
            if revision.number == number:
                return index
        raise NoRevision(f"there is no revision {number}")

    async def get(self, number: int) -> Revision:
        return self.kept[self._at(number)][0]

    async def text(self, number: int) -> str:
        return self.kept[self._at(number)][1]

    async def page(self, before: int, limit: int) -> list[Revision]:
        found = [revision for revision, _ in reversed(self.kept) if not before or revision.number < before]
        return found[:limit]

    async def pin(self, number: int, *, pinned: bool) -> Revision:
        return self._changed(number, pinned=pinned)

    async def confirm(self, number: int) -> Revision:
        found = await self.get(number)
        if not found.confirm_by or found.confirmation == EXPIRED:
            return found
        return self._changed(number, confirm_by=0.0, confirmation=CONFIRMED)

    async def expire(self, number: int) -> Revision:
        found = await self.get(number)
        return self._changed(number, confirmation=EXPIRED) if found.confirm_by else found

    def _changed(self, number: int, **fields: Any) -> Revision:
        index = self._at(number)
        self.kept[index] = (replace(self.kept[index][0], **fields), self.kept[index][1])
        return self.kept[index][0]

    async def intend(self, draft: Draft | None) -> None:
        self.draft = draft

    async def intended(self) -> Draft | None:
        return self.draft

    async def state(self, name: str) -> str:
        return self.states.get(name, "")

    async def set_state(self, name: str, value: str) -> None:
        self.states[name] = value


class MemoryAudit:
    """An audit for as long as the test."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    async def ready(self) -> None: ...

    async def record(self, entry: Entry) -> None:
        self.entries.append(entry)

    async def page(self, before: int, limit: int) -> list[dict[str, Any]]:
        return [{"outcome": one.outcome, "to": one.to_revision or None} for one in reversed(self.entries)][
            :limit
        ]
