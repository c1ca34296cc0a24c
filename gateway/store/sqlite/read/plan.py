"""Which way a list takes to its documents: through them all, or through the entries of an index.

An index only ever narrows: every condition of the filter is asked of each document all the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.store.filter.nodes import ID, Compare, Eq, In, Node, Or, Text, conjuncts
from gateway.store.model.indexing import ENTRY_TEXT, entry
from gateway.store.model.sort import RANK_TEXT, SortKey, SortValue, end_of_prefix, rank
from gateway.store.sqlite.write.state import StoredIndex

FEW = 2000  # so many documents are sorted sooner than an order is walked
MANY = 20_000  # beyond so many, walking through all documents in the order of ids finds a page sooner

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM entries WHERE n = ? AND {} LIMIT {})"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on the entries of an index as SQL over e, and what is bound to its ?s, in order. exact: all
    entries have one rank and value, so that they lie in the order of ids."""

    index: StoredIndex
    sql: str
    bound: tuple[Any, ...]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Union:
    """What one of these conditions finds, each document once."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """narrowed: take only the documents that a condition finds, or one of several. walked: go along an
    index in the order of the first sort key (with the condition, when it is on the same index). Neither:
    through all documents."""

    narrowed: Condition | Union | None = None
    walked: StoredIndex | None = None


SCAN = Plan()


def choose(
    connection: sqlite3.Connection, indexes: Sequence[StoredIndex], node: Node, sort: tuple[SortKey, ...]
) -> Plan:
    """The plan for a page; it costs some index look-ups."""
    by_path = {stored.path: stored for stored in indexes if len(stored.index.fields) == 1}
    if not by_path:
        return SCAN
    found = list(_conditions(node, by_path))
    by_id = not sort or sort[0].path == ID
    if by_id and len(found) == 1 and found[0].exact:
        return Plan(narrowed=found[0])
    walked = None if by_id else by_path.get(sort[0].path)
    most = MANY if walked is None else FEW + 1
    counted = _counted(connection, node, by_path, most)
    count, best = min(counted, key=lambda pair: pair[0], default=(0, None))
    if best is None:
        return Plan(walked=walked)
    if by_id and isinstance(best, Condition) and best.exact:
        return Plan(narrowed=best)
    if count > FEW and walked is not None:
        same = [condition for condition in found if condition.index is walked and not walked.many]
        return Plan(narrowed=same[0] if same else None, walked=walked)
    if count >= MANY and by_id:
        exact = [condition for condition in found if condition.exact]
        return Plan(narrowed=exact[0]) if exact else SCAN
    return Plan(narrowed=best)


def _counted(
    connection: sqlite3.Connection, node: Node, by_path: dict[Any, StoredIndex], most: int
) -> list[tuple[int, Condition | Union]]:
    """What the indexes can do for a filter, each with how many entries it finds (`most`: that or more)."""
    counted: list[tuple[int, Condition | Union]] = [
        (_estimate(connection, condition, most), condition) for condition in _conditions(node, by_path)
    ]
    for part in conjuncts(node):
        if isinstance(part, Or):
            united = _united(connection, part, by_path, most)
            if united is not None:
                counted.append(united)
    return counted


def _united(
    connection: sqlite3.Connection, node: Or, by_path: dict[Any, StoredIndex], most: int
) -> tuple[int, Union] | None:
    """The same for an $or: one condition for each of its branches; None when a branch has none, or when they
    find no less than going through all documents does."""
    total = 0
    parts: list[Condition] = []
    for branch in node.nodes:
        count, best = min(
            _counted(connection, branch, by_path, most), key=lambda pair: pair[0], default=(0, None)
        )
        if best is None:
            return None
        total += count
        parts += best.parts if isinstance(best, Union) else (best,)
        if total >= most:
            return None
    return (total, Union(tuple(parts))) if parts else None


def _estimate(connection: sqlite3.Connection, condition: Condition, most: int) -> int:
    """How many entries it finds; it counts no further than to `most`."""
    statement = _COUNT.format(condition.sql.replace("e.", ""), most)
    (count,) = connection.execute(statement, (condition.index.n, *condition.bound)).fetchone()
    return int(count)


def _conditions(node: Node, by_path: dict[Any, StoredIndex]) -> Iterator[Condition]:
    """What the indexes can do for the filter: conditions that every document must fulfil."""
    parts = list(conjuncts(node))
    for part in parts:
        if not isinstance(part, Eq | In | Text | Compare) or part.path not in by_path:
            continue
        index = by_path[part.path]
        if isinstance(part, Eq):
            yield Condition(index, "e.r = ? AND e.val = ?", entry(rank(part.value)), exact=True)
        elif isinstance(part, In):
            yield _any_of(index, {entry(rank(value)) for value in part.values})
        elif isinstance(part, Text) and part.kind == "prefix":
            yield _prefix(index, part.value)
        elif isinstance(part, Compare):
            others = [p for p in parts if isinstance(p, Compare) and p.path == part.path]
            yield _range(index, [part] if index.many else others)


def _any_of(index: StoredIndex, values: set[SortValue]) -> Condition:
    """A rank of one with a value of another may be found too; that does no harm."""
    ranks, within = sorted({r for r, _ in values}), [value for _, value in values]
    sql = f"e.r IN ({_marks(len(ranks))}) AND e.val IN ({_marks(len(within))})"
    return Condition(index, sql, (*ranks, *within))


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _range(index: StoredIndex, comparisons: list[Compare]) -> Condition:
    """Documents hold for all of the comparisons only if they are of one type."""
    ranked: list[tuple[str, SortValue]] = [(c.op, entry(rank(c.value))) for c in comparisons]
    kind = ranked[0][1][0]
    sql = ["e.r = ?"]
    bound: list[Any] = [kind]
    for op, (of_kind, value) in ranked:
        if of_kind == kind:
            # Also equal: entries hold only the beginning of a long text.
            sql.append("e.val >= ?" if op in ("gt", "gte") else "e.val <= ?")
            bound.append(value)
    return Condition(index, " AND ".join(sql), tuple(bound))


def _prefix(index: StoredIndex, text: str) -> Condition:
    begin = text[:ENTRY_TEXT]
    end = end_of_prefix(begin)
    if end is None:
        return Condition(index, "e.r = ? AND e.val >= ?", (RANK_TEXT, begin))
    return Condition(index, "e.r = ? AND e.val >= ? AND e.val < ?", (RANK_TEXT, begin, end))
