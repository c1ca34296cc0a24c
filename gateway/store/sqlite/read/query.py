"""Lists in SQLite: one page, and counting.

As in sqlite/read/filter.py, whatever came from a client is a bound parameter.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.model.document import Document
from gateway.store.model.query import PAGE_BYTES, Page
from gateway.store.model.sort import SortKey, SortValue, with_tie_breaker
from gateway.store.sqlite import documents as sqlite_documents
from gateway.store.sqlite import errors
from gateway.store.sqlite.read import order as sqlite_order
from gateway.store.sqlite.read import plan as sqlite_plan
from gateway.store.sqlite.read import walk as sqlite_walk
from gateway.store.sqlite.read.filter import Filter
from gateway.store.sqlite.read.order import Order, Position
from gateway.store.sqlite.read.plan import SCAN, Condition, Plan, Union
from gateway.store.sqlite.read.statement import Bound, json_path, key_of
from gateway.store.sqlite.read.texts import Texts
from gateway.store.sqlite.read.walk import bind_all
from gateway.store.sqlite.write.state import StoredIndex, read_indexes

# The writer counts; what has expired since is few, and found by its index.
_COUNT_ALL = f"""
    SELECT ifnull((SELECT documents FROM collections WHERE name = :name), 0)
        - (SELECT count(*) FROM documents INDEXED BY documents_expires
            WHERE collection = {key_of(":name")} AND expires <= :now)"""  # noqa: S608


@dataclass(frozen=True)
class Listed:
    """Which documents, in which order, as of when."""

    collection: str
    node: Node
    sort: tuple[SortKey, ...]
    now: float

    @cached_property
    def keys(self) -> tuple[SortKey, ...]:
        """Those of the order, the last of which is the id."""
        return with_tie_breaker(self.sort)


def read_page(
    connection: sqlite3.Connection,
    listed: Listed,
    limit: int,
    position: list[Any] | None,
    *,
    count: bool = False,
    most: int | None = None,
) -> tuple[Page[Document], list[Any] | None]:
    """A page of a list and the position of its end, None at the end of the list.

    position: what an earlier page ended with. All is read in one snapshot. most: a page with more
    bytes of documents than that, or with one that is not small, is given up as if it were interrupted.
    """
    connection.execute("BEGIN")
    try:
        indexes = [stored for stored in read_indexes(connection, listed.collection) if not stored.building]
        plan = sqlite_plan.choose(connection, indexes, listed.node, listed.sort)
        after = None
        if position is not None:
            after = sqlite_order.position_from(connection, listed.collection, listed.keys, position)
        identifiers = _find_ids(connection, listed, limit + 1, after, plan)
        documents = _read_some(connection, listed, identifiers[:limit], most)
        total = _count(connection, listed, plan) if count else None
        is_last = len(documents) == len(identifiers)
        end = None
        if not is_last:
            end = sqlite_order.position_of(connection, listed.collection, listed.keys, documents[-1])
    finally:
        connection.execute("ROLLBACK")
    return Page(tuple(documents), count=total), end


def _find_ids(
    connection: sqlite3.Connection, listed: Listed, limit: int, position: Position | None, plan: Plan
) -> list[str]:
    """The ids of a page in order."""
    if plan.walked is None or not sqlite_walk.is_possible(listed.keys):
        return _sorted(connection, listed, limit, position, plan)
    walked, narrowed = plan.walked, plan.narrowed if isinstance(plan.narrowed, Condition) else None

    def alike(value: SortValue, most: int, after: Position | None) -> list[str]:
        one = Plan(_also(narrowed, walked, value), walked)
        return _sorted(connection, listed, most, after, one, alike=True)

    walk = sqlite_walk.Walk(
        connection, walked.n, narrowed, lambda bound: _of_document(bound, listed), alike, listed.keys
    )
    return walk.find(limit, position)


def _also(narrowed: Condition | None, walked: StoredIndex, value: SortValue) -> Condition:
    """The condition, and that an entry of the index has a value."""
    one = Condition(walked, "e.r = ? AND e.val = ?", value)
    if narrowed is None:
        return one
    return dataclasses.replace(one, sql=f"{narrowed.sql} AND {one.sql}", bound=(*narrowed.bound, *one.bound))


def _read_some(
    connection: sqlite3.Connection, listed: Listed, identifiers: list[str], most: int | None
) -> list[Document]:
    documents: list[Document] = []
    size, small = 0, most is not None
    with closing(
        sqlite_documents.select_many(connection, listed.collection, identifiers, listed.now, small=small)
    ) as rows:
        for identifier, row in zip(identifiers, rows, strict=False):
            if most is not None and (row[-1] is None or size > most):
                raise errors.interrupted()
            document = sqlite_documents.from_row(*row)
            assert document.id == identifier
            documents.append(document)
            size += len(document.text) + len(document.encoded)
            if size > PAGE_BYTES:
                break
        else:
            assert len(documents) == len(identifiers)
    return documents


def _count(connection: sqlite3.Connection, listed: Listed, plan: Plan) -> int:
    if listed.node == EVERYTHING:
        (total,) = connection.execute(_COUNT_ALL, {"name": listed.collection, "now": listed.now}).fetchone()
        return int(total)
    bound = Bound()
    # Walking an order finds no document sooner when all are counted.
    narrowed = Plan(plan.narrowed) if plan.walked is None else SCAN
    source, where = _source(bound, listed, narrowed)
    statement = f"SELECT count(*) FROM {source} WHERE {where}"  # noqa: S608
    (total,) = bound.execute(connection, statement).fetchone()
    return int(total)


def _sorted(
    connection: sqlite3.Connection,
    listed: Listed,
    limit: int,
    position: Position | None,
    plan: Plan,
    *,
    alike: bool = False,
) -> list[str]:
    """The ids of a page in order, by one statement. alike: see Order."""
    bound, keys = Bound(), listed.keys
    texts = Texts(connection, [json_path(*key.path) for key in keys])
    source, where = _source(bound, listed, plan)
    order = Order(bound, texts, keys, walked=plan.walked is not None, alike=alike)
    columns = ["d.id AS id" if plan == SCAN else "e.id AS id", *order.columns()]
    after = "1" if position is None else order.after(position)
    statement = (
        f"SELECT id FROM (SELECT {', '.join(columns)} FROM {source} WHERE {where}) "  # noqa: S608
        f"WHERE {after} ORDER BY {', '.join(order.terms())} LIMIT {bound.bind(limit)}"
    )
    return [identifier for (identifier,) in texts.rows(bound, statement)]


def _source(bound: Bound, listed: Listed, plan: Plan) -> tuple[str, str]:
    """What to select from, and where: d is the document, e (when there is a plan) an entry of the index."""
    where, narrowed, source = [], plan.narrowed, "documents AS d"
    if plan.walked is not None:
        source = "entries AS e CROSS JOIN documents AS d"
        where += ["d.id = e.id", f"e.n = {bound.bind(plan.walked.n)}", "e.main = 1"]
        if isinstance(narrowed, Condition):
            where.append(bind_all(bound, narrowed))
    elif narrowed is not None:
        where.append("d.id = e.id")
        if isinstance(narrowed, Condition) and narrowed.exact:
            source = "entries AS e CROSS JOIN documents AS d"
            where.append(_of_entry(bound, narrowed))
        else:
            parts = narrowed.parts if isinstance(narrowed, Union) else (narrowed,)
            entries = " UNION ".join(
                f"SELECT DISTINCT e.id FROM entries AS e WHERE {_of_entry(bound, part)}"  # noqa: S608
                for part in parts
            )
            source = f"({entries}) AS e CROSS JOIN documents AS d"
    where.append(_of_document(bound, listed))
    return source, " AND ".join(where)


def _of_document(bound: Bound, listed: Listed) -> str:
    """Whether a document, d, is of the list."""
    own = f"d.collection = {key_of(bound.bind(listed.collection))}"
    live = f"(d.expires IS NULL OR d.expires > {bound.bind(listed.now)})"
    return f"{own} AND {live} AND {Filter(bound).condition(listed.node)}"


def _of_entry(bound: Bound, condition: Condition) -> str:
    """A condition, and that an entry is of its index."""
    return f"e.n = {bound.bind(condition.index.n)} AND {bind_all(bound, condition)}"
