"""Writes that are done once however often they are sent: their results are stored in their transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.errors import IdempotencyMismatch
from gateway.store import results
from gateway.store.sqlite_transaction import Transaction
from gateway.store.write import IDEMPOTENCY_SECONDS, IdempotencyKey

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
            row = (key.key, key.fingerprint, transaction.now, results.to_text(result))
            transaction.connection.execute(_STORE, row)
            return result
        fingerprint, text = known
        if fingerprint != key.fingerprint:
            detail = "This Idempotency-Key came with another request before. Choose a new one."
            raise IdempotencyMismatch(detail)
        key.replayed = True
        return results.from_text(text)

    return run
