"""The entries of indexes that a transaction changes: kept until its end, and then written in the order of the
index.

Entries of one document lie far apart, those of many documents side by side. Written document by document each
would cost a page of the log; in their order, what falls into one page is written with it once. Nothing reads
entries in the transaction that changes them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gateway.store.model.sort import SortValue

MOST = 20_000  # entries that are kept; beyond them they are written, as soon as no operation is under way

_PUT = "INSERT OR REPLACE INTO entries (n, r, val, id, main) VALUES (?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM entries WHERE n = ? AND r = ? AND val = ? AND id = ?"

Key = tuple[int, int, int | float | str, str]  # number of the index, rank, value, id
# What the table has, and what it shall have, under a key: the entry's `main`; None: no entry.
_Change = tuple[int | None, int | None]


class Entries:
    """Its methods belong to one transaction. mark and undo: for operations that may be rolled back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changes: dict[Key, _Change] = {}
        self._before: list[tuple[Key, _Change | None]] = []

    def put(self, n: int, entry: SortValue, identifier: str, main: int) -> None:
        """Enter a document."""
        key = (n, *entry, identifier)
        known = self._changes.get(key)
        self._set(key, known, (None if known is None else known[0], main))

    def remove(self, n: int, entry: SortValue, identifier: str, main: int) -> None:
        """Take a document out of an index. main: what was given when it was entered."""
        key = (n, *entry, identifier)
        known = self._changes.get(key)
        self._set(key, known, (main if known is None else known[0], None))

    def mark(self) -> int:
        """Where `undo` goes back to."""
        return len(self._before)

    def undo(self, mark: int) -> None:
        """Forget what was changed since."""
        while len(self._before) > mark:
            key, change = self._before.pop()
            if change is None:
                del self._changes[key]
            else:
                self._changes[key] = change

    def settle(self) -> None:
        """What was changed so far stays. Raises sqlite3.Error."""
        self._before.clear()
        if len(self._changes) > MOST:
            self.flush()

    def flush(self) -> None:
        """Write what is changed, in order. Raises sqlite3.Error."""
        self._before.clear()
        if not self._changes:
            return
        put, gone = [], []
        for key, (had, wanted) in self._changes.items():
            if wanted is None:
                if had is not None:
                    gone.append(key)
            elif wanted != had:
                put.append((*key, wanted))
        self._changes.clear()
        self._write(_REMOVE, gone)
        self._write(_PUT, put)

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        # Values of one index and rank are of one kind; SQLite orders texts by code point as Python does.
        self._connection.executemany(statement, sorted(rows))

    def _set(self, key: Key, known: _Change | None, change: _Change) -> None:
        self._before.append((key, known))
        self._changes[key] = change
