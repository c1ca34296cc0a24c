"""Lists in SQLite: one page, and counting.

As in sqlite_filter.py, whatever came from a client is a bound parameter.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gateway.store import sqlite_documents, sqlite_errors, sqlite_plan, sqlite_walk
from gateway.store.document import Document
from gateway.store.large import is_light
from gateway.store.nodes import CREATED, EVERYTHING, ID, META, Node, Path
from gateway.store.query import Page
from gateway.store.sort import (
    MAX_TEXT,
    RANK_ARRAY,
    RANK_BOOL,
    RANK_NULL,
    RANK_NUMBER,
    RANK_OBJECT,
    RANK_TEXT,
    SortKey,
    SortValue,
    rank,
    sort_value,
)
from gateway.store.sqlite_filter import Filter
from gateway.store.sqlite_plan import SCAN, Condition, Plan, Union
from gateway.store.sqlite_state import read_indexes
from gateway.store.sqlite_statement import Bound, apart, json_path, key_of
from gateway.store.sqlite_walk import bind_all

# A page ends early when its documents together are larger, so that no page holds gigabytes.
PAGE_BYTES = 4 * 1024 * 1024

_ID_KEY = SortKey(ID)
# The writer counts; what has expired since is few, and found by its index.
_COUNT_ALL = f"""
    SELECT ifnull((SELECT documents FROM collections WHERE name = :name), 0)
        - (SELECT count(*) FROM documents INDEXED BY documents_expires
            WHERE collection = {key_of(':name')} AND expires <= :now)"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Listed:
    """Which documents, in which order, as of when."""

    collection: str
    node: Node
    sort: tuple[SortKey, ...]
    now: float


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

    position: what an earlier page ended with. All is read in one snapshot. most: a page whose documents have
    more bytes than that, or of which one is not small, is given up as if it were interrupted.
    """
    connection.execute("BEGIN")
    try:
        indexes = [stored for stored in read_indexes(connection, listed.collection) if not stored.building]
        plan = sqlite_plan.choose(connection, indexes, listed.node, listed.sort)
        identifiers = _find_ids(connection, listed, limit + 1, position, plan)
        documents = _read_some(connection, listed, identifiers[:limit], most)
        total = _count(connection, listed, plan) if count else None
        is_last = len(documents) == len(identifiers)
        end = None if is_last else _position(connection, listed, documents[-1])
    finally:
        connection.execute("ROLLBACK")
    return Page(tuple(documents), count=total), end


def _find_ids(
    connection: sqlite3.Connection, listed: Listed, limit: int, position: list[Any] | None, plan: Plan
) -> list[str]:
    """The ids of a page in order."""
    if plan.walked is not None and sqlite_walk.is_needed(_with_tie_breaker(listed.sort)):
        narrowed = plan.narrowed if isinstance(plan.narrowed, Condition) else None
        walk = sqlite_walk.Walk(
            connection,
            plan.walked.n,
            narrowed,
            lambda bound: _of_document(bound, listed),
            descending=listed.sort[0].descending,
        )
        return walk.find(limit, position)
    statement, bound = select_ids(listed, limit, position, plan)
    return [identifier for (identifier,) in bound.execute(connection, statement)]


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
                raise sqlite_errors.interrupted()
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


def select_ids(
    listed: Listed, limit: int, position: list[Any] | None, plan: Plan = SCAN
) -> tuple[str, Bound]:
    """The statement that gives the ids of a page in order, and what is bound to it."""
    bound = Bound()
    source, where = _source(bound, listed, plan)
    keys = _with_tie_breaker(listed.sort)
    columns, order = ["d.id AS id" if plan == SCAN else "e.id AS id"], []
    for index, key in enumerate(keys):
        direction = " DESC" if key.descending else ""
        if key.path == ID:
            order.append("id" + direction)
            continue
        if index == 0 and plan.walked is not None:
            columns.append("e.r AS r0, e.val AS v0")
        else:
            columns += _sort_columns(bound, index, key.path)
        order += [f"r{index}{direction}", f"v{index}{direction}"]
    after = "1" if position is None else _after(bound, keys, position, walked=plan.walked is not None)
    statement = (
        f"SELECT id FROM (SELECT {', '.join(columns)} FROM {source} WHERE {where}) "  # noqa: S608
        f"WHERE {after} ORDER BY {', '.join(order)} LIMIT {bound.bind(limit)}"
    )
    return statement, bound


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


def _with_tie_breaker(sort: tuple[SortKey, ...]) -> tuple[SortKey, ...]:
    """Keys that no two documents share; whatever stands behind the id decides nothing."""
    for index, key in enumerate(sort):
        if key.path == ID:
            return sort[: index + 1]
    return (*sort, _ID_KEY)


def _position(connection: sqlite3.Connection, listed: Listed, document: Document) -> list[Any]:
    own = [key.path for key in listed.sort if key.path != ID and key.path not in META]
    light = not document.encoded and is_light(document.text)
    data = document.data if own and light else {}
    return [
        _read_value(connection, listed, document.id, key.path)
        if key.path in own and not light
        else sort_value(key.path, document.id, data, document.created, document.modified)
        for key in _with_tie_breaker(listed.sort)
    ]


def _read_value(connection: sqlite3.Connection, listed: Listed, identifier: str, path: Path) -> SortValue:
    """Where a large document stands, without reading its JSON here. A number by its text: see Bound.real."""
    bound = Bound()
    at, of = bound.bind(json_path(*path)), key_of(bound.bind(listed.collection))
    kind = f"json_type(d.data, {at})"
    text = (
        f"CASE WHEN {kind} IN ('integer', 'real') THEN d.data -> {at} "
        f"WHEN {kind} = 'text' THEN d.data ->> {at} END"
    )
    where = f"d.collection = {of} AND d.id = {bound.bind(identifier)}"
    with apart():
        rows = bound.execute(connection, f"SELECT {kind}, {text} FROM documents AS d WHERE {where}")  # noqa: S608
        ((found, value),) = rows.fetchall()
    if found in ("integer", "real"):
        return rank(json.loads(value))
    kinds = {"text": value, "true": True, "false": False, "object": {}, "array": []}
    return rank(kinds.get(found))


def _sort_columns(bound: Bound, index: int, path: Path) -> list[str]:
    """`r`, the rank of the type, and `v`, the value within it; see sort.py."""
    if path in META:
        return [f"{RANK_NUMBER} AS r{index}", f"d.{'created' if path == CREATED else 'modified'} AS v{index}"]
    return [
        f"{bound.unless_large(lambda bound: _rank_column(bound, path))} AS r{index}",
        f"{bound.unless_large(lambda bound: _value_column(bound, path))} AS v{index}",
    ]


def _rank_column(bound: Bound, path: Path) -> str:
    kind = f"json_type(d.data, {bound.bind(json_path(*path))})"
    return (
        f"CASE {kind} WHEN 'integer' THEN {RANK_NUMBER} WHEN 'real' THEN {RANK_NUMBER} "
        f"WHEN 'text' THEN {RANK_TEXT} WHEN 'object' THEN {RANK_OBJECT} WHEN 'array' THEN {RANK_ARRAY} "
        f"WHEN 'false' THEN {RANK_BOOL} WHEN 'true' THEN {RANK_BOOL} ELSE {RANK_NULL} END"
    )


def _value_column(bound: Bound, path: Path) -> str:
    at = bound.bind(json_path(*path))
    kind, value = f"json_type(d.data, {at})", f"json_extract(d.data, {at})"
    return (
        f"CASE {kind} WHEN 'integer' THEN {value} WHEN 'real' THEN {value} "
        f"WHEN 'text' THEN substr({value}, 1, {MAX_TEXT}) WHEN 'true' THEN 1 ELSE 0 END"
    )


def _after(bound: Bound, keys: tuple[SortKey, ...], position: list[Any], *, walked: bool) -> str:
    """Whether a row stands after a position: greater in the first key that differs."""
    key, (rank, value) = keys[len(keys) - len(position)], position[0]
    sign = "<" if key.descending else ">"
    if key.path == ID:
        return f"id {sign} {bound.bind(value)}"
    index = len(keys) - len(position)
    # What is stored as a number is compared with just this number, what lies in JSON as SQLite reads it.
    exact = key.path in META or walked
    limit = f"({bound.bind(rank)}, {bound.bind(value) if exact else bound.real(value)})"
    here = f"(r{index}, v{index})"
    rest = _after(bound, keys, position[1:], walked=False)
    after = f"({here} {sign} {limit} OR ({here} = {limit} AND {rest}))"
    # SQLite looks for the begin of an index's range only where no OR is.
    return f"({here} {sign}= {limit} AND {after})" if walked else after
