"""What an error of SQLite means: a status for the client, and for the operator a line with a hint."""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from pathlib import Path

from gateway.core.errors import GatewayError, InsufficientStorage, QueryTooSlow, StoreUnavailable
from gateway.store.port import UNREACHABLE

_log = logging.getLogger(__name__)

_PRIMARY = 0xFF  # an extended result code holds the primary one in its low byte (sqlite.org/rescode.html)

# Result codes after which the open file is let go, so that the next call finds what the operator repaired.
_BROKEN = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ERROR,  # above all a table that is not there: the file was emptied while it was open
    }
)

RESTORE = "put a backup in its place (gateway documents restore BACKUPS {tenant} --force)"

# {tenant} is the tenant whose file it is.
_HINTS = {
    sqlite3.SQLITE_CORRUPT: f"it is damaged; {RESTORE}, or run `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: f"it is not a database; {RESTORE}, or move it away to begin empty",
    sqlite3.SQLITE_IOERR: "reading or writing it failed; look at the disk and at the kernel's log",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at its permissions, its folder, and `ulimit -n`",
    sqlite3.SQLITE_READONLY: "it cannot be written, or was moved while open; look at its permissions",
    sqlite3.SQLITE_PERM: "access is denied; the folder and its files must belong to the gateway's user",
    sqlite3.SQLITE_FULL: "the disk, or the tenant's share of it, is full; make room or raise the limit",
    sqlite3.SQLITE_BUSY: "another process held it for too long; find who has it open (`fuser FILE`)",
    sqlite3.SQLITE_NOMEM: "memory ran out",
}

_UNEXPECTED = "this is not expected; keep the file and report it"

_LOG_EVERY = 10.0  # seconds between two lines about one file and one reason: a fault hits every request
_MAX_REMEMBERED = 1000
_logged: dict[tuple[str, object], float] = {}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; SQLITE_MISUSE for what Python's module raises by itself."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & _PRIMARY


def interrupted() -> sqlite3.OperationalError:
    """What SQLite raises for a statement that may not go on."""
    error = sqlite3.OperationalError("interrupted")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_INTERRUPT, "SQLITE_INTERRUPT"
    return error


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the open file should be let go."""
    return primary_code(error) in _BROKEN


def hint(error: sqlite3.Error, path: Path) -> str:
    """What an operator can do about it."""
    return _hint(primary_code(error), path)


def translate(error: sqlite3.Error, path: Path) -> GatewayError:
    """The error for the client, without a path; the operator's line is logged."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_INTERRUPT:
        detail = "The query took too long. Declare an index for it, narrow it with a filter, or sort by id."
        return QueryTooSlow(detail, retry_after=5)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    _report(path, code, f"{name} ({error}): {_hint(code, path)}")
    return _for_client(code, f"{path}: {error}: {_hint(code, path)}")


def translate_os(error: OSError, path: Path) -> GatewayError:
    """As translate, for an error of the operating system while making a file."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_CANTOPEN
    _report(path, code, f"{type(error).__name__} ({error}): {_hint(code, path)}")
    return _for_client(code, f"{path}: {error.strerror}: {_hint(code, path)}")


def unusable(path: Path, problem: str) -> StoreUnavailable:
    """As translate, for what cannot be a tenant's file. problem: why not, with a hint."""
    text = problem.replace("{tenant}", _tenant(path))
    _report(path, problem, text)
    error = StoreUnavailable(UNREACHABLE, retry_after=60)
    error.add_note(f"{path}: {text}")
    return error


def _hint(code: int, path: Path) -> str:
    return _HINTS.get(code, _UNEXPECTED).replace("{tenant}", _tenant(path))


def _tenant(path: Path) -> str:
    """The tenant of a file, from its name; a copy, or a file being made, has a suffix behind the tenant."""
    return path.name.lstrip(".").partition(".")[0]


def _for_client(code: int, note: str) -> GatewayError:
    """note: for the operator; clients never see it."""
    made: GatewayError
    if code == sqlite3.SQLITE_FULL:
        made = InsufficientStorage("There is no room for this write. Nothing was changed.")
    else:
        made = StoreUnavailable(UNREACHABLE, retry_after=2)
    made.add_note(note)
    return made


def _report(path: Path, reason: object, text: str) -> None:
    """Log a fault of a file, once in a while: it hits every request."""
    now, key = time.monotonic(), (str(path), reason)
    if now - _logged.get(key, -_LOG_EVERY) < _LOG_EVERY:
        return
    if len(_logged) >= _MAX_REMEMBERED:
        _logged.clear()
    _logged[key] = now
    _log.error("documents: %s: %s", path, text)
