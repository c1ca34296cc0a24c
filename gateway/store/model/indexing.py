"""The entries of a declared index for a document: the same for every engine that keeps entries of its own.

An index of one field has entries `(rank, value)`, as sort.py ranks them, with the first ENTRY_TEXT characters
of a text. The main entry is the position of the document in the order of the field; documents whose texts
begin alike are ordered by the whole texts when they are listed. The other entries let a filter find the
document through an array. For any condition, the entries find a superset of the documents that match it.

The entries of a document are scattered over the index, so a long array costs a page of the disk for each
element and index. Therefore a document that is written is limited to MAX_ENTRIES and MAX_ENTRY_BYTES; one
that was stored under older rules is read and deleted as any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import GatewayError
from gateway.store.filter.matcher import values_at
from gateway.store.filter.nodes import Path
from gateway.store.json import strict
from gateway.store.model.collection import Index
from gateway.store.model.sort import RANK_TEXT, SortValue, rank, sort_value

ENTRY_TEXT = 128  # characters of a text in an entry
MAX_KEY_TEXT = 200
MAX_ENTRIES = 4000  # of one document, besides the main entries, in all indexes of its collection together
MAX_ENTRY_BYTES = 512 * 1024  # of their values, each with the document's id behind it
MAX_UNIQUE_VALUES = 4000  # arrays, objects and what is in them, in the fields of one unique index


class EntryBudget:
    """How many entries a document may still have, in all indexes together. One for each write of a
    document."""

    __slots__ = ("_bytes", "_id_bytes", "left")

    def __init__(self, identifier: str) -> None:
        self.left = MAX_ENTRIES
        self._bytes = MAX_ENTRY_BYTES
        self._id_bytes = len(identifier.encode())

    def take(self, path: Path, entries: set[SortValue]) -> None:
        """Count the entries of one index. path: its field, for the error. Raises Unprocessable."""
        self.left -= len(entries)
        self._bytes -= sum(len(v.encode()) if isinstance(v, str) else 8 for _, v in entries)
        self._bytes -= self._id_bytes * len(entries)
        if self.left < 0 or self._bytes < 0:
            raise too_many(path)


def too_many(path: Path) -> GatewayError:
    """The error for a document with too many entries. path: the field where the limit was passed."""
    detail = (
        f"the document has more than {MAX_ENTRIES} values, or {MAX_ENTRY_BYTES // 1024} KiB of them, in "
        "arrays with an index: shorten them, or drop an index"
    )
    problems = [(strict.pointer(*path), detail)]
    return strict.refusal("The document has too many values in indexes; see errors.", problems)


def entry(value: SortValue) -> SortValue:
    """A value as an entry holds it: of a text, its beginning."""
    kind, inner = value
    return (kind, inner[:ENTRY_TEXT]) if isinstance(inner, str) else value


def is_cut(value: SortValue) -> bool:
    """Whether an entry may hold only the beginning of its text."""
    kind, inner = value
    return kind == RANK_TEXT and isinstance(inner, str) and len(inner) >= ENTRY_TEXT


def main_entry(path: Path, data: Mapping[str, Any]) -> SortValue:
    """The document's position in the order of the field, as far as an entry holds it."""
    return entry(sort_value(path, "", data))


def other_entries(path: Path, data: Mapping[str, Any], budget: EntryBudget | None = None) -> set[SortValue]:
    """The entries besides the main one; empty unless an array is on the path or at its end.

    budget: counts them; without one there may be any number. Raises Unprocessable when they exceed it, after
    visiting no more values than it allows.
    """
    found: set[SortValue] = set()
    most = None if budget is None else budget.left + 1
    for value in values_at(data, path):
        found.add(entry(rank(value)))
        for item in value if isinstance(value, list) else ():
            found.add(entry(rank(item)))
            if most is not None and len(found) > most:
                raise too_many(path)
        if most is not None and len(found) > most:
            raise too_many(path)
    found.discard(main_entry(path, data))
    if budget is not None and found:
        budget.take(path, found)
    return found


def check_unique(index: Index, data: Mapping[str, Any]) -> None:
    """Raises Unprocessable when a value of a unique index holds more than MAX_UNIQUE_VALUES, which makes it
    costly to compare: the whole value is encoded as one text."""
    left = MAX_UNIQUE_VALUES
    for path in index.fields:
        values: list[Any] = [_value_at(path, data)]
        while values:
            value = values.pop()
            left -= len(value) if isinstance(value, dict | list) else 0
            if left < 0:
                detail = f"the unique index {index.name} takes at most {MAX_UNIQUE_VALUES} values in a value"
                text = "A value of a unique index is too large; see errors."
                raise strict.refusal(text, [(strict.pointer(*path), detail)])
            if isinstance(value, dict):
                values += value.values()
            elif isinstance(value, list):
                values += value


def _value_at(path: Path, data: Mapping[str, Any]) -> Any:
    value: Any = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def unique_key(index: Index, data: Mapping[str, Any]) -> str | None:
    """One text for the values of a unique index; None when one of them is missing or null.

    Values are compared whole (an array is one value). A long text is replaced by its SHA-256.
    """
    values = []
    for path in index.fields:
        value = _value_at(path, data)
        if value is None:
            return None
        values.append(value)
    text = strict.dumps(values)
    if len(text) <= MAX_KEY_TEXT:
        return text
    return "#" + hashlib.sha256(text.encode()).hexdigest()
