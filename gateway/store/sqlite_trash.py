"""What was deleted and still lies in the file: documents of deleted collections, entries of dropped indexes.

Nobody sees it any more, from the transaction on that put it here, and it is cleared away in slices. That the
documents of a collection are gone at once, however many they are, is done by the key that they are stored
under: the name gets another (in aliases), for the documents that may come under it, until these are cleared.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.store.document import new_incarnation
from gateway.store.sqlite_state import State
from gateway.store.sqlite_statement import another_key
from gateway.store.sqlite_transaction import Pace, Transaction

_ALL = "SELECT number, key, n FROM trash ORDER BY number"
_CLEAR_DOCUMENTS = """
    DELETE FROM documents WHERE rowid IN (SELECT rowid FROM documents WHERE collection = ?1 LIMIT ?2)"""
_CLEAR_INDEX = (
    """DELETE FROM entries
        WHERE n = ?1 AND (r, val, id) IN (SELECT r, val, id FROM entries WHERE n = ?1 LIMIT ?2)""",
    "DELETE FROM uniques WHERE n = ?1 AND key IN (SELECT key FROM uniques WHERE n = ?1 LIMIT ?2)",
)


def put_index(transaction: Transaction, n: int) -> None:
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
            what = n if key is None else key
            for statement in _CLEAR_INDEX if key is None else (_CLEAR_DOCUMENTS,):
                while connection.execute(statement, (what, pace.rows)).rowcount == pace.rows:
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
