"""The file of API keys and revocations, `auth.sqlite` in the data folder: its owner's alone, in SQLite's WAL.

Every process of the host reads it, and sees what another one has committed by `PRAGMA data_version`. Commands
and the admin listener write it. Each change is one transaction, on the disk before it is acknowledged, with a
row in `events` that says who did what (never a secret); the number of the last one tells one state from the
next. A file that cannot be read or written is an error, and is never made anew: that would forget what was
revoked. All of it blocks.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from gateway.core.api_keys import FOREVER, ApiKey, KeySecret
from gateway.core.revocations import Revocation
from gateway.runtime.sqlite_file import SQLiteFile, is_shared, transaction

FILE = "auth.sqlite"
MAX_KEYS = 10_000
MAX_SECRETS = 50  # of a key, which overlap
MAX_REVOCATIONS = 10_000  # to take a change of so many holds the event loop for some 20 ms
MAX_EVENTS = 10_000
REMEMBERED = 30 * 86400.0  # seconds for which a key that is over is still listed
EXCHANGED = 3600.0  # seconds in which tokens that were made with a key have expired
_VERSION = 1
_SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, subject TEXT NOT NULL, scopes TEXT NOT NULL,
    name TEXT NOT NULL, created REAL NOT NULL, by TEXT NOT NULL, revoked REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE secrets (
    digest BLOB PRIMARY KEY, key TEXT NOT NULL, created REAL NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE public_keys (key TEXT PRIMARY KEY, jwks TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX secrets_of_key ON secrets (key);
CREATE TABLE revocations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, until REAL NOT NULL, created REAL NOT NULL, by TEXT NOT NULL,
    reason TEXT NOT NULL, jti TEXT NOT NULL, tenant TEXT NOT NULL, subject TEXT NOT NULL,
    api_key TEXT NOT NULL, issuer TEXT NOT NULL, before REAL NOT NULL
);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, by TEXT NOT NULL, what TEXT NOT NULL
);
"""
_DAMAGED = (
    "restore it from its backup; without one, move it away together with its -wal and -shm: then no API key"
    " is known, and nothing is revoked"
)
_GONE = "restore it from its backup; what was revoked and given out would be forgotten without it"
_ADD_KEY = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)"
_ADD_SECRET = "INSERT INTO secrets VALUES (?, ?, ?, ?)"  # noqa: S105 - a statement
_ADD = """
INSERT INTO revocations (until, created, by, reason, jti, tenant, subject, api_key, issuer, before)
VALUES (:until, :created, :by, :reason, :jti, :tenant, :subject, :api_key, :issuer, :before)
"""
# Of all keys, or (not NULL) of the one with this id.
_SECRETS = """
SELECT key, digest, created, until FROM secrets WHERE ?1 IS NULL OR key = ?1 ORDER BY created DESC
"""
_KEYS = """
SELECT id, tenant, subject, scopes, name, created, by, revoked, used,
coalesce((SELECT jwks FROM public_keys WHERE key = id), '') FROM keys WHERE ?1 IS NULL OR id = ?1
ORDER BY created, id
"""
_REVOCATIONS = """
SELECT until, number, created, by, reason, jti, tenant, subject, api_key, issuer, before FROM revocations
ORDER BY number
"""
# What has been over for long: keys, and secrets that others have replaced.
_FORGET_KEYS = """
DELETE FROM keys WHERE (revoked > 0 AND revoked < ?1)
OR id IN (SELECT key FROM secrets GROUP BY key HAVING max(until) < ?1)
"""
_FORGET_SECRETS = """
DELETE FROM secrets WHERE key NOT IN (SELECT id FROM keys)
OR (until < ?1 AND created < (SELECT max(created) FROM secrets AS others WHERE others.key = secrets.key))
"""


class Unknown(ValueError):
    """There is no key, or no revocation, of that name."""


class Event(NamedTuple):
    """A change. at: seconds since the epoch. by: who made it. what: a clause without a secret."""

    number: int
    at: float
    by: str
    what: str


class State(NamedTuple):
    """All of the file at one moment. position: the number of the last event. file: its device and inode."""

    position: int
    file: tuple[int, int]
    keys: dict[str, ApiKey]
    revocations: list[Revocation]


NOTHING = State(-1, (0, 0), {}, [])  # before the file was read


