"""The digest of a collection: the sum of its documents' digests, so that it does not depend on their order,
and is kept up to date when one of them changes. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.store.model.document import Document

_MODULUS = 2**256


def digest(document: Document | None) -> int:
    """Of a document with its version and its instants; 0 of none."""
    if document is None:
        return 0
    head = f"{document.id}\0{document.etag}\0{document.created!r}\0{document.modified!r}\0"
    text = document.encoded or document.text.encode()
    return int.from_bytes(hashlib.sha256(head.encode() + text).digest())


@dataclass(slots=True)
class Tally:
    """What one store has of a collection."""

    documents: int = 0
    sum: int = 0

    def replace(self, old: int, new: int) -> None:
        """A document changed from one digest to another."""
        self.documents += (new != 0) - (old != 0)
        self.sum = (self.sum + new - old) % _MODULUS

    @property
    def text(self) -> str:
        """The digest, as 64 hexadecimal digits."""
        return f"{self.sum:064x}"
