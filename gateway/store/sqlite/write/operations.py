"""The writes of documents, as functions of a transaction.

They run inside a transaction that sqlite/write/group_commit.py begins and commits, so a precondition is
checked against exactly what is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.errors import GatewayError, NotFound, PreconditionRequired, RolledBack
from gateway.store.json.large import LIGHT_BYTES, LIGHT_PATCH, change, is_light
from gateway.store.model.document import (
    Document,
    LargeMembers,
    Members,
    Precondition,
    new_id,
    new_incarnation,
    to_text,
)
from gateway.store.model.patch import BeyondBounds, LargePatch, Patch, apply
from gateway.store.model.write import (
    BulkBudget,
    Create,
    Delete,
    Outcome,
    Replace,
    Update,
    Write,
    Written,
    brings_much,
    failed,
    id_of,
    succeeded,
)
from gateway.store.schema.checks import Postponed
from gateway.store.sqlite.documents import DELETE, INSERT, UPDATE, from_row, read_any
from gateway.store.sqlite.write import index as sqlite_index
from gateway.store.sqlite.write.state import State
from gateway.store.sqlite.write.transaction import CREATED, DELETED, UPDATED, Transaction

Data = dict[str, Any]
ENTRY_COST = 256  # bytes that an entry of an index counts in the cost of a bulk


class Prepared:
    """Members of a document with their text, made before the transaction begins. data: None of what came as
    text. Raises BodyTooLarge."""

    __slots__ = ("data", "is_large", "size", "text")

    def __init__(self, data: Members) -> None:
        self.data: Data | None = None
        self.text: str | bytes
        self.is_large = brings_much(data)
        if isinstance(data, LargeMembers):
            self.text, self.size = data.text if self.is_large else data.text.decode(), len(data.text)
        else:
            self.data = dict(data)
            self.text, self.size = to_text(data)


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
        made = _made(transaction, state, current, prepared)
        return Written(_update(transaction, state, current, made), False)

    return operation


def patch(
    collection: str, identifier: str, wanted: Patch, precondition: Precondition
) -> Callable[[Transaction], Written]:
    def operation(transaction: Transaction) -> Written:
        state, current = _require(transaction, collection, identifier, precondition)
        patched = _patched(current, wanted)
        if patched is None:
            made = _worked(transaction, state, current, None, wanted)
        else:
            made = _made(transaction, state, current, patched)
        return Written(_update(transaction, state, current, made), False)

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
        budget = BulkBudget(atomic=atomic, clock=transaction.worked)
        before = transaction.cost
        for write in writes:
            transaction.step()
            try:
                budget.check(transaction.cost - before)
                written = transaction.attempt(prepare(collection, write))
            except Postponed as error:  # the others are looked at too, so that all are checked together
                outcomes.append(failed(error, id_of(write)))
            except GatewayError as error:
                if atomic and not transaction.checks.postponed:
                    raise AtomicFailure(_rolled_back(writes, len(outcomes), error)) from None
                outcomes.append(failed(error, id_of(write)))
            else:
                outcomes.append(succeeded(written, id_of(write)))
        transaction.checks.require()
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
        before = current.data if _light(current) else _worked(transaction, state, current, None).before
        _leave(transaction, state, current.id, before)
    transaction.connection.execute(DELETE, (state.key, current.id))
    transaction.count(state, -1, -current.size)
    transaction.record(state, DELETED, current.id, current.etag)


def _current(transaction: Transaction, state: State, identifier: str) -> Document | None:
    """The document that is there; one that has expired is deleted first."""
    current, expires = read_any(transaction.connection, state.key, identifier)
    transaction.cost += 0 if current is None else len(current.encoded) or len(current.text)
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


class Made:
    """What is to be written. data: the members, or of a large document its skeleton: what its indexes and its
    ttl look at; before: the same of what is there."""

    __slots__ = ("before", "data", "size", "text")

    def __init__(self, text: str | bytes, size: int, data: Data, before: Data) -> None:
        self.text, self.size, self.data, self.before = text, size, data, before


def _light(current: Document) -> bool:
    """Whether what is there may be parsed here."""
    return not current.encoded and is_light(current.text)


def _patched(current: Document, wanted: Patch) -> Prepared | None:
    """A document as its patch makes it; None where that is no work for this thread."""
    if not _light(current) or brings_much(wanted):
        return None
    try:
        return Prepared(apply(wanted, current.data, current.id, bounds=LIGHT_PATCH))
    except BeyondBounds:
        return None


def _made(
    transaction: Transaction,
    state: State,
    current: Document | None,
    prepared: Prepared,
    identifier: str = "",
) -> Made:
    """identifier: of a new document. Raises SchemaViolation."""
    if prepared.is_large or (current is not None and state.indexes and not _light(current)):
        return _worked(transaction, state, current, prepared, identifier=identifier)
    data = prepared.data
    if data is None:
        wanted = state.shape_of(current.id if current is not None else identifier)
        data = {} if wanted.empty else json.loads(prepared.text)
    if state.schema is not None:
        transaction.checks.check(state.schema, data, _decoded(prepared.text))
    before = current.data if current is not None and state.indexes else {}
    return Made(prepared.text, prepared.size, data, before)


def _worked(
    transaction: Transaction,
    state: State,
    current: Document | None,
    prepared: Prepared | None,
    patch: Patch | None = None,
    identifier: str = "",
) -> Made:
    """The same of a large document, by a worker process, unless nobody looks into it."""
    identifier = current.id if current is not None else identifier
    wanted = state.shape_of(identifier)
    new = None if prepared is None else _encoded(prepared.text)
    if patch is None and new is not None and wanted.empty:
        return Made(new, len(new), {}, {})
    old = None if current is None else current.encoded or current.text.encode()
    patch_text = b""
    if isinstance(patch, LargePatch):
        patch, patch_text = LargePatch(patch.array, b""), patch.text
    text, before, data = transaction.apart(change, old, new, wanted, patch, patch_text)
    text = text or new or b""
    whole = text if len(text) > LIGHT_BYTES else text.decode()
    return Made(whole, len(text), data, before)


def _decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode()


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _insert(transaction: Transaction, state: State, identifier: str, prepared: Prepared) -> Document:
    made = _made(transaction, state, None, prepared, identifier)
    transaction.count(state, 1, made.size)
    transaction.cost += made.size
    now = transaction.now
    document = from_row(identifier, 1, new_incarnation(), now, now, made.text)
    row = (state.key, identifier, 1, document.incarnation, now, now, made.size, made.text)
    transaction.connection.execute(INSERT, (*row, _expires(state, identifier, now, made.data)))
    if state.indexes:
        _enter(transaction, state, identifier, made.data)
    transaction.record(state, CREATED, identifier, document.etag)
    return document


def _update(transaction: Transaction, state: State, current: Document, made: Made) -> Document:
    transaction.count(state, 0, made.size - current.size)
    transaction.cost += made.size
    version, now = current.version + 1, transaction.now
    if state.indexes:
        _leave(transaction, state, current.id, made.before)
    row = (version, now, made.size, made.text, _expires(state, current.id, now, made.data))
    transaction.connection.execute(UPDATE, (*row, state.key, current.id))
    if state.indexes:
        _enter(transaction, state, current.id, made.data)
    document = from_row(current.id, version, current.incarnation, current.created, now, made.text)
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


def _leave(transaction: Transaction, state: State, identifier: str, data: Data) -> None:
    """Take a document out of the indexes."""
    mark = transaction.entries.mark()
    sqlite_index.remove(transaction.connection, transaction.entries, state, identifier, data)
    transaction.cost += ENTRY_COST * (transaction.entries.mark() - mark)


def _expires(state: State, identifier: str, modified: float, data: Data) -> float | None:
    ttl = state.ttl_of(identifier)
    return None if ttl is None else ttl.expires(modified, data)