class AuthStore:
    """The file at this path. Each method may be called in any thread, `read` and `close` by one at a time.
    Raises SQLiteUnusable; ValueError for what cannot be done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sqlite = SQLiteFile(path, _SCHEMA, _VERSION, _DAMAGED, _GONE)
        self._reader: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # device and inode that the reader has open
        self._seen = -1  # the data_version of the last read

    # --- reading ---

    def ensure(self) -> None:
        """Make the file where there is none, and check the one that is there."""
        self._sqlite.ensure()

    def read(self, known: State) -> State | None:
        """What the file says; None when that is what is known already, which costs one look."""
        with self._sqlite.errors():
            status = self.path.stat()
            file = status.st_dev, status.st_ino
            if self._reader is None or file != self._file:
                self.close()
                self._reader, self._file, self._seen = self._sqlite.open(), file, -1
            db = self._reader
            version = _data_version(db)  # first: what is committed while it is read counts as new
            if version == self._seen:
                return None
            with transaction(db, "DEFERRED"):
                position = _position(db)
                is_known = (position, file) == (known.position, known.file)
                state = None if is_known else State(position, file, _keys(db), _revocations(db))
            self._seen = version
            if not is_shared(db):
                self.close()
            return state

    def events(self, after: int, limit: int = 100) -> list[Event]:
        """The changes after the event with this number, at most so many."""
        with self._sqlite.reading() as db:
            rows = db.execute("SELECT * FROM events WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
            return [Event(*row) for row in rows]

    def close(self) -> None:
        """Close the reader; another `read` opens it again."""
        reader, self._reader, self._file = self._reader, None, None
        if reader is not None:
            reader.close()

    # --- changes ---

    def create_key(self, key: ApiKey) -> None:
        """Add a key."""
        about = f"created the API key {_named(key)}, with the scopes {key.scopes!r}"
        with self._change(key.created, key.by, about) as db:
            if db.execute("SELECT count(*) FROM keys").fetchone()[0] >= MAX_KEYS:
                raise ValueError(f"there are {MAX_KEYS:,} API keys already; revoke those that nobody uses")
            row = key.id, key.tenant, key.subject, key.scopes, key.name, key.created, key.by
            db.execute(_ADD_KEY, row)
            _add_secret(db, key.id, key.secrets[0])

    def rotate_key(
        self, id_: str, digest: bytes, now: float, overlap: float, by: str, lasts: float | None = None
    ) -> ApiKey:
        """Add a secret to a key, for `lasts` seconds (None: as long as the one before); those that it had are
        good for `overlap` seconds more at most. Gives the key as it is now."""
        about = f"rotated the API key {id_}; what it was before ends in {overlap:g} s"
        with self._change(now, by, about) as db:
            key = _live_key(db, id_, now)
            if len(key.secrets) >= MAX_SECRETS:
                raise ValueError(f"it has {MAX_SECRETS} secrets that overlap; choose a shorter overlap")
            newest = key.secrets[0]
            if lasts is None:
                lasts = newest.until - newest.created if newest.until < FOREVER else FOREVER
            end = "UPDATE secrets SET until = min(until, ?) WHERE key = ?"
            db.execute(end, (now + overlap, id_))
            created = max(now, newest.created + 0.001)  # that was by a clock that may have been set back
            _add_secret(db, id_, KeySecret(digest, created, min(now + lasts, FOREVER)))
            return _keys(db, id_)[id_]

    def register_keys(self, id_: str, jwks: str, by: str, now: float) -> ApiKey:
        """The public keys that the owner of a key signs with, in place of those before; "" for none. Gives
        the key as it is now."""
        what = "registered public keys for" if jwks else "removed the public keys of"
        with self._change(now, by, f"{what} the API key {id_}") as db:
            _live_key(db, id_, now)
            db.execute("DELETE FROM public_keys WHERE key = ?", (id_,))
            if jwks:
                db.execute("INSERT INTO public_keys VALUES (?, ?)", (id_, jwks))
            return _keys(db, id_)[id_]

    def revoke_key(self, id_: str, by: str, now: float, reason: str = "") -> ApiKey:
        """End a key for good, and the tokens that were made with it. Gives the key as it is now."""
        with self._change(now, by, f"revoked the API key {id_}{_because(reason)}") as db:
            _live_key(db, id_, 0.0)
            db.execute("UPDATE keys SET revoked = ? WHERE id = ?", (now, id_))
            why = reason or "its key was revoked"
            _add(db, Revocation(now + EXCHANGED, created=now, by=by, reason=why, api_key=id_))
            return _keys(db, id_)[id_]

    def revoke(self, revocation: Revocation) -> int:
        """Add a revocation (`created` and `by` are set, see core.revocations.check). Gives its number."""
        now, by = revocation.created, revocation.by
        before = f" issued before {_moment(revocation.before)}" if revocation.before else ""
        about = f"revoked {revocation.describe()}{before}{_because(revocation.reason)}"
        with self._change(now, by, about) as db:
            if db.execute("SELECT count(*) FROM revocations").fetchone()[0] >= MAX_REVOCATIONS:
                hint = "revoke all that was issued before now instead, and lift the others"
                raise ValueError(f"there are {MAX_REVOCATIONS:,} revocations already; {hint}")
            if revocation.api_key and not _keys(db, revocation.api_key):
                raise _no_key()
            return _add(db, revocation)

    def lift(self, number: int, by: str, now: float) -> Revocation:
        """Take a revocation back. Gives it."""
        with self._change(now, by, f"lifted the revocation {number}") as db:
            found = [revocation for revocation in _revocations(db) if revocation.number == number]
            if not found:
                raise Unknown(f"there is no revocation {number}; `gateway revoke --list` shows them")
            db.execute("DELETE FROM revocations WHERE number = ?", (number,))
            return found[0]

    def record(self, what: str, by: str, now: float) -> None:
        """Add an event about what has changed in another file. what: a clause without a secret."""
        with self._change(now, by, what):
            pass

    def note_used(self, used: Mapping[str, float]) -> None:
        """When keys were used last, by their ids, in seconds since the epoch. It is no event."""
        with self._sqlite.changing() as db:
            rows = [(when, id_) for id_, when in used.items()]
            db.executemany("UPDATE keys SET used = max(used, ?) WHERE id = ?", rows)

    @contextmanager
    def _change(self, now: float, by: str, what: str) -> Iterator[sqlite3.Connection]:
        """A transaction that ends with its event, and with what nobody needs any more gone."""
        with self._sqlite.changing() as db:
            _forget(db, now)
            yield db
            db.execute("INSERT INTO events (at, by, what) VALUES (?, ?, ?)", (now, by, what))
            db.execute("DELETE FROM events WHERE number <= ?", (_position(db) - MAX_EVENTS,))


def read_once(path: Path) -> State:
    """What the file at this path says now. Raises SQLiteUnusable. Blocks."""
    store = AuthStore(path)
    try:
        found = store.read(NOTHING)
    finally:
        store.close()
    assert found is not None  # it is never NOTHING
    return found


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def _position(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0])


def _keys(db: sqlite3.Connection, id_: str | None = None) -> dict[str, ApiKey]:
    """All keys by their ids, or the one with this id."""
    secrets: dict[str, list[KeySecret]] = {}
    for key, *row in db.execute(_SECRETS, (id_,)):
        secrets.setdefault(key, []).append(KeySecret(*row))
    found = {}
    for key, tenant, subject, scopes, name, created, by, revoked, used, jwks in db.execute(_KEYS, (id_,)):
        own = tuple(secrets[key])
        found[key] = ApiKey(key, tenant, subject, scopes, name, created, by, own, revoked, used, jwks)
    return found


def _live_key(db: sqlite3.Connection, id_: str, now: float) -> ApiKey:
    """The key, if it is neither revoked nor has expired at `now`. Raises ValueError."""
    found = _keys(db, id_).get(id_)
    if found is None:
        raise _no_key()
    if found.state(now) != "active":
        hint = "make a new one with `gateway keys create`"
        raise ValueError(f"the API key {id_} is {found.state(now)} already; {hint}")
    return found


def _no_key() -> Unknown:
    return Unknown("there is no API key with this id; `gateway keys list` shows them")


def _add_secret(db: sqlite3.Connection, id_: str, secret: KeySecret) -> None:
    db.execute(_ADD_SECRET, (secret.digest, id_, secret.created, secret.until))


def _revocations(db: sqlite3.Connection) -> list[Revocation]:
    return [Revocation(*row) for row in db.execute(_REVOCATIONS)]


def _add(db: sqlite3.Connection, revocation: Revocation) -> int:
    return int(db.execute(_ADD, asdict(revocation)).lastrowid or 0)


def _forget(db: sqlite3.Connection, now: float) -> None:
    """What nobody needs any more; of the revocations those of tokens that have expired by themselves."""
    db.execute(_FORGET_KEYS, (now - REMEMBERED,))
    db.execute(_FORGET_SECRETS, (now,))
    db.execute("DELETE FROM public_keys WHERE key NOT IN (SELECT id FROM keys)")
    ended = [revocation for revocation in _revocations(db) if revocation.until <= now]
    if ended:
        keys = [key for key in _keys(db).values() if not key.revoked]
        rows = [(one.number,) for one in ended if not any(one.fits_key(key) for key in keys)]
        db.executemany("DELETE FROM revocations WHERE number = ?", rows)


def _named(key: ApiKey) -> str:
    return f"{key.id} of {key.tenant}/{key.subject}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
