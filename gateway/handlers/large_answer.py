"""The answer that is a large document: its text goes out in pieces, as it is stored, as fast as its client
reads. What waits to be read counts in the memory of its tenant, as the bodies of requests do."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.edge.stream import Stream
from gateway.store import representation
from gateway.store.document import Document

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
            return await stream.end()


def count(call: Call, document: Document) -> None:
    """Count what is read, until it is sent. Raises TenantLimit, StoreSaturated."""
    if call.held is not None:
        call.held.grow(len(document.encoded))


def fits(call: Call, document: Document) -> bool:
    """The same of what was written, for an answer can do without it."""
    try:
        count(call, document)
    except GatewayError:
        return False
    return True
