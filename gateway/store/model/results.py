"""The results of writes as text: what is remembered with an Idempotency-Key.

Of a document that is its version, and its text only where that is short: whole ones, kept for a day, would be
many times what the tenant's quota allows. The replay reads the document anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from gateway.store.json.strict import dumps
from gateway.store.model.document import Document
from gateway.store.model.write import KEY_BYTES, IdempotencyKey, Outcome, Written

Result = Written | tuple[Outcome, ...] | None  # None: of a deletion

SHORT_TEXT = 256  # characters; the rest of what is remembered takes as much
_SHORT_ERROR = 1024  # characters; what is longer is remembered without its places


def to_text(result: Result) -> str:
    if result is None:
        return "null"
    if isinstance(result, Written):
        document = result.document
        short = document.text if len(document.text) <= SHORT_TEXT else ""
        *row, _, _ = astuple(document)
        return dumps({"document": [*row, short], "created": result.created})
    return dumps({"outcomes": [(o.status, o.id, o.etag, _short(o.error)) for o in result]})


def from_text(text: str) -> Result:
    """The document of a Written has no text, where that was not remembered."""
    value = json.loads(text)
    if value is None:
        return None
    if "outcomes" in value:
        return tuple(Outcome(*outcome) for outcome in value["outcomes"])
    return Written(Document(*value["document"]), value["created"])


def size(key: IdempotencyKey, text: str) -> int:
    """The bytes that a remembered result counts for."""
    return KEY_BYTES + len(key.key) + len(text.encode())


def renewed(result: Result, current: Document | None) -> Result:
    """The result with the document's text, if that is the version still. current: the document as it is."""
    if not isinstance(result, Written) or result.document.whole:
        return result
    if current is None or current.etag != result.document.etag:
        return result
    return Written(current, result.created)


def _short(error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if error is None or len(dumps(error)) <= _SHORT_ERROR:
        return error
    return {name: str(error[name])[:_SHORT_ERROR // 4] for name in ("code", "title", "detail")}
