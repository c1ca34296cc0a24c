"""What a write does to the document as it is: pure, so that a write which loses a race is planned anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import NotFound, PreconditionRequired
from gateway.store.json.large import LIGHT_PATCH
from gateway.store.model.change import Kind
from gateway.store.model.document import (
    Document,
    LargeMembers,
    Members,
    Precondition,
    new_incarnation,
    to_text,
)
from gateway.store.model.indexing import Room, check_unique, unique_key
from gateway.store.model.patch import apply
from gateway.store.model.write import Create, Delete, Replace, Update, Write, Written
from gateway.store.mongo.rows import Row, derived, heading, is_live, joined
from gateway.store.mongo.state import State

# What checks the members of a document, and their text, against a schema.
Check = Callable[[Mapping[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """old: the row that is there, expired or not. new: the row to put in its place, or the bytes of it; None:
    none. size: of the new text, in bytes.

    claims, dropped: values of unique indexes, _id and token, to take and to let go. ended: the tag of a
    document that has expired, and that this write ends."""

    id: str
    kind: Kind
    etag: str
    written: Written | None
    old: Row | None
    new: Row | bytes | None
    claims: Mapping[str, str]
    dropped: Mapping[str, str]
    documents: int
    bytes: int
    size: int = 0
    ended: str = ""

    @property
    def changes(self) -> tuple[tuple[Kind, str], ...]:
        """What a feed tells, with the tags."""
        return ((("deleted", self.ended),) if self.ended else ()) + ((self.kind, self.etag),)


def plan(
    tenant: str,
    state: State,
    write: Write,
    identifier: str,
    row: Row | None,
    had: Mapping[str, str],
    now: float,
    check: Check | None,
    *,
    own: bool = False,
) -> Plan:
    """identifier: of the document; for a Create a new one. row: what is there under it; its members are only
    looked at for an Update, and then lost if they are the caller's `own`, who may take long. had: its claims.
    check: asked of what is written.

    Raises NotFound, PreconditionFailed, PreconditionRequired, BodyTooLarge, Unprocessable for too many
    entries, what the check raises, and what a patch raises; of what is not `own` BeyondBounds too."""
    current = heading(row) if row is not None and is_live(row, now) else None
    data = _members(state, write, current, row, own)
    if data is None:
        assert current is not None and row is not None
        return _removal(row, current, had)
    text, size = to_text(data)
    if check is not None:
        check(data, text)
    if current is None:
        made = Document(identifier, 1, new_incarnation(), now, now, text)
    else:
        made = Document(identifier, current.version + 1, current.incarnation, current.created, now, text)
    new = _row(tenant, state, made, size, data, now)
    for index in state.unique.values():
        check_unique(index, data)
    wanted = claims(tenant, state, data)
    return Plan(
        id=identifier,
        kind="created" if current is None else "updated",
        etag=made.etag,
        written=Written(made, current is None),
        old=row,
        new=new,
        claims={name: token for name, token in wanted.items() if name not in had},
        dropped={name: token for name, token in had.items() if name not in wanted},
        documents=1 if row is None else 0,
        bytes=size - (0 if row is None else row["s"]),
        size=size,
        ended=heading(row).etag if row is not None and current is None else "",
    )


def require(state: State, write: Write, row: Row | None, now: float) -> None:
    """Raise, of what `plan` raises, what can be told without the members of a document."""
    current = heading(row) if row is not None and is_live(row, now) else None
    match write:
        case Update(_, _, precondition) | Delete(_, precondition):
            _require(state, current, precondition)
        case Replace(_, _, precondition):
            _require_replaced(state, current, precondition)


def _row(tenant: str, state: State, made: Document, size: int, data: dict[str, Any], now: float) -> Row:
    """A document as it is stored."""
    return {
        "_id": joined(tenant, state.name, made.id),
        "t": tenant,
        "c": state.name,
        "id": made.id,
        "v": made.version,
        "i": made.incarnation,
        "cr": made.created,
        "mo": made.modified,
        "s": size,
        "g": state.version,
        **derived(state.ordered, state.settings.ttl, now, data, Room(made.id)),
        "d": data,
    }


def expiry(row: Row, had: Mapping[str, str]) -> Plan:
    """The removal of a document that has ended. had: its claims."""
    return _removal(row, heading(row), had)


def claims(tenant: str, state: State, data: Mapping[str, Any]) -> dict[str, str]:
    """The values that a document has in unique indexes: _id in `claims` -> token."""
    found = {}
    for token, index in state.unique.items():
        key = unique_key(index, data)
        if key is not None:
            found[joined(tenant, state.name, token, key)] = token
    return found


def _removal(row: Row, current: Document, had: Mapping[str, str]) -> Plan:
    return Plan(current.id, "deleted", current.etag, None, row, None, {}, had, -1, -row["s"])


def _members(
    state: State, write: Write, current: Document | None, row: Row | None, own: bool
) -> dict[str, Any] | None:
    """What the document shall hold; None: it goes."""
    match write:
        case Create(data):
            return _parsed(data)
        case Replace(_, data, precondition):
            _require_replaced(state, current, precondition)
            return _parsed(data)
        case Update(_, patch, precondition):
            there = _require(state, current, precondition)
            assert row is not None
            if own:
                return apply(patch, row.pop("d"), there.id, own=True)
            return apply(patch, row["d"], there.id, bounds=LIGHT_PATCH)
        case Delete(_, precondition):
            _require(state, current, precondition)
            return None


def _require_replaced(state: State, current: Document | None, precondition: Precondition) -> None:
    precondition.require(current.etag if current else None)
    if current is not None:
        _require_if_match(state, precondition)


def _parsed(data: Members) -> dict[str, Any]:
    return json.loads(data.text) if isinstance(data, LargeMembers) else dict(data)


def _require(state: State, current: Document | None, precondition: Precondition) -> Document:
    """A missing document is NotFound whatever was asked of it (RFC 9110 section 13.2.1)."""
    if current is None:
        raise NotFound()
    precondition.require(current.etag)
    _require_if_match(state, precondition)
    return current


def _require_if_match(state: State, precondition: Precondition) -> None:
    if state.settings.require_if_match and precondition.match is None:
        raise PreconditionRequired("This collection wants If-Match with every change of a document.")
