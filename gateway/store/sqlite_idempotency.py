"""Writes that are done once however often they are sent: their results are stored in their transactions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

from gateway.core.errors import IdempotencyMismatch
from gateway.store.document import Document
from gateway.store.sqlite_transaction import Transaction
from gateway.store.strict_json import dumps
from gateway.store.write import IDEMPOTENCY_SECONDS, IdempotencyKey, Outcome, Written

Result = Written | tuple[Outcome, ...] | None

_READ = "SELECT fingerprint, result FROM idempotency WHERE key = ? AND at > ?"
_STORE = "INSERT OR REPLACE INTO idempotency (key, fingerprint, at, result) VALUES (?, ?, ?, ?)"


def once(key: IdempotencyKey, operation: Callable[[Transaction], Any]) -> Callable[[Transaction], Any]:
    """The operation, or what it gave when it was done before. Raises IdempotencyMismatch."""

    def run(transaction: Transaction) -> Any:
        known = transaction.connection.execute(
            _READ, (key.key, transaction.now - IDEMPOTENCY_SECONDS)
        ).fetchone()
        if known is None:
            result = operation(transaction)
            row = (key.key, key.fingerprint, transaction.now, _to_text(result))
            transaction.connection.execute(_STORE, row)
            return result
        fingerprint, text = known
        if fingerprint != key.fingerprint:
            detail = "This Idempotency-Key came with another request before. Choose a new one."
            raise IdempotencyMismatch(detail)
        key.replayed = True
        return _from_text(text)

    return run


def _to_text(result: Result) -> str:
    if result is None:
        return "null"
    if isinstance(result, Written):
        return dumps({"document": astuple(result.document), "created": result.created})
    return dumps({"outcomes": [(o.status, o.id, o.etag, o.error) for o in result]})


def _from_text(text: str) -> Result:
    value = json.loads(text)
    if value is None:
        return None
    if "outcomes" in value:
        return tuple(Outcome(*outcome) for outcome in value["outcomes"])
    return Written(Document(*value["document"]), value["created"])
