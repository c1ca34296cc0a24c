"""Price rules in SQLite, for coroutines: calls run on a worker thread, so that none blocks the loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from backends.pricing.models import Rule

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS price (
    tenant TEXT NOT NULL, sku TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (tenant, sku)
) WITHOUT ROWID
"""


class PriceStore:
    """The rules of all tenants. Every method takes the tenant first. Made inside a running event loop."""

    def __init__(self, path: Path) -> None:
        # One thread at a time (the limiter), and not always the same one.
        self._connection = sqlite3.connect(path, timeout=5, check_same_thread=False)
        self._one = anyio.CapacityLimiter(1)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(_SCHEMA)

    async def close(self) -> None:
        await self._run(self._connection.close)

    async def list(self, tenant: str, after: str, limit: int) -> list[tuple[str, Rule]]:
        """At most `limit` rules with a sku above `after`, by sku."""

        def work() -> list[tuple[str, Rule]]:
            rows = self._connection.execute(
                "SELECT sku, rule FROM price WHERE tenant = ? AND sku > ? ORDER BY sku LIMIT ?",
                (tenant, after, limit),
            )
            return [(sku, Rule.model_validate_json(rule)) for sku, rule in rows]

        return await self._run(work)

    async def get(self, tenant: str, skus: Iterable[str]) -> dict[str, Rule]:
        """The rules that exist of these."""

        def work() -> dict[str, Rule]:
            found = {sku: self._read(tenant, sku) for sku in skus}
            return {sku: rule for sku, rule in found.items() if rule is not None}

        return await self._run(work)

    async def add(self, tenant: str, sku: str, rule: Rule) -> bool:
        """False, and nothing is changed, if there is one already."""
        statement = "INSERT INTO price (tenant, sku, rule) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._write(statement, (tenant, sku, rule.model_dump_json())) > 0

    async def change(self, tenant: str, sku: str, edit: Callable[[Rule | None], Rule]) -> tuple[Rule, bool]:
        """Read, edit and write with no other change between; gives the rule and whether it is new. What
        `edit` raises passes through, and nothing is changed then."""

        def work() -> tuple[Rule, bool]:
            old = self._read(tenant, sku)
            new = edit(old)
            with self._connection:
                self._connection.execute(
                    "INSERT OR REPLACE INTO price (tenant, sku, rule) VALUES (?, ?, ?)",
                    (tenant, sku, new.model_dump_json()),
                )
            return new, old is None

        return await self._run(work)

    async def delete(self, tenant: str, sku: str) -> bool:
        """Whether there was one."""
        return await self._write("DELETE FROM price WHERE tenant = ? AND sku = ?", (tenant, sku)) > 0

    def _read(self, tenant: str, sku: str) -> Rule | None:
        rows = self._connection.execute("SELECT rule FROM price WHERE tenant = ? AND sku = ?", (tenant, sku))
        row = rows.fetchone()
        return None if row is None else Rule.model_validate_json(row[0])

    async def _write(self, statement: str, values: tuple[str, ...]) -> int:
        def work() -> int:
            with self._connection:
                return self._connection.execute(statement, values).rowcount

        return await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._one)
