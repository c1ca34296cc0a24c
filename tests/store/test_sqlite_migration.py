"""A file of an older gateway becomes one of this, as a whole or not at all."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store import sqlite_schema
from gateway.store.document import ANY, Precondition
from gateway.store.sqlite import SQLiteDocumentStore
from gateway.store.sqlite_connections import open_writer
from gateway.store.sqlite_operator import SQLiteOperator
from tests.store.conformance import ACME, ids, match, names

# The schema as version 1 had it, written out: it must not change with the code.
VERSION_1 = """
    CREATE TABLE documents (
        collection TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        incarnation TEXT NOT NULL,
        created REAL NOT NULL,
        modified REAL NOT NULL,
        size INTEGER NOT NULL,
        data TEXT NOT NULL,
        UNIQUE (collection, id)
    ) STRICT"""


def old_file(path: Path, documents: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(VERSION_1)
        connection.execute("PRAGMA application_id=0x47574453")
        connection.execute("PRAGMA user_version=1")
        for n in range(documents):
            text = json.dumps({"n": n}, separators=(",", ":"))
            row = (f"c{n % 2}", f"{n:03}", 3, "abcdefghijklmnop", 1.25, 2.5, len(text), text)
            connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


async def test_documents_of_version_1_are_there_with_their_tags_counts_and_all_that_is_new(
    tmp_path: Path,
) -> None:
    old_file(tmp_path / "documents" / "acme.db", 101)
    store = SQLiteDocumentStore(tmp_path / "documents", b"k" * 32)
    await store.start()
    tenant = store.tenant(ACME)
    document = await tenant.read("c0", "000")
    assert (document.etag, document.created, document.modified) == ('"abcdefghijklmnop-3"', 1.25, 2.5)
    assert await names(tenant) == ["c0", "c1"]
    counted = await tenant.collection("c0")
    assert (counted.documents, counted.declared) == (51, False) and counted.bytes > 0
    await tenant.replace("c0", "000", {"n": 0}, match(document.etag))
    await tenant.replace("c1", "new", {}, Precondition(none_match=frozenset({ANY})))
    assert len(await ids(tenant, "c1", '{"n":{"$gt":50}}')) == 25
    await store.close()
    assert await SQLiteOperator(tmp_path / "documents").verify(ACME) == ()


def test_an_empty_file_of_version_1_is_brought_up_to_date_too(tmp_path: Path) -> None:
    old_file(tmp_path / "acme.db", 0)
    open_writer(tmp_path / "acme.db", None).close()
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (sqlite_schema.VERSION,)


def test_old_and_new_files_have_the_same_schema(tmp_path: Path) -> None:
    old_file(tmp_path / "old.db", 1)
    schemas = []
    for name in ("old.db", "new.db"):
        with closing(open_writer(tmp_path / name, None)) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
            schemas.append([(kind, title, " ".join((sql or "").split())) for kind, title, sql in rows])
    assert schemas[0] == schemas[1]


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_file(tmp_path / "acme.db", 10)
    broken = (*sqlite_schema._STEPS[1], "CREATE TABLE meta (again)")
    monkeypatch.setattr(sqlite_schema, "_STEPS", (sqlite_schema._STEPS[0], broken))
    with pytest.raises(sqlite3.OperationalError):
        open_writer(tmp_path / "acme.db", None)
    monkeypatch.undo()
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (2,)
    with closing(open_writer(tmp_path / "acme.db", None)) as connection:
        assert connection.execute("SELECT sum(documents) FROM collections").fetchone() == (10,)


def test_a_file_of_a_newer_gateway_is_refused_and_untouched(tmp_path: Path) -> None:
    old_file(tmp_path / "acme.db", 1)
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        connection.execute("PRAGMA user_version=4")
    with pytest.raises(StoreUnavailable):
        open_writer(tmp_path / "acme.db", None)
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (2,)
