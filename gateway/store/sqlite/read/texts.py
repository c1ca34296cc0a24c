"""Whole texts in the order of a statement, of which it holds only the beginnings.

A statement that sorts keeps its rows in memory, and a text may have ten megabytes. So it orders by the first
PIECE characters, and where these agree and there is more, by a token, which says where the whole text is. The
collation of tokens reads what it compares.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from gateway.store.json.large import LIGHT_BYTES
from gateway.store.sqlite import errors
from gateway.store.sqlite.read.statement import Bound, exclusively, this_thread

PIECE = 1000  # characters
_KEPT_BYTES = 8 * 1024 * 1024  # of texts that were read

_SIZE = "SELECT size FROM documents WHERE rowid = ?"
_READ = "SELECT CAST(json_extract(data, ?) AS BLOB) FROM documents WHERE rowid = ?"


class Texts:
    """Those that a statement compares. paths: SQLite's path to the text of each sort key.

    A token is the number of a path and the row of a document, or `=` and the number of a text that was added.
    The empty one stands for the empty text. Texts are compared as UTF-8, so in the order of code points.
    """

    def __init__(self, connection: sqlite3.Connection, paths: Sequence[str]) -> None:
        self._connection = connection
        self._paths = paths
        self._added: list[bytes] = []
        self._read: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._error: sqlite3.Error | None = None

    def rows(self, bound: Bound, statement: str) -> list[Any]:
        """What a statement gives that compares them. Raises sqlite3.Error."""
        bound.compare_with(self)
        found = bound.execute(self._connection, statement).fetchall()
        if self._error is not None:
            raise self._error
        return found

    def add(self, text: str) -> str:
        """A text that is in no document; gives its token."""
        self._added.append(text.encode())
        return f"={len(self._added) - 1}"

    def compare(self, left: str, right: str) -> int:
        """For SQLite, which cannot be given an error: the statement ends at one, and `rows` raises it."""
        if self._error is not None:
            return 0
        try:
            one, other = self._text(left), self._text(right)
        except sqlite3.Error as error:
            self._error = error
            self._connection.interrupt()
            return 0
        return (one > other) - (one < other)

    def _text(self, token: str) -> bytes:
        if not token:
            return b""
        if token[0] == "=":
            return self._added[int(token[1:])]
        text = self._read.get(token)
        if text is not None:
            self._read.move_to_end(token)
            return text
        number, _, row = token.partition(" ")
        text = self._read[token] = self._load(self._paths[int(number)], int(row))
        self._bytes += len(text)
        while self._bytes > _KEPT_BYTES:
            self._bytes -= len(self._read.popitem(last=False)[1])
        return text

    def _load(self, path: str, row: int) -> bytes:
        read = this_thread.read
        if read is not None and read.should_interrupt():  # the statement asks only between its steps
            raise errors.interrupted()
        ((size,),) = self._connection.execute(_SIZE, (row,)).fetchall()
        if size <= LIGHT_BYTES:
            ((text,),) = self._connection.execute(_READ, (path, row)).fetchall()
        else:
            with exclusively():
                ((text,),) = self._connection.execute(_READ, (path, row)).fetchall()
        return bytes(text)
