"""The writes of documents, as functions of a transaction.

They run inside a transaction that sqlite/write/group_commit.py begins and commits, so a precondition is
checked against exactly what is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.errors import GatewayError
from gateway.store import decide
from gateway.store.bulk import BulkOutcomes
from gateway.store.json.large import LIGHT_BYTES, LIGHT_PATCH, change, is_light
from gateway.store.model.document import (
    Document,
    LargeMembers,
    Members,
    new_id,
    to_text,
)
from gateway.store.model.idempotency import (
    IDEMPOTENCY_SECONDS,
    IdempotencyKey,
    Result,
    remembered_size,
    renewed,
    result_from_text,
    result_to_text,
)
from gateway.store.model.patch import BeyondBounds, LargePatch, Patch, apply
from gateway.store.model.write import (
    BulkBudget,
    Copied,
    Create,
    Outcome,
    Replace,
    Update,
    Write,
    Written,
    is_large_content,
)
from gateway.store.schema.checks import Postponed
from gateway.store.sqlite.documents import DELETE, INSERT, UPDATE, read_any
from gateway.store.sqlite.write import index as sqlite_index
from gateway.store.sqlite.write.state import State
from gateway.store.sqlite.write.transaction import Transaction

Data = dict[str, Any]
# What is to be written: the text and its size in bytes; the members, or of a large document its skeleton,
# which is what its indexes and its ttl need; and the same of what is there. A tuple: every write makes one.
Made = tuple[str | bytes, int, Data, Data]

ENTRY_COST = 256  # bytes that an entry of an index counts in the cost of a bulk

_READ_KEY = "SELECT fingerprint, result FROM idempotency WHERE key = ? AND at > ?"
_FORGET_KEY = "DELETE FROM idempotency WHERE key = ?"  # an old one; REPLACE would not count it off
_STORE_KEY = "INSERT INTO idempotency (key, fingerprint, at, result) VALUES (?, ?, ?, ?)"


class Prepared:
    """Members of a document with their text, made before the transaction begins. data: None of what came as
    text. Raises BodyTooLarge."""

    __slots__ = ("data", "is_large", "size", "text")

    def __init__(self, data: Members) -> None:
        self.data: Data | None = None
        self.text: str | bytes
        self.is_large = is_large_content(data)
        if isinstance(data, LargeMembers):
            self.text, self.size = data.text if self.is_large else data.text.decode(), len(data.text)
        else:
            self.data = dict(data)
            self.text, self.size = to_text(data)


def operation(collection: str, write: Write) -> Callable[[Transaction], Written | None]:
    """A write as a function of a transaction; None is the result of a deletion. Raises BodyTooLarge."""
    prepared = Prepared(write.data) if isinstance(write, (Create, Replace, Copied)) else None
    copied = write.heading if isinstance(write, Copied) else None

    def run(transaction: Transaction) -> Written | None:
        state = transaction.states.get(collection)
        if isinstance(write, Create):
            identifier, current = new_id(), None
        else:
            identifier, current = write.id, _current(transaction, state, write.id)
            decide.require(write, current, if_match=state.settings.require_if_match)
        if copied is not None and current is not None and current.incarnation != copied.incarnation:
            remove(transaction, state, current)  # the id has begun another life there
            current = None
        if prepared is not None:
            made = _made(transaction, state, current, prepared, identifier, checked=copied is None)
        elif isinstance(write, Update):
            assert current is not None
            made = _patched(transaction, state, current, write.patch)
        else:
            assert current is not None
            remove(transaction, state, current)
            return None
        return _store(transaction, state, current, identifier, made, copied)

    return run


def bulk(
    collection: str, writes: Sequence[Write], *, atomic: bool
) -> Callable[[Transaction], tuple[Outcome, ...]]:
    """Each write in a savepoint of its own; an atomic bulk raises AtomicFailure when one fails. What comes
    when its budget is used up fails too."""

    def run(transaction: Transaction) -> tuple[Outcome, ...]:
        budget = BulkBudget(atomic=atomic, clock=transaction.worked)
        found = BulkOutcomes(writes, budget, atomic=atomic)
        before = transaction.cost
        for write in writes:
            transaction.step()
            try:
                found.check(transaction.cost - before)
                written = transaction.attempt(operation(collection, write))
            except Postponed as error:  # the others are tried too, so that all are checked together
                found.failed(error, final=False)
            except GatewayError as error:
                found.failed(error, final=not transaction.checks.postponed)
            else:
                found.succeeded(written)
        transaction.checks.require()
        return found.outcomes

    return run


def remembered(
    key: IdempotencyKey, collection: str, operation: Callable[[Transaction], Any]
) -> Callable[[Transaction], Any]:
    """An operation on a collection that is done once however often it is sent: it gives its result, which is
    stored in its transaction, or the one that was stored before. Raises IdempotencyMismatch, and
    QuotaExceeded when there is no room to store it, unless it was a deletion."""

    def run(transaction: Transaction) -> Any:
        known = transaction.connection.execute(
            _READ_KEY, (key.key, transaction.now - IDEMPOTENCY_SECONDS)
        ).fetchone()
        if known is None:
            result = operation(transaction)
            text = result_to_text(result)
            if result is not None:
                transaction.require_bytes(remembered_size(key, text))
            transaction.connection.execute(_FORGET_KEY, (key.key,))
            transaction.connection.execute(_STORE_KEY, (key.key, key.fingerprint, transaction.now, text))
            transaction.states.recount()
            return result
        fingerprint, text = known
        key.require_same(fingerprint)
        key.mark_replayed()
        result = result_from_text(text)
        return renewed(result, _unchanged(transaction, collection, result))

    return run


def _unchanged(transaction: Transaction, collection: str, result: Result) -> Document | None:
    if not isinstance(result, Written) or result.document.whole:
        return None
    state = transaction.states.get(collection)
    current, expires = read_any(transaction.connection, state.key, result.document.id)
    return None if expires is not None and expires <= transaction.now else current


def remove(transaction: Transaction, state: State, current: Document) -> None:
    """Delete a document that is there."""
    if state.indexes:
        before = current.data if _light(current) else _worked(transaction, state, current, None)[3]
        _leave(transaction, state, current.id, before)
    transaction.connection.execute(DELETE, (state.key, current.id))
    decision = decide.deleted(current, current.size)
    transaction.count(state, decision.documents, decision.bytes)
    transaction.record(state, decision.kind, decision.id, decision.etag)


def _current(transaction: Transaction, state: State, identifier: str) -> Document | None:
    """The document that is there; one that has expired is deleted first."""
    current, expires = read_any(transaction.connection, state.key, identifier)
    transaction.add_cost(0 if current is None else len(current.encoded) or len(current.text))
    if current is not None and expires is not None and expires <= transaction.now:
        remove(transaction, state, current)
        return None
    return current


def _light(current: Document) -> bool:
    """Whether what is there may be parsed here."""
    return not current.encoded and is_light(current.text)


def _patched(transaction: Transaction, state: State, current: Document, patch: Patch) -> Made:
    """What a patch makes of the document that is there; by a worker process where that is no work for this
    thread."""
    if _light(current) and not is_large_content(patch):
        try:
            members = apply(patch, current.data, current.id, bounds=LIGHT_PATCH)
        except BeyondBounds:
            pass
        else:
            return _made(transaction, state, current, Prepared(members), current.id, checked=True)
    return _worked(transaction, state, current, None, patch)


def _made(
    transaction: Transaction,
    state: State,
    current: Document | None,
    prepared: Prepared,
    identifier: str,
    *,
    checked: bool,
) -> Made:
    """What members make of a document, or of what is there. checked: by the schema. Raises
    SchemaViolation."""
    if prepared.is_large or (current is not None and state.indexes and not _light(current)):
        return _worked(transaction, state, current, prepared, identifier=identifier, checked=checked)
    data = prepared.data
    if data is None:
        wanted = state.shape_of(identifier, checked=checked)
        data = {} if wanted.empty else json.loads(prepared.text)
    if checked and state.schema is not None:
        transaction.checks.check(state.schema, data, _decoded(prepared.text))
    before = current.data if current is not None and state.indexes else {}
    return prepared.text, prepared.size, data, before


def _worked(
    transaction: Transaction,
    state: State,
    current: Document | None,
    prepared: Prepared | None,
    patch: Patch | None = None,
    identifier: str = "",
    *,
    checked: bool = True,
) -> Made:
    """The same of a large document, by a worker process, unless nothing needs its members."""
    identifier = current.id if current is not None else identifier
    wanted = state.shape_of(identifier, checked=checked)
    new = None if prepared is None else _encoded(prepared.text)
    if patch is None and new is not None and wanted.empty:
        return new, len(new), {}, {}
    old = None if current is None else current.encoded or current.text.encode()
    patch_text = b""
    if isinstance(patch, LargePatch):
        patch, patch_text = LargePatch(patch.array, b""), patch.text
    text, before, data = transaction.run_job(change, old, new, wanted, patch, patch_text)
    text = text or new or b""
    whole = text if len(text) > LIGHT_BYTES else text.decode()
    return whole, len(text), data, before


def _decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode()


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _store(
    transaction: Transaction,
    state: State,
    current: Document | None,
    identifier: str,
    made: Made,
    copied: Document | None,
) -> Written:
    """Write a document over the current one, or a new one. copied: the heading that it has elsewhere. Raises
    QuotaExceeded, and Conflict."""
    text, size, data, before = made
    held = None if current is None else current.size
    if copied is None:
        decision = decide.stored(current, identifier, text, size, transaction.now, held)
    else:
        decision = decide.copied(current, copied, text, size, held)
    transaction.count(state, decision.documents, decision.bytes)
    transaction.add_cost(size)
    written = decision.written
    assert written is not None
    document, ttl = written.document, state.ttl_of(identifier)
    modified = document.modified
    expires = None if ttl is None else ttl.expires(modified, data)
    if current is None:
        born = document.version, document.incarnation, document.created, modified
        row = (state.key, identifier, *born, size, text, expires)
        transaction.connection.execute(INSERT, row)
    else:
        if state.indexes:
            _leave(transaction, state, identifier, before)
        change = (document.version, modified, size, text, expires, state.key, identifier)
        transaction.connection.execute(UPDATE, change)
    if state.indexes:
        _enter(transaction, state, identifier, data)
    transaction.record(state, decision.kind, identifier, decision.etag)
    return written


def _enter(transaction: Transaction, state: State, identifier: str, data: Data) -> None:
    """Enter a document into the indexes, over expired ones that hold its unique values. Raises Conflict."""
    for stored in state.indexes_of(identifier):
        if stored.index.unique:
            holder = sqlite_index.holder(transaction.connection, stored, data)
            if holder is not None:
                _current(transaction, state, holder)
    mark = transaction.entries.mark()
    sqlite_index.add(transaction.connection, transaction.entries, state, identifier, data)
    transaction.add_cost(ENTRY_COST * (transaction.entries.mark() - mark))


def _leave(transaction: Transaction, state: State, identifier: str, data: Data) -> None:
    """Take a document out of the indexes."""
    mark = transaction.entries.mark()
    sqlite_index.remove(transaction.connection, transaction.entries, state, identifier, data)
    transaction.add_cost(ENTRY_COST * (transaction.entries.mark() - mark))
