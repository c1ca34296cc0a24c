"""Cursors: where a page ended, in a text that its client sends back to get the next page.

A cursor is base64url of `<16 bytes of HMAC-SHA256> <JSON of the position>`. The HMAC covers the tenant and
the list (collection, filter, sort), so a cursor of another tenant or another list is refused just as a
forged one is.

A cursor is short enough for a URL. Of a long text it holds the beginning and a digest. The next page takes
the whole text from the document that the position names, as long as it has that text. When it was changed or
deleted meanwhile, the list continues before all documents with a text that begins so: some may come twice,
and none is left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from gateway.core.errors import BadRequest
from gateway.core.model import TenantId
from gateway.store.json import strict
from gateway.store.json.strict import quote
from gateway.store.model.indexing import ENTRY_TEXT

FORMAT = "1"  # part of what is signed: a cursor of an older format is refused
MIN_KEY_BYTES = 32
MAX_TEXT = 1000  # characters of a text in a position
_MAC_BYTES = 16
_MAX_LENGTH = 8192
_MAX_TEXTS = 3000  # bytes of all texts of a position, as JSON; each may always have ENTRY_TEXT characters


class Cursors:
    """Makes and reads the cursors of one tenant. key: the secret that signs them, MIN_KEY_BYTES or more."""

    def __init__(self, key: bytes, tenant: TenantId) -> None:
        self._key = key
        self._tenant = tenant.value

    def seal(self, scope: tuple[str, ...], position: list[Any]) -> str:
        """The cursor of a position (any JSON) in the list that `scope` names."""
        body = strict.dumps(position).encode()
        return base64.urlsafe_b64encode(self._mac(scope, body) + body).rstrip(b"=").decode()

    def open(self, scope: tuple[str, ...], cursor: str) -> list[Any]:
        """The position of a cursor of the list that `scope` names. Raises BadRequest, the same for every
        reason."""
        raw = _decode(cursor)
        if raw is None or not hmac.compare_digest(raw[:_MAC_BYTES], self._mac(scope, raw[_MAC_BYTES:])):
            raise BadRequest("The cursor is not one of this list. Begin again without it.")
        position: list[Any] = json.loads(raw[_MAC_BYTES:])
        return position

    def _mac(self, scope: tuple[str, ...], body: bytes) -> bytes:
        # As JSON, so that no two lists of parts give the same bytes.
        signed = json.dumps([FORMAT, self._tenant, *scope]).encode() + b"\0" + body
        return hmac.digest(self._key, signed, hashlib.sha256)[:_MAC_BYTES]


def _decode(cursor: str) -> bytes | None:
    if len(cursor) > _MAX_LENGTH or not cursor.isascii():
        return None
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None


def shorten(text: str, keys: int) -> tuple[str, str]:
    """What a position holds of a text, one of so many (`keys`): its beginning, and the digest of the whole
    text; an empty digest when the beginning is all of it."""
    begin = text[:MAX_TEXT]
    most = _MAX_TEXTS // keys
    if _size(begin) > most:
        fits, beyond = ENTRY_TEXT, len(begin)
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if _size(begin[:middle]) <= most else (fits, middle)
        begin = begin[:fits]
    return begin, "" if len(begin) == len(text) else digest(text)


def digest(text: str) -> str:
    """Tells long texts apart that begin alike: 128 bits of SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _size(text: str) -> int:
    return len(quote(text).encode())
