"""A file of an older gateway becomes one of this, as a whole or not at all."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.core.errors import StoreUnavailable, UniqueConflict
from gateway.store.model.document import ANY, Precondition
from gateway.store.model.patch import MergePatch
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files import tables
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.operator import SQLiteOperator
from tests.store import docs
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
    await docs.replace(tenant, "c0", "000", {"n": 0}, match(document.etag))
    await docs.replace(tenant, "c1", "new", {}, Precondition(none_match=frozenset({ANY})))
    assert len(await ids(tenant, "c1", '{"n":{"$gt":50}}')) == 25
    await store.close()
    assert await SQLiteOperator(tmp_path / "documents").verify(ACME) == ()


def test_an_empty_file_of_version_1_is_brought_up_to_date_too(tmp_path: Path) -> None:
    old_file(tmp_path / "acme.db", 0)
    open_writer(tmp_path / "acme.db", None).close()
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (tables.VERSION,)


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
    broken = (*tables._STEPS[1], "CREATE TABLE meta (again)")
    monkeypatch.setattr(tables, "_STEPS", (tables._STEPS[0], broken))
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
        connection.execute(f"PRAGMA user_version={tables.VERSION + 1}")
    with pytest.raises(StoreUnavailable):
        open_writer(tmp_path / "acme.db", None)
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (2,)


# As version 2 had it, beside the documents.
VERSION_2 = """
    ALTER TABLE documents ADD COLUMN expires REAL;
    CREATE INDEX documents_expires ON documents (expires) WHERE expires IS NOT NULL;
    CREATE TABLE collections (
        name TEXT PRIMARY KEY, incarnation TEXT NOT NULL, version INTEGER NOT NULL, settings TEXT,
        documents INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE indexes (
        n INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, name TEXT NOT NULL,
        fields TEXT NOT NULL, is_unique INTEGER NOT NULL, many INTEGER NOT NULL DEFAULT 0,
        UNIQUE (collection, name)
    ) STRICT;
    CREATE TABLE entries (
        n INTEGER NOT NULL, r INTEGER NOT NULL, val ANY NOT NULL, id TEXT NOT NULL, main INTEGER NOT NULL,
        PRIMARY KEY (n, r, val, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE uniques (
        n INTEGER NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (n, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE changes (
        seq INTEGER PRIMARY KEY, collection TEXT NOT NULL, kind INTEGER NOT NULL, id TEXT NOT NULL,
        tag TEXT NOT NULL, at REAL NOT NULL
    ) STRICT;
    CREATE TABLE idempotency (
        key TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, at REAL NOT NULL, result TEXT NOT NULL
    ) STRICT;
    CREATE INDEX idempotency_at ON idempotency (at);
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', 'abc');
    INSERT INTO documents VALUES ('c0', 'x', 1, 'i', 1.0, 1.0, 7, '{"n":1}', NULL);
    INSERT INTO collections VALUES
        ('c0', 'i', 4, '{"indexes":[{"name":"n","fields":["n"],"unique":true}]}', 1, 7);
    INSERT INTO indexes VALUES (7, 'c0', 'n', '[["n"]]', 1, 0);
    INSERT INTO entries VALUES (7, 1, 1, 'x', 1);
    INSERT INTO uniques VALUES (7, '[1]', 'x');
    PRAGMA user_version=2;
"""


async def test_indexes_of_version_2_hold_on_and_new_ones_have_other_numbers(tmp_path: Path) -> None:
    old_file(tmp_path / "acme.db", 0)
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        connection.executescript(VERSION_2)
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    tenant = store.tenant(ACME)
    assert (await tenant.collection("c0")).etag == '"i-4"'
    assert await ids(tenant, "c0", '{"n":1}') == ["x"]
    with pytest.raises(UniqueConflict):
        await docs.create(tenant, "c0", {"n": 1})
    await tenant.patch_collection("c0", MergePatch({"indexes": [{"name": "m", "fields": ["m"]}]}))
    await docs.create(tenant, "c0", {"n": 1})
    await store.close()
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("SELECT n, name FROM indexes").fetchall() == [(8, "m")]
