"""What the live config tells the audit: who, why, from which revision to which, and what has changed."""

from __future__ import annotations

import pytest

from gateway.config.audit.journal import Journal
from gateway.config.source import Texts
from gateway.core.config.revision import Draft, Origin
from tests.fakes import MemoryAudit, MemoryRevisions

NOW = 1_800_000_000.0
ALICE = Origin("alice", "more", "api", "192.0.2.1", "owner")
ROUTE = "version: 1\nroutes:\n- {name: a, path: /a, target: documents}\n"


@pytest.fixture
async def revisions() -> MemoryRevisions:
    kept = MemoryRevisions()
    for number, text in enumerate(("version: 1\n", ROUTE, ROUTE.replace("/a", "/b"), "[", ROUTE)):
        await kept.add(Draft(text, ALICE, NOW), number)
    return kept


async def test_a_change_is_told_with_what_differs_by_meaning(revisions: MemoryRevisions) -> None:
    audit = MemoryAudit()
    journal = Journal(audit, revisions, lambda: NOW, revisions, Texts())
    await journal.done("applied", ALICE, 1, 2)
    await journal.done("applied", ALICE, 2, 3)
    await journal.done("confirmed", ALICE, 3, 3)
    added, changed, confirmed = audit.entries
    assert (added.author, added.role, added.address, added.reason) == ("alice", "owner", "192.0.2.1", "more")
    assert (added.from_revision, added.to_revision, added.at) == (1, 2, NOW)
    assert [(one["kind"], one["name"], one["action"]) for one in added.diff] == [("routes", "a", "added")]
    (change,) = changed.diff
    assert change["fields"] == [{"path": "path", "before": "/a", "after": "/b"}]
    assert confirmed.diff == ()


class Run:
    id = "here/2"

    def is_ours(self, id: str) -> bool:
        return id.startswith("here/")

    def has_ended(self, id: str) -> bool:
        return False


async def test_a_start_makes_up_lines_of_what_its_own_data_folder_applied_and_reads_no_text_for_it(
    revisions: MemoryRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "text", None)
    for number, run in ((5, "there/1"), (6, "here/1"), (7, "there/1")):
        await revisions.add(Draft(ROUTE, ALICE, NOW, run=run), number)
    audit = MemoryAudit()
    journal = Journal(audit, MemoryRevisions(), lambda: NOW, revisions, Texts())
    await journal.recover(Run())
    await journal.recover(Run())
    assert [(one.action, one.to_revision, one.diff) for one in audit.entries] == [("recovered", 7, ())]


async def test_a_new_data_folder_on_a_store_of_others_has_no_lines_of_theirs(
    revisions: MemoryRevisions,
) -> None:
    audit, remembered = MemoryAudit(), MemoryRevisions()
    await Journal(audit, remembered, lambda: NOW, revisions, Texts()).recover(Run())
    assert audit.entries == [] and remembered.states == {"audited": "5"}


async def test_a_text_that_is_gone_or_cannot_be_read_keeps_no_line_from_the_audit(
    revisions: MemoryRevisions,
) -> None:
    audit = MemoryAudit()
    journal = Journal(audit, revisions, lambda: NOW, revisions, Texts())
    for before, after in ((3, 4), (4, 5), (77, 5), (0, 1)):
        await journal.done("applied", ALICE, before, after)
    assert [entry.diff for entry in audit.entries] == [()] * 4
