"""Writes that are done once however often they are sent: their results are stored in their transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.errors import IdempotencyMismatch
from gateway.store.model.document import Document
from gateway.store.model.idempotency import (
    IDEMPOTENCY_SECONDS,
    IdempotencyKey,
    Result,
    remembered_size,
    renewed,
    result_from_text,
    result_to_text,
)
from gateway.store.model.write import Written
from gateway.store.sqlite.documents import read_any
from gateway.store.sqlite.write.transaction import Transaction

_READ = "SELECT fingerprint, result FROM idempotency WHERE key = ? AND at > ?"
_FORGET = "DELETE FROM idempotency WHERE key = ?"  # an old one; REPLACE would not count it off
_STORE = "INSERT INTO idempotency (key, fingerprint, at, result) VALUES (?, ?, ?, ?)"


def once(
    key: IdempotencyKey, collection: str, operation: Callable[[Transaction], Any]
) -> Callable[[Transaction], Any]:
    """The operation on a collection, or what it gave when it was done before. Raises IdempotencyMismatch, and
    QuotaExceeded when there is no room to remember it, unless it was a deletion."""

    def run(transaction: Transaction) -> Any:
        known = transaction.connection.execute(
            _READ, (key.key, transaction.now - IDEMPOTENCY_SECONDS)
        ).fetchone()
        if known is None:
            result = operation(transaction)
            text = result_to_text(result)
            if result is not None:
                transaction.require_bytes(remembered_size(key, text))
            transaction.connection.execute(_FORGET, (key.key,))
            transaction.connection.execute(_STORE, (key.key, key.fingerprint, transaction.now, text))
            transaction.states.recount()
            return result
        fingerprint, text = known
        if fingerprint != key.fingerprint:
            detail = "This Idempotency-Key came with another request before. Choose a new one."
            raise IdempotencyMismatch(detail)
        key.replayed = True
        remembered = result_from_text(text)
        return renewed(remembered, _current(transaction, collection, remembered))

    return run


def _current(transaction: Transaction, collection: str, result: Result) -> Document | None:
    if not isinstance(result, Written) or result.document.whole:
        return None
    state = transaction.states.get(collection)
    current, expires = read_any(transaction.connection, state.key, result.document.id)
    return None if expires is not None and expires <= transaction.now else current
