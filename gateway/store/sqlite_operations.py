"""The writes of documents, as functions of a transaction.

They run inside a transaction that sqlite_writes.py begins and commits, so a precondition is checked against
exactly what is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway import threads
from gateway.core.errors import GatewayError, NotFound, PreconditionRequired, RolledBack
from gateway.store import schema, sqlite_index
from gateway.store.document import (
    Document,
    Precondition,
    new_id,
    new_incarnation,
    to_text,
)
from gateway.store.patch import Patch, apply
from gateway.store.sqlite_documents import DELETE, INSERT, UPDATE, read_any
from gateway.store.sqlite_state import State
from gateway.store.sqlite_transaction import CREATED, DELETED, UPDATED, Transaction
from gateway.store.write import (
    BulkBudget,
    Create,
    Delete,
    Outcome,
    Replace,
    Update,
    Write,
    Written,
    failed,
    id_of,
    succeeded,
)

Data = dict[str, Any]
PREPARE_INLINE = 64 * 1024  # characters
ENTRY_COST = 256  # bytes that an entry of an index counts in the cost of a bulk


class Prepared:
    """Members of a document with their text, made before the transaction begins. Raises BodyTooLarge."""

    def __init__(self, data: Any) -> None:
        self.data: Data = data
        self.text, self.size = to_text(data)


async def prepare_document(data: Mapping[str, Any]) -> Prepared:
    """As Prepared, of a large document in a thread: its text takes up to a sixth of a second."""
    return await threads.run(threads.PARSE, Prepared, data) if _is_large(data) else Prepared(data)


def _is_large(data: Mapping[str, Any]) -> bool:
    """Whether the text is longer than PREPARE_INLINE, roughly: a look of a few microseconds at small ones."""
    left = PREPARE_INLINE
    values: list[Any] = [data]
    while values:
        value = values.pop()
        if isinstance(value, str):
            left -= len(value)
        elif isinstance(value, list | dict):
            left -= 8 * len(value) + (sum(map(len, value)) if isinstance(value, dict) else 0)
        if left < 0:
            return True
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            values += value.values()
    return False


def prepare(collection: str, write: Write) -> Callable[[Transaction], Written | None]:
    """A write as an operation; None is the result of a deletion. Raises BodyTooLarge."""
    match write:
        case Create(data):
            return create(collection, Prepared(data))
        case Replace(identifier, data, precondition):
            return replace(collection, identifier, Prepared(data), precondition)
        case Update(identifier, change, precondition):
            return patch(collection, identifier, change, precondition)
        case Delete(identifier, precondition):
            return delete(collection, identifier, precondition)


def create(collection: str, prepared: Prepared) -> Callable[[Transaction], Written]:
    def operation(transaction: Transaction) -> Written:
        state = transaction.states.get(collection)
        return Written(_insert(transaction, state, new_id(), prepared), True)

    return operation


def replace(
    collection: str, identifier: str, prepared: Prepared, precondition: Precondition
) -> Callable[[Transaction], Written]:
    def operation(transaction: Transaction) -> Written:
        state = transaction.states.get(collection)
        current = _current(transaction, state, identifier)
        precondition.require(current.etag if current else None)
        if current is None:
            return Written(_insert(transaction, state, identifier, prepared), True)
        _require_if_match(state, precondition)
        return Written(_update(transaction, state, current, prepared), False)

    return operation


def patch(
    collection: str, identifier: str, change: Patch, precondition: Precondition
) -> Callable[[Transaction], Written]:
    def operation(transaction: Transaction) -> Written:
        state, current = _require(transaction, collection, identifier, precondition)
        prepared = Prepared(apply(change, current.data))
        return Written(_update(transaction, state, current, prepared), False)

    return operation


def delete(
    collection: str, identifier: str, precondition: Precondition
) -> Callable[[Transaction], None]:
    def operation(transaction: Transaction) -> None:
        state, current = _require(transaction, collection, identifier, precondition)
        remove(transaction, state, current)

    return operation


def bulk(
    collection: str, writes: Sequence[Write], *, atomic: bool
) -> Callable[[Transaction], tuple[Outcome, ...]]:
    """Each write in a savepoint of its own; an atomic bulk raises AtomicFailure when one fails. What comes
    when its budget is used up fails too."""

    def operation(transaction: Transaction) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        budget = BulkBudget(atomic=atomic)
        before = transaction.cost
        for write in writes:
            try:
                budget.check(transaction.cost - before)
                written = transaction.attempt(prepare(collection, write))
            except GatewayError as error:
                if atomic:
                    raise AtomicFailure(_rolled_back(writes, len(outcomes), error)) from None
                outcomes.append(failed(error, id_of(write)))
            else:
                outcomes.append(succeeded(written, id_of(write)))
        return tuple(outcomes)

    return operation


class AtomicFailure(GatewayError):
    """Carries the outcomes of an atomic bulk out of its savepoint."""

    def __init__(self, outcomes: tuple[Outcome, ...]) -> None:
        super().__init__()
        self.outcomes = outcomes


def _rolled_back(writes: Sequence[Write], at: int, error: GatewayError) -> tuple[Outcome, ...]:
    others = RolledBack(f"Operation {at} of the bulk failed, so nothing was written.")
    return tuple(
        failed(error if index == at else others, id_of(write)) for index, write in enumerate(writes)
    )


def remove(transaction: Transaction, state: State, current: Document) -> None:
    """Delete a document that is there."""
    if state.indexes:
        _leave(transaction, state, current)
    transaction.connection.execute(DELETE, (state.key, current.id))
    transaction.count(state, -1, -len(current.text.encode()))
    transaction.record(state, DELETED, current.id, current.etag)


def _current(transaction: Transaction, state: State, identifier: str) -> Document | None:
    """The document that is there; one that has expired is deleted first."""
    current, expires = read_any(transaction.connection, state.key, identifier)
    transaction.cost += 0 if current is None else len(current.text)
    if current is not None and expires is not None and expires <= transaction.now:
        remove(transaction, state, current)
        return None
    return current


def _require(
    transaction: Transaction, collection: str, identifier: str, precondition: Precondition
) -> tuple[State, Document]:
    """The document. A missing one is NotFound whatever was asked of it (RFC 9110 section 13.2.1)."""
    state = transaction.states.get(collection)
    current = _current(transaction, state, identifier)
    if current is None:
        raise NotFound()
    precondition.require(current.etag)
    _require_if_match(state, precondition)
    return state, current


def _require_if_match(state: State, precondition: Precondition) -> None:
    if state.settings.require_if_match and precondition.match is None:
        raise PreconditionRequired("This collection wants If-Match with every change of a document.")


def _insert(transaction: Transaction, state: State, identifier: str, prepared: Prepared) -> Document:
    if state.validator is not None:
        schema.check(state.validator, prepared.data)
    transaction.count(state, 1, prepared.size)
    transaction.cost += prepared.size
    now = transaction.now
    document = Document(identifier, 1, new_incarnation(), now, now, prepared.text)
    row = (state.key, identifier, 1, document.incarnation, now, now, prepared.size, prepared.text)
    transaction.connection.execute(INSERT, (*row, _expires(state, identifier, now, prepared.data)))
    if state.indexes:
        _enter(transaction, state, identifier, prepared.data)
    transaction.record(state, CREATED, identifier, document.etag)
    return document


def _update(transaction: Transaction, state: State, current: Document, prepared: Prepared) -> Document:
    if state.validator is not None:
        schema.check(state.validator, prepared.data)
    transaction.count(state, 0, prepared.size - len(current.text.encode()))
    transaction.cost += prepared.size
    version, now = current.version + 1, transaction.now
    if state.indexes:
        _leave(transaction, state, current)
    row = (version, now, prepared.size, prepared.text, _expires(state, current.id, now, prepared.data))
    transaction.connection.execute(UPDATE, (*row, state.key, current.id))
    if state.indexes:
        _enter(transaction, state, current.id, prepared.data)
    document = Document(current.id, version, current.incarnation, current.created, now, prepared.text)
    transaction.record(state, UPDATED, current.id, document.etag)
    return document


def _enter(transaction: Transaction, state: State, identifier: str, data: Data) -> None:
    """Enter a document into the indexes, over expired ones that hold its unique values. Raises Conflict."""
    for stored in state.indexes_of(identifier):
        if stored.index.unique:
            holder = sqlite_index.holder(transaction.connection, stored, data)
            if holder is not None:
                _current(transaction, state, holder)
    mark = transaction.entries.mark()
    sqlite_index.add(transaction.connection, transaction.entries, state, identifier, data)
    transaction.cost += ENTRY_COST * (transaction.entries.mark() - mark)


def _leave(transaction: Transaction, state: State, current: Document) -> None:
    """Take a document out of the indexes."""
    mark = transaction.entries.mark()
    sqlite_index.remove(transaction.connection, transaction.entries, state, current.id, current.data)
    transaction.cost += ENTRY_COST * (transaction.entries.mark() - mark)


def _expires(state: State, identifier: str, modified: float, data: Data) -> float | None:
    ttl = state.ttl_of(identifier)
    return None if ttl is None else ttl.expires(modified, data)
