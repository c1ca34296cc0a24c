"""Cursors: where a page ended, signed over whose list it was.

A cursor is base64url of `<16 bytes of HMAC-SHA256> <JSON of the position>`. The HMAC covers the tenant and
the list (collection, filter, sort), so a cursor of another tenant or another list is refused just as a
forged one is.
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

FORMAT = "1"  # part of what is signed: a cursor of an older format is refused
MIN_KEY_BYTES = 32
_MAC_BYTES = 16
_MAX_LENGTH = 8192


class Cursors:
    """Makes and reads the cursors of one tenant."""

    def __init__(self, key: bytes, tenant: TenantId) -> None:
        self._key = key
        self._tenant = tenant.value

    def seal(self, scope: tuple[str, ...], position: list[Any]) -> str:
        """The cursor of a position (any JSON) in the list that `scope` names."""
        body = strict.dumps(position).encode()
        return base64.urlsafe_b64encode(self._mac(scope, body) + body).rstrip(b"=").decode()

    def open(self, scope: tuple[str, ...], cursor: str) -> list[Any]:
        """The position. Raises BadRequest, the same for every reason."""
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
