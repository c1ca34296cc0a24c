"""Idempotency keys, and the results of writes that are remembered with them.

A write that was done is remembered with its key, in its own transaction, for IDEMPOTENCY_SECONDS: the same
key and fingerprint give its result again, and nothing is written; another fingerprint raises
IdempotencyMismatch; while the first write still runs, IdempotencyRunning. A write that failed changed nothing
and is not remembered (the outcomes of a bulk that is not atomic are, with its failures).

Of a document, only the version is remembered that the write made, and its text where that is short: whole
documents, kept for a day, would be many times what the tenant's quota allows. A replay reads the document
anew, and gives it while it is that version still; else its text is empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from gateway.core.errors import BadRequest, IdempotencyMismatch, IdempotencyRunning
from gateway.store.json.strict import dumps
from gateway.store.model.document import Document
from gateway.store.model.write import Outcome, Written

IDEMPOTENCY_SECONDS = 24 * 3600.0
MAX_KEY = 255
KEY_BYTES = 128  # what a remembered write takes besides its key and its result
SHORT_TEXT = 256  # characters; the rest of what is remembered takes as much
_SHORT_ERROR = 1024  # characters; a longer error is remembered without its `errors`

Result = Written | tuple[Outcome, ...] | None  # None: of a deletion


@dataclass(slots=True)
class IdempotencyKey:
    """An `Idempotency-Key` of 1 to MAX_KEY visible ASCII characters (else BadRequest), and the fingerprint of
    its request: a digest of whatever makes two requests the same one (subject, method, path, preconditions,
    body).

    replayed: whether the result that the store gives is a remembered one.
    """

    key: str
    fingerprint: bytes = field(repr=False)
    replayed: bool = field(default=False, init=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= MAX_KEY or not all(" " <= c <= "~" for c in self.key):
            raise BadRequest(f"An Idempotency-Key is 1 to {MAX_KEY} visible ASCII characters.")

    def mark_replayed(self) -> None:
        """Called by the store: the result that it gives is a remembered one."""
        self.replayed = True

    def require_same(self, fingerprint: bytes) -> None:
        """fingerprint: of the request that is remembered with the key. Raises IdempotencyMismatch for another
        one than its own."""
        if fingerprint != self.fingerprint:
            detail = "This Idempotency-Key came with another request before. Choose a new one."
            raise IdempotencyMismatch(detail)


def still_running() -> IdempotencyRunning:
    """The error of a key whose first request has not ended."""
    return IdempotencyRunning("The first request with this Idempotency-Key has not ended.")


def result_to_text(result: Result) -> str:
    """A result as it is remembered, in JSON."""
    if result is None:
        return "null"
    if isinstance(result, Written):
        document = result.document
        short = document.text if len(document.text) <= SHORT_TEXT else ""
        *row, _, _ = astuple(document)
        return dumps({"document": [*row, short], "created": result.created})
    return dumps({"outcomes": [(o.status, o.id, o.etag, _shortened(o.error)) for o in result]})


def result_from_text(text: str) -> Result:
    """The remembered result. The document of a Written has no text where that was not remembered."""
    value = json.loads(text)
    if value is None:
        return None
    if "outcomes" in value:
        return tuple(Outcome(*outcome) for outcome in value["outcomes"])
    return Written(Document(*value["document"]), value["created"])


def remembered_size(key: IdempotencyKey, text: str) -> int:
    """The bytes that a remembered result counts for in the tenant's quota."""
    return KEY_BYTES + len(key.key) + len(text.encode())


def renewed(result: Result, current: Document | None) -> Result:
    """The result with the document's text, if `current`, the document as it is now, is that version still."""
    if not isinstance(result, Written) or result.document.whole:
        return result
    if current is None or current.etag != result.document.etag:
        return result
    return Written(current, result.created)


def _shortened(error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if error is None or len(dumps(error)) <= _SHORT_ERROR:
        return error
    return {name: str(error[name])[: _SHORT_ERROR // 4] for name in ("code", "title", "detail")}
