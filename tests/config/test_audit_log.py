"""The file of the audit: what is acknowledged is there, and what is not as it was written is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.audit_log import AuditLog
from gateway.core.config.audit import Entry

NOW = 1_800_000_000.0


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[AuditLog]:
    made = AuditLog(tmp_path / "audit.log", tmp_path / "config.sqlite", now=lambda: NOW)
    await made.start()
    yield made
    await made.close()


async def test_lines_are_there_newest_first_and_verify(log: AuditLog) -> None:
    assert await log.page(0, 10) == [] == await log.verify()
    for number in range(5):
        await log.record(Entry("applied", author="alice", to_revision=number + 1))
    assert [line["to"] for line in await log.page(0, 2)] == [5, 4]
    assert [line["seq"] for line in await log.page(4, 10)] == [3, 2, 1]
    assert await log.verify() == []
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_a_tail_that_is_cut_off_is_found(log: AuditLog) -> None:
    for _ in range(3):
        await log.record(Entry("applied"))
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:2]))
    assert await log.verify() == ["seq 3 is missing at the end"]
