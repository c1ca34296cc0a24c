"""`config.sqlite` of the data folder: its tables, and the values by name that are in it.

It is there whatever the source of the config and the store of its revisions are: the audit has its anchor in
it, and a start without its source the last good text.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.runtime.sqlite_file import SQLiteFile

FILE = "config.sqlite"
_VERSION = 2
_SCHEMA = """
CREATE TABLE texts (digest TEXT PRIMARY KEY, compressed BLOB NOT NULL);
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, at REAL NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
    source TEXT NOT NULL, address TEXT NOT NULL, restores INTEGER NOT NULL, pinned INTEGER NOT NULL,
    confirm_by REAL NOT NULL, run TEXT NOT NULL DEFAULT '', confirmation TEXT NOT NULL DEFAULT ''
);
CREATE INDEX revisions_of_text ON revisions (digest);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_UPGRADES = {
    1: """
ALTER TABLE revisions ADD COLUMN run TEXT NOT NULL DEFAULT '';
ALTER TABLE revisions ADD COLUMN confirmation TEXT NOT NULL DEFAULT '';
"""
}
_DAMAGED = (
    "restore it from its backup, or move it away together with its -wal and -shm: then the history of the"
    " config is lost, and a config that is nowhere else ([config] source = store)"
)
_GONE = "restore it from its backup, or restart the gateway: then a new one begins"


def config_file(path: Path) -> SQLiteFile:
    """The file at this path."""
    return SQLiteFile(path, _SCHEMA, _VERSION, _DAMAGED, _GONE, _UPGRADES)


def get_value(db: sqlite3.Connection, name: str) -> str:
    """A value; "" when there is none."""
    row = db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def set_value(db: sqlite3.Connection, name: str, value: str) -> None:
    """Set a value; "" removes it."""
    db.execute("DELETE FROM state WHERE name = ?", (name,))
    if value:
        db.execute("INSERT INTO state VALUES (?, ?)", (name, value))
