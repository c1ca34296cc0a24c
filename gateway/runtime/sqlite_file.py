"""A SQLite file of the gateway's own: its owner's alone, in SQLite's WAL, with one schema of a known version.

Each commit is on the disk when it returns. A file that cannot be used is an error that names it, the reason
and what to do, and is never made anew by itself: that is for its owner to decide. On a full disk
it can be read all the same. All of it blocks. (No other code of the process may open the file: closing it
would drop the locks of SQLite.)
"""

from __future__ import annotations

import logging
import os
import pwd
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from gateway.runtime import durable
from gateway.runtime.os_errors import explain

L = logging.getLogger(__name__)
_BUSY = 5.0  # seconds to wait for another process that writes
_CHECKED = 60.0  # seconds in which another process has checked a large file
_BESIDE = ("-wal", "-shm")  # behind the name: files of SQLite
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_SHM")  # the latter: for the file by which connections share a WAL


class SQLiteUnusable(OSError):
    """The file cannot be used; the text names it, the reason and what to do. damaged: by what it holds, so
    that another try finds the same."""

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


class SQLiteFile:
    """The file at this path. Each method may be called in any thread. Raises SQLiteUnusable.

    schema: statements that make it. version: its PRAGMA user_version. damaged, gone: the hints when the file
    is that. upgrades: by an older version, the statements that make the next one of it.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        damaged: str,
        gone: str,
        upgrades: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self._upgrades = upgrades
        self._schema = schema
        self._version = version
        self._damaged, self._gone = damaged, gone
        self._held: sqlite3.Connection | None = None
        self._has_room = True

    def ensure(self, *tables: str) -> None:
        """Make the file where there is none; bring one that is there to the known version, and check these
        tables of it (or all)."""
        with self.errors():
            if not os.path.lexists(self.path):
                durable.make_folder(self.path.parent)
                self._move(_BESIDE, "stray")  # of a file that was moved away without them: SQLite would take
                # what they hold for changes of the new one
                with durable.making(self.path) as beside, closing(_connect(beside)) as db:
                    db.executescript(f"BEGIN; {self._schema} PRAGMA user_version = {self._version}; COMMIT;")
                    db.execute("PRAGMA journal_mode = WAL")
            self._upgrade()
            with closing(self.open()) as db:
                for table in tables or (1,):
                    (result,) = db.execute(f"PRAGMA quick_check({table})").fetchone()
                    if result != "ok":
                        raise self.damaged(str(result))

    def _upgrade(self) -> None:
        with closing(self.open(upgrading=True)) as db:
            while self._upgrades.get(_version(db)) is not None:
                with transaction(db):  # another process may have been faster
                    version = _version(db)
                    for statement in self._upgrades.get(version, "").split(";"):
                        db.execute(statement)
                    if version in self._upgrades:
                        db.execute(f"PRAGMA user_version = {version + 1}")

    def ensure_or_set_aside(self, *tables: str) -> Path | None:
        """As `ensure`; a damaged file is renamed, with what SQLite puts beside it, and a new one made. Gives
        the name that it has then; None when it was not damaged. Of several processes, one does it."""
        with self.errors():
            durable.make_folder(self.path.parent)
            with durable.alone(self.path.absolute().parent, _CHECKED):
                try:
                    self.ensure(*tables)
                except SQLiteUnusable as error:
                    if not error.damaged:
                        raise
                    # The file last: without it the others would be taken for those of the new one.
                    aside = self._move((*_BESIDE, ""), "damaged")
                    self.ensure(*tables)
                    return aside
        return None

    def _move(self, suffixes: tuple[str, ...], why: str) -> Path:
        """Rename the file, or what is beside it. Gives the new name of the file."""
        name = self.path.name
        mark = f".{why}-{int(time.time())}"
        for suffix in suffixes:
            with suppress(FileNotFoundError):
                durable.rename(
                    self.path.with_name(name + suffix), self.path.with_name(f"{name}{mark}{suffix}")
                )
        return self.path.with_name(name + mark)

    def hold(self) -> None:
        """Keep a connection open until `release`: the last one that is closed writes all changes into the
        file itself, which takes several times as long as a change."""
        self.release()
        with self.errors():
            db = self.open()
            if is_shared(db):
                self._held = db
            else:
                db.close()

    def release(self) -> None:
        """See `hold`."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A context manager that yields a connection, which sees one state of the file."""
        with self.errors(), closing(self.open()) as db, transaction(db, "DEFERRED"):
            yield db

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A context manager that yields a connection; what it changes is on the disk at the end, or, after
        an error, nothing of it. Others wait meanwhile."""
        with self.errors(), closing(self.open()) as db, transaction(db, "IMMEDIATE"):
            yield db

    def open(self, *, upgrading: bool = False) -> sqlite3.Connection:
        """A connection, after a check that the file is its owner's alone, and of the known version, or
        (upgrading) of one that can be brought to that. See `is_shared`."""
        status = self.path.stat()
        if status.st_uid != os.geteuid():
            user = _user(status.st_uid)
            hint = f"run this as that user: sudo -u {user}"
            raise SQLiteUnusable(f"{self.path}: it belongs to the user {user}; {hint}")
        if status.st_mode & 0o077:
            reason = "others may read or change what it says"
            raise SQLiteUnusable(f"{self.path}: {reason}; run: chmod 600 {self.path}")
        if not status.st_size:
            raise self.damaged("it is empty")
        db = self._connected()
        try:
            version = _version(db)
            if not version:
                raise self.damaged("nothing is in it that the gateway has made")
            if version != self._version and not (upgrading and version in self._upgrades):
                reason = f"it is of version {version}, and this gateway knows version {self._version}"
                hint = "run the version of the gateway that made it, or a later one"
                if version in self._upgrades:
                    hint = "start the gateway, which brings it to that"
                raise SQLiteUnusable(f"{self.path}: {reason}; {hint}")
        except BaseException:
            db.close()
            raise
        return db

    def _connected(self) -> sqlite3.Connection:
        try:
            db = _connect(self.path)
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith(_NO_ROOM):
                raise
            db = _connect(self.path, alone=True)
            if self._has_room:
                self._has_room = False
                L.error(
                    "%s: its disk is full. What is in the file is read, but nothing can be changed in it:"
                    " make room (see df -h)",
                    self.path,
                )
        else:
            if not self._has_room:
                self._has_room = True
                L.warning("%s: there is room on its disk again", self.path)
        return db

    @contextmanager
    def errors(self) -> Iterator[None]:
        """A context manager that makes SQLiteUnusable of the errors of the system and of SQLite."""
        try:
            yield
        except SQLiteUnusable:
            raise
        except FileNotFoundError:
            raise SQLiteUnusable(f"{self.path}: it is not there any more; {self._gone}") from None
        except OSError as error:
            raise SQLiteUnusable(f"{self.path}: {'; '.join(explain(error))}") from None
        except sqlite3.OperationalError as error:
            raise SQLiteUnusable(f"{self.path}: {error}; {_hint(error)}") from None
        except sqlite3.DatabaseError as error:
            raise self.damaged(str(error)) from None

    def damaged(self, why: str) -> SQLiteUnusable:
        """The error that the file is damaged. why: a clause."""
        return SQLiteUnusable(f"{self.path}: it is damaged ({why}); {self._damaged}", damaged=True)


@contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """A context manager for a transaction, rolled back after an error."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def is_shared(db: sqlite3.Connection) -> bool:
    """Whether others may use the file while this connection is open. On a full disk they cannot, once it has
    read something: then it must be closed at once."""
    return bool(db.execute("PRAGMA locking_mode").fetchone()[0] == "normal")


def _connect(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """alone: SQLite needs no room on the disk then, for it has in memory what it would share with others."""
    # Autocommit: transactions are begun where they are meant. A connection may go from thread to thread.
    db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        if alone:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA synchronous = FULL")  # of a commit, nothing is lost with the power
        _version(db)
    except sqlite3.OperationalError:
        db.close()  # of a damaged file it would remove the -wal, which goes aside with it
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _hint(error: sqlite3.OperationalError) -> str:
    name = error.sqlite_errorname
    if name.startswith(_NO_ROOM):
        return "make room on its disk (see df -h)"
    if name.startswith("SQLITE_BUSY"):
        return "another process writes to it all the time; look for one that hangs"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"let the user with id {os.geteuid()} write to it, and to its folder (mode, read-only disk)"
    return "look at its disk, and at the log of the system"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
