"""Going along an index where its values and the ids run in opposite directions, as in a sort by `-a`: what is
equal is by ascending id.

The index has both ascending. Read backwards, the ids of equal values come backwards too, and SQLite would
sort all documents of one value for each page, however many they are. So entries are read in chunks, backwards
for values that few documents have; and a value that many have is gone through in the order of its ids, from
where the page begins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import groupby
from typing import Any

from gateway.store.nodes import ID
from gateway.store.sort import SortKey
from gateway.store.sqlite_plan import Condition
from gateway.store.sqlite_statement import Bound
from gateway.store.strict_json import dumps

MAX_CHUNK = 4096  # entries


def is_needed(keys: tuple[SortKey, ...]) -> bool:
    """Whether an order, along an index by its first key, is one in opposite directions."""
    return len(keys) == 2 and keys[1].path == ID and keys[0].descending != keys[1].descending


class Walk:
    """n: of the index. narrowed: a condition on its entries. documents: the condition on a document, d, bound
    to a statement. descending: of the values; the ids run the other way."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        n: int,
        narrowed: Condition | None,
        documents: Callable[[Bound], str],
        *,
        descending: bool,
    ) -> None:
        self._connection = connection
        self._n = n
        self._narrowed = narrowed
        self._documents = documents
        self._sign, self._back = ("<", " DESC") if descending else (">", "")
        self._beyond, self._along = (">", "") if descending else ("<", " DESC")

    def find(self, limit: int, position: list[Any] | None) -> list[str]:
        """The first ids behind a position (of the value and of the id), at most `limit`."""
        found: list[str] = []
        here: tuple[Any, Any] | None = None
        if position is not None:
            (rank, value), (_, identifier) = position
            here = (rank, value)
            found = self._equal(here, limit, identifier)
        chunk = min(MAX_CHUNK, limit + 32)
        while len(found) < limit:
            rows = self._entries(here, chunk)
            if not rows:
                break
            groups = [(key, list(group)) for key, group in groupby(rows, key=lambda row: (row[0], row[1]))]
            is_last = len(rows) < chunk
            if len(groups) == 1 and not is_last:
                here = groups[0][0]
                found += self._equal(here, limit - len(found))
                continue
            if not is_last:
                del groups[-1]  # there may be more of it
            identifiers = [row[2] for _, group in groups for row in reversed(group)]
            found += self._matching(identifiers, limit - len(found))
            if is_last:
                break
            here = groups[-1][0]
            chunk = min(MAX_CHUNK, chunk * 2)
        return found

    def _entries(self, behind: tuple[Any, Any] | None, most: int) -> list[tuple[Any, Any, str]]:
        """The next entries behind a value, the ids of equal ones in the same direction as the values."""
        bound = Bound()
        where = self._where(bound)
        if behind is not None:
            where += f" AND (e.r, e.val) {self._sign} ({bound.bind(behind[0])}, {bound.bind(behind[1])})"
        order = f"e.r{self._back}, e.val{self._back}, e.id{self._back}"
        statement = (
            f"SELECT e.r, e.val, e.id FROM entries AS e WHERE {where} "  # noqa: S608
            f"ORDER BY {order} LIMIT {bound.bind(most)}"
        )
        return bound.execute(self._connection, statement).fetchall()

    def _equal(self, value: tuple[Any, Any], most: int, after: str | None = None) -> list[str]:
        """Documents of one value that match, in the order of their ids."""
        bound = Bound()
        where = f"{self._where(bound)} AND e.r = {bound.bind(value[0])} AND e.val = {bound.bind(value[1])}"
        if after is not None:
            where += f" AND e.id {self._beyond} {bound.bind(after)}"
        statement = (
            "SELECT e.id FROM entries AS e CROSS JOIN documents AS d "  # noqa: S608
            f"WHERE {where} AND d.id = e.id AND {self._documents(bound)} "
            f"ORDER BY e.id{self._along} LIMIT {bound.bind(most)}"
        )
        return [identifier for (identifier,) in bound.execute(self._connection, statement)]

    def _matching(self, identifiers: list[str], most: int) -> list[str]:
        """Those of these documents that match, in this order."""
        bound = Bound()
        statement = (
            f"SELECT w.value FROM json_each({bound.bind(dumps(identifiers))}) AS w "  # noqa: S608
            f"CROSS JOIN documents AS d WHERE d.id = w.value AND {self._documents(bound)} "
            f"ORDER BY w.key LIMIT {bound.bind(most)}"
        )
        return [identifier for (identifier,) in bound.execute(self._connection, statement)]

    def _where(self, bound: Bound) -> str:
        where = f"e.n = {bound.bind(self._n)} AND e.main = 1"
        if self._narrowed is not None:
            where += f" AND {bind_all(bound, self._narrowed)}"
        return where


def bind_all(bound: Bound, condition: Condition) -> str:
    """A condition's SQL with its values bound."""
    first, *others = condition.sql.split("?")
    pairs = zip(condition.bound, others, strict=True)
    return first + "".join(bound.bind(value) + part for value, part in pairs)
