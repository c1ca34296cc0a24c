"""Going along an index in the order of its values and, of what is equal, of the ids.

The index has both ascending. Where they run in opposite directions, as in a sort by `-a` (what is equal is by
ascending id), the ids of equal values come backwards when it is read backwards, and SQLite would sort all
documents of one value for each page, however many they are. So entries are read in chunks, backwards for
values that few documents have; and a value that many have is gone through in the order of its ids, from where
the page begins.

Where both run in one direction the index has the order of the page. In either case a value that may be the
beginning only of longer texts (model/indexing.py) is put in order by the whole texts, all documents that have
it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

from gateway.store.filter.nodes import ID
from gateway.store.json.strict import dumps
from gateway.store.model.indexing import ENTRY_TEXT, is_cut
from gateway.store.model.sort import RANK_TEXT, SortKey, SortValue
from gateway.store.sqlite.read.order import Position
from gateway.store.sqlite.read.plan import Condition
from gateway.store.sqlite.read.statement import Bound

MAX_CHUNK = 4096  # entries

Entry = tuple[int, Any, str]  # rank, value, id


def is_possible(keys: tuple[SortKey, ...]) -> bool:
    """Whether an order is one by the values of an index and the ids."""
    return len(keys) == 2 and keys[1].path == ID


class Walk:
    """n: of the index. narrowed: a condition on its entries. documents: the condition on a document, d, bound
    to a statement. alike: the ids of documents that match and have an entry, at most so many, by their whole
    values and the ids, behind a position. keys: of the value and of the id."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        n: int,
        narrowed: Condition | None,
        documents: Callable[[Bound], str],
        alike: Callable[[SortValue, int, Position | None], list[str]],
        keys: tuple[SortKey, ...],
    ) -> None:
        self._connection = connection
        self._n = n
        self._narrowed = narrowed
        self._documents = documents
        self._alike = alike
        value, identifier = keys
        self._straight = value.descending == identifier.descending
        self._sign, self._back = ("<", " DESC") if value.descending else (">", "")
        self._beyond, self._along = ("<", " DESC") if identifier.descending else (">", "")

    def find(self, limit: int, position: Position | None) -> list[str]:
        """The first ids behind a position (of the value and of the id), at most `limit`."""
        found: list[str] = []
        here: SortValue | None = None
        after: str | None = None
        if position is not None:
            here = position[0].entry
            if is_cut(here):
                found = self._alike(here, limit, position)
            elif self._straight:
                after = position[1].value
            else:
                found = self._equal(here, limit, position[1].value)
        if not self._straight:
            return self._find_opposite(found, limit, here)
        if len(found) < limit:
            self._take(found, self._next(here, after, limit - len(found)), limit)
        return found

    def _find_opposite(self, found: list[str], limit: int, here: SortValue | None) -> list[str]:
        chunk = min(MAX_CHUNK, limit + 32)
        while len(found) < limit:
            rows = self._entries(here, chunk)
            if not rows:
                break
            groups = [(key, list(group)) for key, group in groupby(rows, key=lambda row: (row[0], row[1]))]
            is_last = len(rows) < chunk
            if len(groups) == 1 and not is_last:
                here = groups[0][0]
                more = self._alike if is_cut(here) else self._equal
                found += more(here, limit - len(found), None)
                continue
            if not is_last:
                del groups[-1]  # there may be more of it
            identifiers = [row[2] for _, group in groups for row in reversed(group)]
            values = {identifier: value for _, value, identifier in rows}
            matching = self._matching(identifiers, limit - len(found))
            self._take(found, [(identifier, values[identifier]) for identifier in matching], limit)
            if is_last:
                break
            here = groups[-1][0]
            chunk = min(MAX_CHUNK, chunk * 2)
        return found

    def _take(self, found: list[str], matching: list[tuple[str, Any]], limit: int) -> None:
        """Add documents that match, each with the value of its entry: all that have these values, or as many
        as there may be."""
        cut = {value for _, value in matching if type(value) is str and len(value) >= ENTRY_TEXT}
        if not cut:
            found += [identifier for identifier, _ in matching]
            return
        for value, group in groupby(matching, key=itemgetter(1)):
            identifiers = [identifier for identifier, _ in group]
            if value in cut and (len(identifiers) > 1 or len(found) + 1 == limit):
                identifiers = self._alike((RANK_TEXT, value), limit - len(found), None)
            found += identifiers

    def _entries(self, behind: SortValue | None, most: int) -> list[Entry]:
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

    def _next(self, here: SortValue | None, after: str | None, most: int) -> list[tuple[str, Any]]:
        """The next documents that match, each with the value of its entry; behind a value, or from an id on
        that has this value."""
        bound = Bound()
        where = self._where(bound)
        if here is not None:
            value = f"({bound.bind(here[0])}, {bound.bind(here[1])})"
            if after is None:
                where += f" AND (e.r, e.val) {self._sign} {value}"
            else:
                behind = f"(e.r, e.val) = {value} AND e.id {self._beyond} {bound.bind(after)}"
                # SQLite looks for the begin of an index's range only where no OR is.
                where += f" AND (e.r, e.val) {self._sign}= {value}"
                where += f" AND ((e.r, e.val) {self._sign} {value} OR ({behind}))"
        order = f"e.r{self._back}, e.val{self._back}, e.id{self._along}"
        statement = (
            "SELECT e.id, e.val FROM entries AS e CROSS JOIN documents AS d "  # noqa: S608
            f"WHERE {where} AND d.id = e.id AND {self._documents(bound)} "
            f"ORDER BY {order} LIMIT {bound.bind(most)}"
        )
        return bound.execute(self._connection, statement).fetchall()

    def _equal(self, value: SortValue, most: int, after: str | None) -> list[str]:
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
