"""Whether a tenant's file is whole: SQLite's own check, and what the tables say about each other."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator

from gateway.store.model.idempotency import KEY_BYTES
from gateway.store.model.indexing import main_entry, other_entries, unique_key
from gateway.store.sqlite.read.statement import key_of, name_of
from gateway.store.sqlite.write.state import State, StoredIndex, read_state

MAX_PROBLEMS = 20

_MISCOUNTED = f"""
    SELECT name FROM collections AS c LEFT JOIN
        (SELECT collection, count(*) AS n, sum(size) AS b FROM documents GROUP BY collection) AS d
        ON d.collection = {key_of("c.name")}
    WHERE ifnull(n, 0) <> documents OR ifnull(b, 0) <> bytes"""  # noqa: S608
_MISHELD = f"""
    SELECT 1 FROM held WHERE (documents, bytes, settings, collections) IS NOT (
        SELECT ifnull(sum(documents), 0), ifnull(sum(bytes), 0),
            ifnull(sum(length(CAST(settings AS BLOB))), 0), count(*) FROM collections)
    OR remembered <> (
        SELECT ifnull(sum({KEY_BYTES} + length(CAST(key AS BLOB)) + length(CAST(result AS BLOB))), 0)
        FROM idempotency)"""  # noqa: S608
_UNLISTED = f"""
    SELECT DISTINCT collection FROM documents
    WHERE collection NOT IN (SELECT {key_of("c.name")} FROM collections AS c)
        AND collection NOT IN (SELECT key FROM trash WHERE key IS NOT NULL)"""  # noqa: S608
_STRAY = """
    SELECT n FROM (SELECT n FROM entries UNION SELECT n FROM uniques)
    WHERE n NOT IN (SELECT n FROM indexes) AND n NOT IN (SELECT n FROM trash WHERE n IS NOT NULL)"""
_NOT_JSON = """
    SELECT collection, id FROM documents
    WHERE NOT json_valid(data) OR size <> length(CAST(data AS BLOB)) OR json_type(data) <> 'object'"""

_NAMES = "SELECT name FROM collections UNION SELECT collection FROM indexes"
_ENDINGS = """
    SELECT id, modified, expires, data FROM documents WHERE collection = ? AND (expires IS NOT NULL OR ?)"""


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong, a sentence each; empty when nothing is. It reads everything. Raises sqlite3.Error."""
    (checked,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if checked != "ok":
        return [f"SQLite finds the file damaged: {' '.join(checked.split()).removesuffix('.')}."]
    found: list[str] = []
    connection.execute("BEGIN")
    try:
        for problem in _all(connection):
            found.append(problem)
            if len(found) == MAX_PROBLEMS:
                break
    finally:
        connection.execute("ROLLBACK")
    return found


def _all(connection: sqlite3.Connection) -> Iterator[str]:
    damaged = connection.execute(_NOT_JSON).fetchall()
    for collection, identifier in damaged:
        yield f"The document {identifier} of {collection} is not what was written."
    if damaged:  # what the indexes should hold of them is not known
        return
    for (name,) in connection.execute(_MISCOUNTED):
        yield f"The documents of {name} are miscounted."
    if connection.execute(_MISHELD).fetchone() is not None:
        yield "What counts for the tenant's quota is miscounted."
    for (key,) in connection.execute(_UNLISTED):
        yield f"The collection {name_of(key)} is not listed."
    for (n,) in connection.execute(_STRAY):
        yield f"There are entries of an index {n}, which is not listed."
    for (name,) in connection.execute(_NAMES).fetchall():
        state = read_state(connection, name)
        yield from _endings(connection, state)
        for stored in state.indexes:
            # One that cannot be unique is on its way into the trash.
            if state.alteration is None or state.alteration.conflict is None or not stored.building:
                yield from _index(connection, state, stored)


def _endings(connection: sqlite3.Connection, state: State) -> Iterator[str]:
    """Whether each document ends when it must."""
    alteration = state.alteration
    any_may = state.settings.ttl is not None or alteration is not None
    for identifier, modified, expires, text in connection.execute(_ENDINGS, (state.key, any_may)):
        if alteration is not None and alteration.undo and not alteration.covers(identifier):
            continue  # it is by either ttl
        ttl = state.ttl_of(identifier)
        if expires != (None if ttl is None else ttl.expires(modified, json.loads(text))):
            yield f"The document {identifier} of {state.name} does not end when it should."


def _index(connection: sqlite3.Connection, state: State, stored: StoredIndex) -> Iterator[str]:
    """Whether an index holds what it must: each document's entries, and no others."""
    wanted: Counter[str] = Counter()
    collection = state.name
    rows = connection.execute("SELECT id, data FROM documents WHERE collection = ?", (state.key,))
    for identifier, text in rows:
        if stored not in state.indexes_of(identifier):
            continue
        data = json.loads(text)
        if len(stored.index.fields) == 1:
            entries = [(*main_entry(stored.path, data), 1)]
            entries += [(*entry, 0) for entry in other_entries(stored.path, data)]
            for entry in entries:
                where = "n = ? AND r = ? AND val = ? AND main = ? AND id = ?"
                row = (stored.n, *entry, identifier)
                if not _exists(connection, f"SELECT 1 FROM entries WHERE {where}", row):  # noqa: S608
                    yield f"The index {stored.index.name} of {collection} misses the document {identifier}."
            wanted["entries"] += len(entries)
        key = unique_key(stored.index, data) if stored.index.unique else None
        if key is not None:
            held = "SELECT 1 FROM uniques WHERE n = ? AND key = ? AND id = ?"
            if not _exists(connection, held, (stored.n, key, identifier)):
                yield f"The index {stored.index.name} of {collection} misses the values of {identifier}."
            wanted["uniques"] += 1
    for table in ("entries", "uniques"):
        statement = f"SELECT count(*) FROM {table} WHERE n = ?"  # noqa: S608
        if connection.execute(statement, (stored.n,)).fetchone()[0] != wanted[table]:
            yield f"The index {stored.index.name} of {collection} holds what is no document's."


def _exists(connection: sqlite3.Connection, statement: str, row: tuple[object, ...]) -> bool:
    return connection.execute(statement, row).fetchone() is not None
