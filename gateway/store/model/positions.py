"""Where a page ended, as a cursor holds it: short enough for a URL.

Of a long text a cursor holds the beginning and a digest. The next page takes the whole text from the document
that the position names, as long as it has that text. When it was changed or deleted meanwhile, the list goes
on before all documents whose text begins so: some may come twice, and none is left out.
"""

from __future__ import annotations

import hashlib

from gateway.store.json.strict import quote
from gateway.store.model.indexing import ENTRY_TEXT

MAX_TEXT = 1000  # characters of a text
_ROOM = 3000  # bytes of all texts of a cursor, as JSON; each may have ENTRY_TEXT characters in any case


def shorten(text: str, keys: int) -> tuple[str, str]:
    """What a cursor holds of a text, which is one of so many: its beginning and the digest of the whole; no
    digest when that is the whole."""
    begin = text[:MAX_TEXT]
    room = _ROOM // keys
    if _size(begin) > room:
        fits, beyond = ENTRY_TEXT, len(begin)
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if _size(begin[:middle]) <= room else (fits, middle)
        begin = begin[:fits]
    return begin, "" if len(begin) == len(text) else digest(text)


def digest(text: str) -> str:
    """Tells long texts apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _size(text: str) -> int:
    return len(quote(text).encode())
