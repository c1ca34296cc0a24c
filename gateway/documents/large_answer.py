"""The answer that is a large document: its text goes out in pieces, as it is stored, as fast as its client
reads. What waits to be read counts in the memory of its tenant, as the bodies of requests do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aiohttp import web

from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.edge.response.stream import Stream
from gateway.store.json import representation
from gateway.store.model.document import Document

LARGE_PAGE = 256 * 1024  # bytes or characters, beyond which a page goes out in pieces
_PIECE = 64 * 1024  # bytes


class LargeAnswer(web.StreamResponse):
    """To be sent when all else of the call is done: a client may read for longer than the call may take."""

    def __init__(self, status: int, document: Document, headers: Mapping[str, str]) -> None:
        super().__init__(status=status)
        self._document = document
        self._more = headers

    async def send(self, call: Call) -> web.StreamResponse:
        """Raises ConnectionError when the client left, RequestTimeout when it reads no more."""
        length = representation.body_length(self._document)
        with Stream(call, "application/json", self._more, status=self.status, length=length) as stream:
            if call.method != "HEAD":
                for piece in representation.pieces(self._document, _PIECE):
                    await stream.write(piece)
                    await asyncio.sleep(0)  # the kernel may take megabytes before a write has to wait
            return await stream.end()


class LargePage(LargeAnswer):
    """A page whose documents are large, or many. parts: what it is made of, in UTF-8. size: of them all."""

    def __init__(self, parts: Sequence[bytes | memoryview], size: int, headers: Mapping[str, str]) -> None:
        web.StreamResponse.__init__(self, status=200)
        self._parts = parts
        self._size = size
        self._more = headers

    async def send(self, call: Call) -> web.StreamResponse:
        with Stream(call, "application/json", self._more, length=self._size) as stream:
            if call.method != "HEAD":
                for piece in pieces(self._parts, _PIECE):
                    await stream.write(piece)
                    await asyncio.sleep(0)  # the kernel may take megabytes before a write has to wait
            return await stream.end()


def page(
    call: Call, parts: Sequence[bytes | memoryview], headers: Mapping[str, str]
) -> web.StreamResponse:
    """The answer 200 that is made of these parts; a large one is counted, and goes out in pieces. Raises
    TenantLimit, StoreSaturated."""
    size = sum(map(len, parts))
    if size <= LARGE_PAGE:
        return web.Response(body=b"".join(parts), content_type="application/json", headers=headers)
    hold(call, size)
    return LargePage(parts, size, headers)


def pieces(parts: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of this size; a part is copied piece by piece, never as a whole."""
    piece = bytearray()
    for part in parts:
        at = 0
        while at < len(part):
            taken = min(len(part) - at, size - len(piece))
            piece += part[at : at + taken]
            at += taken
            if len(piece) == size:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


def hold(call: Call, size: int) -> None:
    """Count so many bytes until they are sent. Raises TenantLimit, StoreSaturated."""
    if call.held is not None:
        call.held.grow(size)


def count(call: Call, document: Document) -> None:
    """Count what is read, until it is sent. Raises TenantLimit, StoreSaturated."""
    hold(call, len(document.encoded))


def fits(call: Call, document: Document) -> bool:
    """The same of what was written, for an answer can do without it."""
    try:
        count(call, document)
    except GatewayError:
        return False
    return True
