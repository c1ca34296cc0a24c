"""Which tenants of a folder are in another store now.

A tenant's own file says so in its `meta`, so that each process which writes to it finds out in its
transaction. The folder has a list of them, which is cheap to look at again and again; it also says whether
tenants that have no file yet belong to the other store.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from gateway.runtime import durable
from gateway.store.moving.port import MovedTenants
from gateway.store.port import Moved

_LIST = "moved.json"
_READ = "SELECT value FROM meta WHERE name = 'moved'"
_MARK = "INSERT INTO meta VALUES ('moved', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def check(connection: sqlite3.Connection, name: str) -> None:
    """Raises Moved where the file of a tenant says that its documents are elsewhere."""
    row = connection.execute(_READ).fetchone()
    if row is not None:
        raise Moved(name, row[0])


def check_new(folder: Path, name: str) -> None:
    """Raises Moved where a tenant that has no file belongs to the other store."""
    found = read(folder)
    if found.all:
        raise Moved(name, found.to)


def mark(connection: sqlite3.Connection, to: str) -> None:
    """Say so, in the transaction of the connection."""
    connection.execute(_MARK, (to,))


def unmark(connection: sqlite3.Connection) -> None:
    """Do not say so any more."""
    connection.execute("DELETE FROM meta WHERE name = 'moved'")


def read(folder: Path) -> MovedTenants:
    """The list. Blocks. Raises OSError, ValueError."""
    try:
        data = json.loads((folder / _LIST).read_bytes())
    except FileNotFoundError:
        return MovedTenants()
    return MovedTenants(tuple(data["tenants"]), bool(data["all"]), str(data["to"]))


def write(
    folder: Path,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    to: str | None = None,
    all_: bool | None = None,
) -> None:
    """Change the list. Blocks."""
    gone = set(remove)
    with durable.alone(folder):
        now = read(folder)
        kept = tuple(name for name in dict.fromkeys((*now.tenants, *add)) if name not in gone)
        new = MovedTenants(kept, now.all if all_ is None else all_, now.to if to is None else to)
        with durable.replacing(folder / _LIST) as file:
            file.write(json.dumps(asdict(new), indent=1).encode())
