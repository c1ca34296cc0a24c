"""What a declared index holds of a document: the same for every engine that keeps entries of its own.

An index of one field has entries `(rank, value)`, as sort.py ranks them. One, the main one, is where the
document stands in the order of the field; the others are there where a filter must find it through an array.
What the entries find for a condition is always a superset of the documents that match it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.store import strict_json
from gateway.store.collection import Index
from gateway.store.matcher import values_at
from gateway.store.nodes import Path
from gateway.store.sort import SortValue, rank, sort_value

MAX_KEY_TEXT = 200


def main_entry(path: Path, data: Mapping[str, Any]) -> SortValue:
    """Where the document stands in the order of the field."""
    return sort_value(path, "", data)


def other_entries(path: Path, data: Mapping[str, Any]) -> set[SortValue]:
    """The entries besides the main one; empty unless an array is on the path or at its end."""
    found: set[SortValue] = set()
    for value in values_at(data, path):
        found.add(rank(value))
        if isinstance(value, list):
            found.update(map(rank, value))
    found.discard(main_entry(path, data))
    return found


def unique_key(index: Index, data: Mapping[str, Any]) -> str | None:
    """One text for the values of a unique index, None when one of them is missing or null.

    Values are compared whole (an array is one value). A long text is told by its SHA-256.
    """
    values = []
    for path in index.fields:
        value: Any = data
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return None
        values.append(value)
    text = strict_json.dumps(values)
    if len(text) <= MAX_KEY_TEXT:
        return text
    return "#" + hashlib.sha256(text.encode()).hexdigest()
