"""What was deleted and still lies in the file: documents of deleted collections, entries of dropped indexes.

Nobody sees it any more, from the transaction on that put it here, and it is cleared away in slices. That the
documents of a collection are gone at once, however many they are, is done by the key that they are stored
under: the name gets another (in aliases), for the documents that may come under it, until these are cleared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from gateway.store.model.document import new_incarnation
from gateway.store.sqlite.read.statement import another_key
from gateway.store.sqlite.write.state import State
from gateway.store.sqlite.write.transaction import Pace, Transaction

_ALL = "SELECT number, key, n FROM trash ORDER BY number"
# The tables, by which column they are cleared, and in which order.
_DOCUMENTS = (("documents", "collection", "id"),)
_INDEX = (("entries", "n", "r, val, id"), ("uniques", "n", "key"))


def put_index(transaction: Transaction, n: int) -> None:
    """The entries of an index. It is dropped."""
    transaction.connection.execute("DELETE FROM indexes WHERE n = ?", (n,))
    transaction.connection.execute("INSERT INTO trash (n, at) VALUES (?, ?)", (n, transaction.now))


def put_documents(transaction: Transaction, state: State) -> None:
    """All documents of a collection. Afterwards what the writer knows of it is no longer true."""
    key = another_key(state.name, new_incarnation())
    transaction.connection.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (state.name, key))
    transaction.connection.execute("INSERT INTO trash (key, at) VALUES (?, ?)", (state.key, transaction.now))


def clear(pace: Pace) -> Callable[[Transaction], bool]:
    """A slice of clearing away, as an operation that runs alone; its result is whether that was all."""

    def operation(transaction: Transaction) -> bool:
        connection = transaction.connection
        for number, key, n in connection.execute(_ALL).fetchall():
            tables, what = (_INDEX, n) if key is None else (_DOCUMENTS, key)
            while not all(_clear_some(connection, *table, what, pace.rows) for table in tables):
                if not transaction.has_time(pace):
                    connection.execute("UPDATE trash SET at = ?", (transaction.now,))
                    return False
            connection.execute("DELETE FROM trash WHERE number = ?", (number,))
        # Each key is free now, and the name does for a collection that is to come.
        freed = connection.execute("DELETE FROM aliases WHERE name NOT IN (SELECT name FROM collections)")
        if freed.rowcount:
            transaction.states.forget()
        return True

    return operation


def _clear_some(
    connection: sqlite3.Connection, table: str, column: str, order: str, what: object, most: int
) -> bool:
    """Clear the first rows of what is to be cleared of a table; whether that was all."""
    find = f"SELECT {order} FROM {table} WHERE {column} = ? ORDER BY {order} LIMIT 1 OFFSET ?"  # noqa: S608
    behind = connection.execute(find, (what, most)).fetchone()
    delete = f"DELETE FROM {table} WHERE {column} = ?"  # noqa: S608
    if behind is None:
        connection.execute(delete, (what,))
        return True
    marks = ", ".join("?" * len(behind))
    connection.execute(f"{delete} AND ({order}) < ({marks})", (what, *behind))
    return False
