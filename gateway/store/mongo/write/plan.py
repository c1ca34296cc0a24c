"""What a write does to the document as it is: pure, so that a write which loses a race can be planned
again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.store import decide
from gateway.store.decide import Decision
from gateway.store.json.large import LIGHT_PATCH
from gateway.store.model.change import Kind
from gateway.store.model.document import (
    Document,
    LargeMembers,
    to_text,
)
from gateway.store.model.indexing import EntryBudget, check_unique, unique_key
from gateway.store.model.patch import apply
from gateway.store.model.write import Copied, Create, Delete, Replace, Update, Write
from gateway.store.mongo.rows import Row, derived, heading, is_live, joined
from gateway.store.mongo.state import State

# What checks the members of a document, and their text, against a schema.
Check = Callable[[Mapping[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """old: the row that is there, expired or not. new: the row that replaces it, or the bytes of it; None:
    none. size: of the new text, in bytes.

    claims, dropped: values of unique indexes, _id and token, to take and to let go. ended: the tag of a
    document that has expired, and that this write ends."""

    decision: Decision
    old: Row | None
    new: Row | bytes | None
    claims: Mapping[str, str]
    dropped: Mapping[str, str]
    size: int = 0
    ended: str = ""

    @property
    def changes(self) -> tuple[tuple[Kind, str], ...]:
        """The changes for the feeds: pairs of kind and tag."""
        own = (self.decision.kind, self.decision.etag)
        return (("deleted", self.ended), own) if self.ended else (own,)


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
    looked at for an Update, and then lost if they are the caller's `own`, which is a worker process. had: its
    claims. check: asked of what is written.

    Raises NotFound, PreconditionFailed, PreconditionRequired, BodyTooLarge, Unprocessable for too many
    entries, what the check raises, and what a patch raises; of what is not `own` BeyondBounds too."""
    current = _current(row, now)
    decide.require(write, current, if_match=state.settings.require_if_match)
    data = _members(write, row, own)
    if data is None:
        assert row is not None
        return removal(row, had)
    text, size = to_text(data)
    if check is not None and not isinstance(write, Copied):
        check(data, text)
    held = None if row is None else row["s"]
    if isinstance(write, Copied):
        decision = decide.copied(current, write.heading, text, size, held)
    else:
        decision = decide.stored(current, identifier, text, size, now, held)
    assert decision.written is not None
    new = _row(tenant, state, decision.written.document, size, data)
    for index in state.unique.values():
        check_unique(index, data)
    wanted = claims(tenant, state, data)
    return Plan(
        decision,
        old=row,
        new=new,
        claims={name: token for name, token in wanted.items() if name not in had},
        dropped={name: token for name, token in had.items() if name not in wanted},
        size=size,
        ended=heading(row).etag if row is not None and current is None else "",
    )


def require(state: State, write: Write, row: Row | None, now: float) -> None:
    """Raises what `plan` raises, as far as it takes no members of a document to find out."""
    decide.require(write, _current(row, now), if_match=state.settings.require_if_match)


def _current(row: Row | None, now: float) -> Document | None:
    """The document of a row, without its members, unless it has expired."""
    return heading(row) if row is not None and is_live(row, now) else None


def _row(tenant: str, state: State, made: Document, size: int, data: dict[str, Any]) -> Row:
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
        **derived(state.ordered, state.settings.ttl, made.modified, data, EntryBudget(made.id)),
        "d": data,
    }


def removal(row: Row, had: Mapping[str, str]) -> Plan:
    """The removal of a document, also of one that has ended. had: its claims."""
    return Plan(decide.deleted(heading(row), row["s"]), row, None, {}, had)


def claims(tenant: str, state: State, data: Mapping[str, Any]) -> dict[str, str]:
    """The values that a document has in unique indexes: _id in `claims` -> token."""
    found = {}
    for token, index in state.unique.items():
        key = unique_key(index, data)
        if key is not None:
            found[joined(tenant, state.name, token, key)] = token
    return found


def _members(write: Write, row: Row | None, own: bool) -> dict[str, Any] | None:
    """What the document shall hold; None: it goes."""
    match write:
        case Create(data) | Replace(_, data) | Copied(data, _):
            return json.loads(data.text) if isinstance(data, LargeMembers) else dict(data)
        case Update(identifier, patch):
            assert row is not None
            if own:
                return apply(patch, row.pop("d"), identifier, own=True)
            return apply(patch, row["d"], identifier, bounds=LIGHT_PATCH)
        case Delete():
            return None
