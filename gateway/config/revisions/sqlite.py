"""The revisions in `config.sqlite` of the data folder, each text kept once, compressed.

Numbers come from a counter of SQLite's that survives the removal of old revisions; the audit, which lies
beside the file, keeps it from going back with a file that was lost, or restored from a backup.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.config.audit import file as audit_file
from gateway.config.ports import KEPT, HeadMoved, NoRevision
from gateway.config.revisions import file
from gateway.config.revisions.file import config_file, get_value, set_value
from gateway.core.config.revision import (
    CONFIRMED,
    EXPIRED,
    Draft,
    Origin,
    Revision,
    digest_of,
    draft_of,
    json_with,
)
from gateway.runtime import threads

L = logging.getLogger(__name__)
FILE = file.FILE
_COLUMNS = (
    "number, parent, digest, size, at, author, reason, source, address, restores, pinned, confirm_by, run,"
    " confirmation"
)
_ADD = f"INSERT INTO revisions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '')"  # noqa: S608 - a constant
_COUNTER = "SELECT seq FROM sqlite_sequence WHERE name = 'revisions'"
_FORGET = """
DELETE FROM revisions WHERE NOT pinned
AND number < (SELECT number FROM revisions ORDER BY number DESC LIMIT 1 OFFSET ?)
AND number <> (SELECT coalesce(max(number), 0) FROM revisions WHERE confirm_by = 0) RETURNING digest
"""
_FORGET_TEXT = """
DELETE FROM texts WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM revisions WHERE digest = ?1)
"""
_CONFIRM = """
UPDATE revisions SET confirm_by = 0, confirmation = ?
WHERE number = ? AND confirm_by > 0 AND confirmation <> ?
"""
_EXPIRE = "UPDATE revisions SET confirmation = ? WHERE number = ? AND confirm_by > 0"
_INTENDED = "intended"  # the name of a value


class SQLiteRevisions:
    """See RevisionStore. Raises SQLiteUnusable (an OSError), which names the file, the reason and a hint.

    only_copy: whether the config is nowhere else ([config] source = store). Then a damaged file ends the
    start: whatever would be served in its place is not what was live. Otherwise it is renamed and a new one
    begins: the gateway serves the config that its source has, and what was in the file is only its history.
    """

    def __init__(self, path: Path, *, only_copy: bool = False) -> None:
        self.path = path
        self._only_copy = only_copy
        self._file = config_file(path)

    async def start(self) -> None:
        """Make the file where there is none, and check one that is there."""
        await threads.run(threads.REVISIONS, self._start)

    async def close(self) -> None:
        """Let go of the file."""
        await threads.run(threads.REVISIONS, self._file.release)

    async def head(self) -> Revision | None:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._head)

    async def add(self, draft: Draft, parent: int, number: int = 0) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._add, draft, parent, number)

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
        return await threads.run(threads.REVISIONS, self._pin, number, pinned)

    async def confirm(self, number: int) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._confirm, number)

    async def expire(self, number: int) -> Revision:
        """See RevisionStore."""
        return await threads.run(threads.REVISIONS, self._expire, number)

    async def intend(self, draft: Draft | None) -> None:
        """See RevisionStore."""
        value = ""
        if draft is not None:
            value = await threads.run(threads.REVISIONS, json_with, draft.text, asdict(draft))
        await self.set_state(_INTENDED, value)

    async def intended(self) -> Draft | None:
        """See RevisionStore."""
        value = await self.state(_INTENDED)
        if not value:
            return None
        return draft_of(json.loads(value))

    # --- values by name ---

    async def state(self, name: str) -> str:
        """What this data folder remembers under a name; "" for nothing."""
        return await threads.run(threads.REVISIONS, self._state, name)

    async def set_state(self, name: str, value: str) -> None:
        """Remember it, on disk when this returns; "" forgets it."""
        await threads.run(threads.REVISIONS, self._set_state, name, value)

    # --- in a thread ---

    def _start(self) -> None:
        if self._only_copy:
            self._file.ensure()
        elif aside := self._file.ensure_or_set_aside():
            L.error(
                "%s is damaged. It was renamed to %s, and a new one begins: the config is served as its"
                " source has it, but the revisions until now are in the old file alone. To have them again,"
                " stop the gateway and put the last good backup there",
                *(self.path, aside.name),
            )
        self._file.hold()
        known = audit_file.last_revision(self.path.with_name(audit_file.FILE))
        with self._file.reading() as db:
            if known <= _counter(db):
                return
        with self._file.changing() as db:
            if known > _counter(db):
                db.execute("DELETE FROM sqlite_sequence WHERE name = 'revisions'")
                db.execute("INSERT INTO sqlite_sequence VALUES ('revisions', ?)", (known,))

    def _head(self) -> Revision | None:
        with self._file.reading() as db:
            return _newest(db)

    def _add(self, draft: Draft, parent: int, number: int) -> Revision:
        digest, raw, origin = draft.digest, draft.text.encode(), draft.origin
        compressed = zlib.compress(raw)
        with self._file.changing() as db:
            head = _newest(db)
            if head is not None and head.number != parent:
                raise HeadMoved(head)
            db.execute("INSERT OR REPLACE INTO texts VALUES (?, ?)", (digest, compressed))
            given = number if number > _counter(db) else None
            who = origin.author, origin.reason, origin.source, origin.address
            row = given, parent, digest, len(raw), draft.at, *who, draft.restores, draft.confirm_by, draft.run
            made = int(db.execute(_ADD, row).lastrowid or 0)
            set_value(db, _INTENDED, "")
            _forget(db)
            return _named(db, made)

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

    def _pin(self, number: int, pinned: bool) -> Revision:
        with self._file.changing() as db:
            db.execute("UPDATE revisions SET pinned = ? WHERE number = ?", (pinned, number))
            return _named(db, number)

    def _confirm(self, number: int) -> Revision:
        with self._file.changing() as db:
            db.execute(_CONFIRM, (CONFIRMED, number, EXPIRED))
            return _named(db, number)

    def _expire(self, number: int) -> Revision:
        with self._file.changing() as db:
            db.execute(_EXPIRE, (EXPIRED, number))
            return _named(db, number)

    def _state(self, name: str) -> str:
        with self._file.reading() as db:
            return get_value(db, name)

    def _set_state(self, name: str, value: str) -> None:
        if self._state(name) == value:  # so that a start needs no room on the disk
            return
        with self._file.changing() as db:
            set_value(db, name, value)


def _revision(row: tuple[Any, ...]) -> Revision:
    number, parent, digest, size, at, author, reason, source, address, restores, pinned, *more = row
    origin = Origin(author, reason, source, address)
    return Revision(number, parent, digest, size, at, origin, restores, bool(pinned), *more)


def _newest(db: sqlite3.Connection) -> Revision | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM revisions ORDER BY number DESC LIMIT 1").fetchone()  # noqa: S608
    return _revision(row) if row else None


def _named(db: sqlite3.Connection, number: int) -> Revision:
    row = db.execute(f"SELECT {_COLUMNS} FROM revisions WHERE number = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise NoRevision(f"there is no revision {number}, or it is not kept any more")
    return _revision(row)


def _counter(db: sqlite3.Connection) -> int:
    """The largest number that a revision ever had."""
    row = db.execute(_COUNTER).fetchone()
    return int(row[0]) if row else 0


def _forget(db: sqlite3.Connection) -> None:
    """What is beyond the last KEPT and not pinned, and texts that nothing refers to any more. What is live is
    the newest; the newest that waits for nothing is what a confirmation goes back to."""
    gone = {str(digest) for (digest,) in db.execute(_FORGET, (KEPT - 1,)).fetchall()}
    db.executemany(_FORGET_TEXT, [(digest,) for digest in gone])
