"""What a declared index holds of a document: the same for every engine that keeps entries of its own.

An index of one field has entries `(rank, value)`, as sort.py ranks them, with the first ENTRY_TEXT characters
of a text. One, the main one, is where the document stands in the order of the field: documents whose texts
agree so far are put in order by the whole texts, as they are listed. The other entries are there where a
filter must find the document through an array.
What the entries find for a condition is always a superset of the documents that match it.

Every entry lies somewhere else in the index, so a document with a long array costs a page of the disk for
each element and index. A document that is written is held to MAX_ENTRIES and MAX_ENTRY_BYTES for that reason;
one that was stored under older rules is read and deleted as any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import Unprocessable
from gateway.store.filter.matcher import values_at
from gateway.store.filter.nodes import Path
from gateway.store.json import strict
from gateway.store.model.collection import Index
from gateway.store.model.sort import RANK_TEXT, SortValue, rank, sort_value

ENTRY_TEXT = 128  # characters of a text in an entry
MAX_KEY_TEXT = 200
MAX_ENTRIES = 4000  # of one document, besides the main ones, in all indexes of its collection together
MAX_ENTRY_BYTES = 512 * 1024  # of their values, each with the document's id behind it
MAX_UNIQUE_VALUES = 4000  # arrays, objects and what is in them, in the fields of one unique index


class Room:
    """How many entries a document may still have. One for each write of a document."""

    __slots__ = ("_bytes", "_id_bytes", "left")

    def __init__(self, identifier: str) -> None:
        self.left = MAX_ENTRIES
        self._bytes = MAX_ENTRY_BYTES
        self._id_bytes = len(identifier.encode())

    def take(self, path: Path, entries: set[SortValue]) -> None:
        """Count entries. Raises Unprocessable."""
        self.left -= len(entries)
        self._bytes -= sum(len(v.encode()) if isinstance(v, str) else 8 for _, v in entries)
        self._bytes -= self._id_bytes * len(entries)
        if self.left < 0 or self._bytes < 0:
            raise too_many(path)


def too_many(path: Path) -> Unprocessable:
    """What is told of a document that has too many entries. path: the field where the limit was passed."""
    detail = (
        f"the document has more than {MAX_ENTRIES} values, or {MAX_ENTRY_BYTES // 1024} KiB of them, in "
        "arrays with an index: shorten them, or drop an index"
    )
    errors = [{"pointer": strict.pointer(*path), "detail": detail}]
    return Unprocessable("The document has too many values in indexes; see errors.", extra={"errors": errors})


def entry(value: SortValue) -> SortValue:
    """What an entry holds of a value."""
    kind, inner = value
    return (kind, inner[:ENTRY_TEXT]) if isinstance(inner, str) else value


def is_cut(value: SortValue) -> bool:
    """Whether an entry may hold no more than the beginning of its text."""
    kind, inner = value
    return kind == RANK_TEXT and isinstance(inner, str) and len(inner) >= ENTRY_TEXT


def main_entry(path: Path, data: Mapping[str, Any]) -> SortValue:
    """Where the document stands in the order of the field, as far as an entry tells."""
    return entry(sort_value(path, "", data))


def other_entries(path: Path, data: Mapping[str, Any], room: Room | None = None) -> set[SortValue]:
    """The entries besides the main one; empty unless an array is on the path or at its end.

    room: takes them; without one there may be any number. Raises Unprocessable where they do not fit, after
    looking at no more values than fit.
    """
    found: set[SortValue] = set()
    most = None if room is None else room.left + 1
    for value in values_at(data, path):
        found.add(entry(rank(value)))
        for item in value if isinstance(value, list) else ():
            found.add(entry(rank(item)))
            if most is not None and len(found) > most:
                raise too_many(path)
        if most is not None and len(found) > most:
            raise too_many(path)
    found.discard(main_entry(path, data))
    if room is not None and found:
        room.take(path, found)
    return found


def check_unique(index: Index, data: Mapping[str, Any]) -> None:
    """Raises Unprocessable where a value of a unique index is so large that comparing it is dear: it is
    written as one text."""
    left = MAX_UNIQUE_VALUES
    for path in index.fields:
        values: list[Any] = [_value_at(path, data)]
        while values:
            value = values.pop()
            left -= len(value) if isinstance(value, dict | list) else 0
            if left < 0:
                detail = f"the unique index {index.name} takes at most {MAX_UNIQUE_VALUES} values in a value"
                errors = [{"pointer": strict.pointer(*path), "detail": detail}]
                told = "A value of a unique index is too large; see errors."
                raise Unprocessable(told, extra={"errors": errors})
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
    """One text for the values of a unique index, None when one of them is missing or null.

    Values are compared whole (an array is one value). A long text is told by its SHA-256.
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
