"""Report definitions in SQLite. Every statement names the tenant."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS report (
    tenant TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, collection TEXT NOT NULL,
    group_by TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (tenant, id)
) WITHOUT ROWID
"""
_FIELDS = "id, title, collection, group_by, value"


@dataclass(frozen=True, slots=True)
class Report:
    """Sum the field `value` (count documents if it is empty) of a collection for each value of `group_by`."""

    id: str
    title: str
    collection: str
    group_by: str
    value: str


class Reports:
    """The definitions of all tenants; a connection for each thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_SCHEMA)
        # The process may fork after this (gunicorn --preload); a connection must not be carried over.
        connection.close()
        del self._local.connection

    def add(self, tenant: str, title: str, collection: str, group_by: str, value: str) -> Report:
        # Version 4 is random: an id says nothing about other tenants.
        report = Report(str(uuid.uuid4()), title, collection, group_by, value)
        with self._connection() as connection:
            connection.execute(
                f"INSERT INTO report (tenant, {_FIELDS}) "  # noqa: S608 (a constant)
                "VALUES (:tenant, :id, :title, :collection, :group_by, :value)",
                {"tenant": tenant, **asdict(report)},
            )
        return report

    def list(self, tenant: str, after: str, limit: int) -> list[Report]:
        """At most `limit` reports with an id above `after`, by id."""
        rows = self._connection().execute(
            f"SELECT {_FIELDS} FROM report WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
            (tenant, after, limit),
        )
        return [Report(*row) for row in rows]

    def get(self, tenant: str, id: str) -> Report | None:
        rows = self._connection().execute(
            f"SELECT {_FIELDS} FROM report WHERE tenant = ? AND id = ?",  # noqa: S608
            (tenant, id),
        )
        return next((Report(*row) for row in rows), None)

    def delete(self, tenant: str, id: str) -> bool:
        """Whether there was one."""
        with self._connection() as connection:
            return (
                connection.execute("DELETE FROM report WHERE tenant = ? AND id = ?", (tenant, id)).rowcount
                > 0
            )

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = sqlite3.connect(self._path, timeout=5)
            self._local.connection.execute("PRAGMA synchronous=NORMAL")
        connection: sqlite3.Connection = self._local.connection
        return connection
