"""Lists in SQLite: the sort's keys as SQL, and reading one page.

As in sqlite_filter.py, whatever came from a client is a bound parameter.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from gateway.store import sqlite_operations
from gateway.store.document import Document
from gateway.store.nodes import ID, Node, Path
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
    sort_value,
)
from gateway.store.sqlite_filter import Statement, json_path
from gateway.store.strict_json import dumps

# A page ends early when its documents together are larger, so that no page holds gigabytes.
PAGE_BYTES = 4 * 1024 * 1024

_ID_KEY = SortKey(ID)


def read_page(
    connection: sqlite3.Connection,
    collection: str,
    node: Node,
    sort: tuple[SortKey, ...],
    limit: int,
    position: list[Any] | None,
) -> tuple[Page[Document], list[Any] | None]:
    """A page of a list and the position of its end, None at the end of the list.

    position: what an earlier page ended with. All is read in one snapshot.
    """
    statement, bound = select_ids(collection, node, sort, limit + 1, position)
    documents: list[Document] = []
    connection.execute("BEGIN")
    try:
        identifiers = [identifier for (identifier,) in connection.execute(statement, bound)]
        size = 0
        for identifier in identifiers[:limit]:
            document = sqlite_operations.read(connection, collection, identifier)
            assert document is not None
            documents.append(document)
            size += len(document.text)
            if size > PAGE_BYTES:
                break
    finally:
        connection.execute("ROLLBACK")
    page = Page(tuple(documents))
    if len(documents) == len(identifiers):
        return page, None
    return page, _position(documents[-1], sort)


def select_ids(
    collection: str, node: Node, sort: tuple[SortKey, ...], limit: int, position: list[Any] | None
) -> tuple[str, list[Any]]:
    """The statement that gives the ids of a page in order, and what is bound to it."""
    query = Statement()
    where = [f"collection = {query.bind(collection)}", query.condition(node)]
    keys = _with_tie_breaker(sort)
    columns, order = ["id"], []
    for index, key in enumerate(keys):
        direction = " DESC" if key.descending else ""
        if key.path == ID:
            order.append("id" + direction)
        else:
            columns += _sort_columns(query, index, key.path)
            order += [f"r{index}{direction}", f"v{index}{direction}"]
    after = "1" if position is None else _after(query, keys, position)
    statement = (
        f"SELECT id FROM (SELECT {', '.join(columns)} FROM documents WHERE {' AND '.join(where)}) "  # noqa: S608
        f"WHERE {after} ORDER BY {', '.join(order)} LIMIT {query.bind(limit)}"
    )
    return statement, query.bound


def _with_tie_breaker(sort: tuple[SortKey, ...]) -> tuple[SortKey, ...]:
    """Keys that no two documents share; whatever stands behind the id decides nothing."""
    for index, key in enumerate(sort):
        if key.path == ID:
            return sort[: index + 1]
    return (*sort, _ID_KEY)


def _position(document: Document, sort: tuple[SortKey, ...]) -> list[Any]:
    data = document.data if any(key.path != ID for key in sort) else {}
    return [sort_value(key.path, document.id, data) for key in _with_tie_breaker(sort)]


def _sort_columns(statement: Statement, index: int, path: Path) -> list[str]:
    """`r`, the rank of the type, and `v`, the value within it; see sort.py."""
    bound = statement.bind(json_path(*path))
    kind, value = f"json_type(data, {bound})", f"json_extract(data, {bound})"
    rank = (
        f"CASE {kind} WHEN 'integer' THEN {RANK_NUMBER} WHEN 'real' THEN {RANK_NUMBER} "
        f"WHEN 'text' THEN {RANK_TEXT} WHEN 'object' THEN {RANK_OBJECT} WHEN 'array' THEN {RANK_ARRAY} "
        f"WHEN 'false' THEN {RANK_BOOL} WHEN 'true' THEN {RANK_BOOL} ELSE {RANK_NULL} END"
    )
    within = (
        f"CASE {kind} WHEN 'integer' THEN {value} WHEN 'real' THEN {value} "
        f"WHEN 'text' THEN substr({value}, 1, {MAX_TEXT}) WHEN 'true' THEN 1 ELSE 0 END"
    )
    return [f"{rank} AS r{index}", f"{within} AS v{index}"]


def _after(statement: Statement, keys: tuple[SortKey, ...], position: list[Any]) -> str:
    """Whether a row stands after a position: greater in the first key that differs."""
    key, (rank, value) = keys[len(keys) - len(position)], position[0]
    sign = "<" if key.descending else ">"
    if key.path == ID:
        return f"id {sign} {statement.bind(value)}"
    index = len(keys) - len(position)
    # As text, so that SQLite reads the number as it reads the stored one.
    limit = f"({statement.bind(rank)}, json_extract({statement.bind(dumps(value))}, '$'))"
    here = f"(r{index}, v{index})"
    return f"({here} {sign} {limit} OR ({here} = {limit} AND {_after(statement, keys, position[1:])}))"
