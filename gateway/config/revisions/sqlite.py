"""The revisions in `config.sqlite` of the data folder, each text kept once, compressed.

Numbers come from a counter of SQLite's that survives the removal of old revisions. Beside them a few values
by name: what this data folder remembers whatever the source and the store of the revisions are.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import asdict
from pathlib import Path

from gateway.config.ports import HeadMoved, NoRevision
from gateway.core.config.revision import Draft, Origin, Revision, digest_of
from gateway.runtime import threads
from gateway.runtime.sqlite_file import SQLiteFile

FILE = "config.sqlite"
KEPT = 1000  # revisions, and those that are pinned
_VERSION = 1
_SCHEMA = """
CREATE TABLE texts (digest TEXT PRIMARY KEY, compressed BLOB NOT NULL);
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, at REAL NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
    source TEXT NOT NULL, address TEXT NOT NULL, restores INTEGER NOT NULL, pinned INTEGER NOT NULL,
    confirm_by REAL NOT NULL
);
CREATE INDEX revisions_of_text ON revisions (digest);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_RESTORE = (
    "restore it from its backup, or move it away together with its -wal and -shm: then the history is lost"
)
_COLUMNS = "number, parent, digest, size, at, author, reason, source, address, restores, pinned, confirm_by"
_ADD = """
INSERT INTO revisions
(parent, digest, size, at, author, reason, source, address, restores, pinned, confirm_by)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)
"""
_FORGET = """
DELETE FROM revisions WHERE NOT pinned
AND number < (SELECT number FROM revisions ORDER BY number DESC LIMIT 1 OFFSET ?) RETURNING digest
"""
_FORGET_TEXT = """
DELETE FROM texts WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM revisions WHERE digest = ?1)
"""
_INTENDED = "intended"  # the name of a value


def config_file(path: Path) -> SQLiteFile:
    """The file of revisions and values at this path."""
    return SQLiteFile(path, _SCHEMA, _VERSION, _RESTORE)


def get_value(db: sqlite3.Connection, name: str) -> str:
    """A value; "" when there is none."""
    row = db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def set_value(db: sqlite3.Connection, name: str, value: str) -> None:
    """Set a value; "" removes it."""
    db.execute("DELETE FROM state WHERE name = ?", (name,))
    if value:
        db.execute("INSERT INTO state VALUES (?, ?)", (name, value))


class SQLiteRevisions:
    """See RevisionStore. Raises SQLiteUnusable (an OSError), which names the file, the reason and a hint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = config_file(path)

    async def start(self) -> None:
        """Make the file where there is none, and check one that is there."""
        await threads.run(threads.REVISIONS, self._file.ensure, "revisions", "state")

    async def close(self) -> None:
        """Nothing is held open."""

    async def head(self) -> Revision | None:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._head)

    async def add(self, draft: Draft, parent: int) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._add, draft, parent)

    async def get(self, number: int) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._get, number)

    async def text(self, number: int) -> str:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._text, number)

    async def page(self, before: int, limit: int) -> list[Revision]:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._page, before, limit)

    async def pin(self, number: int, *, pinned: bool) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._update, number, "pinned", pinned)

    async def confirm(self, number: int) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._update, number, "confirm_by", 0.0)

    async def intend(self, draft: Draft | None) -> None:
        """See RevisionStore."""
        value = "" if draft is None else json.dumps(asdict(draft))
        await self.set_state(_INTENDED, value)

    async def intended(self) -> Draft | None:
        """See RevisionStore."""
        value = await self.state(_INTENDED)
        if not value:
            return None
        fields = json.loads(value)
        return Draft(**{**fields, "origin": Origin(**fields["origin"])})

    # --- values by name ---

    async def state(self, name: str) -> str:
        """What this data folder remembers under a name; "" for nothing."""
        return await threads.run(threads.REVISIONS, self._state, name)

    async def set_state(self, name: str, value: str) -> None:
        """Remember it, on disk when this returns; "" forgets it."""
        await threads.run(threads.REVISIONS, self._set_state, name, value)

    # --- in a thread ---

    def _head(self) -> Revision | None:
        with self._file.reading() as db:
            return _newest(db)

    def _add(self, draft: Draft, parent: int) -> Revision:
        digest, raw, origin = draft.digest, draft.text.encode(), draft.origin
        compressed = zlib.compress(raw)
        with self._file.changing() as db:
            head = _newest(db)
            if head is not None and head.number != parent:
                raise HeadMoved(head)
            db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (digest, compressed))
            who = origin.author, origin.reason, origin.source, origin.address
            row = parent, digest, len(raw), draft.at, *who, draft.restores, draft.confirm_by
            number = int(db.execute(_ADD, row).lastrowid or 0)
            set_value(db, _INTENDED, "")
            _forget(db)
            return _named(db, number)

    def _get(self, number: int) -> Revision:
        with self._file.reading() as db:
            return _named(db, number)

    def _text(self, number: int) -> str:
        with self._file.reading() as db:
            revision = _named(db, number)
            row = db.execute("SELECT compressed FROM texts WHERE digest = ?", (revision.digest,)).fetchone()
        try:
            text = zlib.decompress(row[0]).decode() if row else ""
        except (zlib.error, UnicodeDecodeError):
            text = ""
        if digest_of(text) != revision.digest:
            raise self._file.damaged(f"the text of revision {number} is not what it was")
        return text

    def _page(self, before: int, limit: int) -> list[Revision]:
        query = f"SELECT {_COLUMNS} FROM revisions WHERE ?1 = 0 OR number < ?1 ORDER BY number DESC LIMIT ?2"  # noqa: S608
        with self._file.reading() as db:
            return [_revision(row) for row in db.execute(query, (before, limit))]

    def _update(self, number: int, column: str, value: float) -> Revision:
        with self._file.changing() as db:
            db.execute(f"UPDATE revisions SET {column} = ? WHERE number = ?", (value, number))  # noqa: S608
            return _named(db, number)

    def _state(self, name: str) -> str:
        with self._file.reading() as db:
            return get_value(db, name)

    def _set_state(self, name: str, value: str) -> None:
        with self._file.changing() as db:
            set_value(db, name, value)


def _revision(row: tuple[int, int, str, int, float, str, str, str, str, int, int, float]) -> Revision:
    number, parent, digest, size, at, author, reason, source, address, restores, pinned, confirm_by = row
    origin = Origin(author, reason, source, address)
    return Revision(number, parent, digest, size, at, origin, restores, bool(pinned), confirm_by)


def _newest(db: sqlite3.Connection) -> Revision | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM revisions ORDER BY number DESC LIMIT 1").fetchone()  # noqa: S608
    return _revision(row) if row else None


def _named(db: sqlite3.Connection, number: int) -> Revision:
    row = db.execute(f"SELECT {_COLUMNS} FROM revisions WHERE number = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise NoRevision(f"there is no revision {number}, or it is not kept any more")
    return _revision(row)


def _forget(db: sqlite3.Connection) -> None:
    """What is beyond the last KEPT and not pinned, and texts that nothing refers to any more. What is live,
    and what a confirmation goes back to, are the two newest."""
    gone = {str(digest) for (digest,) in db.execute(_FORGET, (KEPT - 1,)).fetchall()}
    db.executemany(_FORGET_TEXT, [(digest,) for digest in gone])
