"""A client's side of the wire, strictly: raw bytes out, whole answers in, whatever the connection's end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, cast

from tests.eventually import END

_status_line = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*").fullmatch
_line = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)").fullmatch


@dataclass
class Answer:
    """One answer. whole: its body ended where its head said; else it is what came of it.
    old: it is of HTTP/1.0."""

    status: int
    headers: list[tuple[str, bytes]]
    body: bytes = b""
    whole: bool = True
    old: bool = False

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def closes(self) -> bool:
        said = self.all("connection")
        return b"close" in said or (self.old and b"keep-alive" not in said)


def read_answers(raw: bytes, methods: Iterable[str], *, ended: bool = False) -> list[Answer]:
    """The answers to requests with these methods ("" for one that was none). Anything that is not
    well-formed HTTP/1.1 is an AssertionError, and so are bytes after the last one."""
    answers: list[Answer] = []
    rest = raw
    for method in methods:
        while True:
            head, end, after = rest.partition(b"\r\n\r\n")
            if not end:
                assert not (ended and rest), f"a head was cut off: {rest!r}"
                return answers
            answer = _read_head(head)
            rest = after
            if answer.status >= 200:
                break
        rest = _read_body(answer, rest, method, ended)
        answers.append(answer)
        if not answer.whole:
            return answers
    assert not rest, f"bytes that belong to no answer: {rest!r}"
    return answers


def _read_head(raw: bytes) -> Answer:
    first, *lines = raw.split(b"\r\n")
    found = _status_line(first)
    assert found, f"not a status line: {first!r}"
    pairs = []
    for line in lines:
        pair = _line(line)
        assert pair, f"not a header: {line!r}"
        pairs.append((pair[1].decode().lower(), pair[2].rstrip(b" \t")))
    answer = Answer(int(found[2]), pairs, old=found[1] == b"0")
    assert len(answer.all("x-request-id")) == (answer.status >= 200), raw
    return answer


def _read_body(answer: Answer, rest: bytes, method: str, ended: bool) -> bytes:
    lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
    assert len(lengths) + len(codings) <= 1, answer
    if method == "HEAD" or answer.status in (204, 304):
        assert not (answer.status == 204 and (lengths or codings)), answer
        if not (rest and answer.status == 400 and answer.closes):
            return rest  # a refusal may be of bytes that never became a HEAD request
    assert lengths or codings == [b"chunked"] or answer.closes, f"an answer without a framing: {answer}"
    if not lengths and not codings:
        answer.body, answer.whole = rest, ended
        return b""
    if lengths:
        length = int(lengths[0])
        answer.body, answer.whole = rest[:length], len(rest) >= length
        return rest[length:]
    while True:
        size, end, after = rest.partition(b"\r\n")
        if not end:
            break
        assert re.fullmatch(rb"[0-9a-f]+", size), f"not a chunk: {size!r}"
        length = int(size, 16)
        answer.body += after[:length]
        if len(after) < length + 2:
            break
        assert after[length : length + 2] == b"\r\n", after
        rest = after[length + 2 :]
        if not length:
            return rest
    answer.whole = False
    return b""


class Wire(asyncio.Protocol):
    """A connection. Unlike a StreamReader it keeps what came before a reset."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Self:
        _, wire = await asyncio.get_running_loop().create_connection(cls, *address)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._news.set()

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    async def answers(
        self, methods: list[str], timeout: float = END, *, wanted: int | None = None
    ) -> list[Answer]:
        """All whole answers to these methods, or what came until the connection's end. wanted: so many are
        enough."""
        wanted = len(methods) if wanted is None else wanted
        async with asyncio.timeout(timeout):
            while True:
                self._news.clear()
                answers = read_answers(self.received, methods, ended=self.ended)
                if self.ended or (len(answers) >= wanted and all(a.whole for a in answers)):
                    return answers
                await self._news.wait()

    async def end(self, timeout: float = END) -> None:
        """Until the other side ends the connection."""
        async with asyncio.timeout(timeout):
            while not self.ended:
                self._news.clear()
                await self._news.wait()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()
