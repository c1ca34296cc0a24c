"""Responses with documents. A large one goes out in pieces, as it is stored, as fast as its client reads;
what waits to be read counts in the memory of its tenant, as the bodies of requests do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlencode

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.documents.request import head
from gateway.edge.response.stream import Stream
from gateway.store.json import representation
from gateway.store.model.document import UNCONDITIONAL, Document, Precondition

LARGE_PAGE = 256 * 1024  # bytes or characters, beyond which a page goes out in pieces
# A Link header is left out when its value would be longer: `next` is in the body too, and many clients
# refuse header lines of more than 8 KiB.
MAX_LINK = 7000
_PIECE = 64 * 1024  # bytes


_PRIVATE = b"Cache-Control: private, no-cache\r\n"
_PRIVATE_JSON = b"Content-Type: application/json\r\n" + _PRIVATE


def read(precondition: Precondition, document: Document) -> tuple[int, bytes, bytes]:
    """The response to a read by id: status, header lines, body. 200, or 304 when the client has the document
    already; of a large document the body is left out, for it goes out in pieces (`large_document`). Raises
    PreconditionFailed."""
    etag = document.etag
    if precondition is not UNCONDITIONAL and head.is_current(precondition, etag):
        return 304, b"ETag: %b\r\n%b" % (etag.encode(), _PRIVATE), b""
    body = b"" if document.encoded else representation.body(document).encode()
    return 200, b"ETag: %b\r\n%b" % (etag.encode(), _PRIVATE_JSON), body


def json_response(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    """A response of JSON that is text already: what is stored is not parsed and encoded again."""
    return web.Response(status=status, body=text.encode(), content_type="application/json", headers=headers)


def page_headers(path: str, parameters: Mapping[str, str], cursor: str | None) -> dict[str, str]:
    """The headers of a page; with a cursor also Link, the path of the next page (RFC 8288). parameters: those
    of this page."""
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "private, no-cache"}
    if cursor is not None:
        value = f'<{path}?{urlencode({**parameters, "cursor": cursor})}>; rel="next"'
        if len(value) <= MAX_LINK:
            headers[hdrs.LINK] = value
    return headers


class LargeResponse(web.StreamResponse):
    """A response that is sent in pieces when all else of the call is done: a client may read for longer than
    the call may take. pieces: of the body, JSON of `length` bytes in all."""

    def __init__(self, status: int, pieces: Iterator[bytes], length: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status)
        self._body_pieces = pieces
        self._size = length
        self._more = headers

    async def send(self, call: Call) -> web.StreamResponse:
        """Raises ConnectionError when the client left, RequestTimeout when it does not read any more."""
        with Stream(call, "application/json", self._more, status=self.status, length=self._size) as stream:
            if call.method != "HEAD":
                for piece in self._body_pieces:
                    await stream.write(piece)
                    await asyncio.sleep(0)  # the kernel may take megabytes before a write has to wait
            return await stream.end()


def large_document(status: int, document: Document, headers: Mapping[str, str]) -> LargeResponse:
    """The response of a document that is `encoded`, whose bytes the call holds (`hold_document`)."""
    pieces = representation.pieces(document, _PIECE)
    return LargeResponse(status, pieces, representation.body_length(document), headers)


def page_response(
    call: Call, parts: Sequence[bytes | memoryview], headers: Mapping[str, str]
) -> web.StreamResponse:
    """200 with a body that is made of these parts; the bytes of a large one are held until it is sent, in
    pieces. Raises TenantLimit, StoreSaturated."""
    size = sum(map(len, parts))
    if size <= LARGE_PAGE:
        return web.Response(body=b"".join(parts), content_type="application/json", headers=headers)
    _hold(call, size)
    return LargeResponse(200, cut(parts, _PIECE), size, headers)


def cut(parts: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """The bytes of all parts in pieces of this size; a part is copied piece by piece, never as a whole."""
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


def hold_document(call: Call, document: Document) -> None:
    """Count the bytes of a large document in its tenant's memory, until the response is sent. Raises
    TenantLimit, StoreSaturated."""
    _hold(call, len(document.encoded))


def try_hold_document(call: Call, document: Document) -> bool:
    """As hold_document; False where there is no room, for a response that can do without the document."""
    try:
        hold_document(call, document)
    except GatewayError:
        return False
    return True


def _hold(call: Call, size: int) -> None:
    if call.held is not None:
        call.held.grow(size)
