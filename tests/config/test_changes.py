"""What operators do with the live config: apply, roll back, confirm; and what a start makes of a crash."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.audit.log import AuditLog
from gateway.config.compilation import Compiler
from gateway.config.live import LiveConfig
from gateway.config.nodes.run import Run
from gateway.config.ports import ConfigRefused, ConfigSource, NoRevision, Stale, Waits, WaitsNot
from gateway.config.revisions.sqlite import SQLiteRevisions
from gateway.config.sources.file import POLL, FileSource
from gateway.config.sources.store import StoreSource
from gateway.core.config.revision import Draft, Origin, Pending, Revision
from gateway.core.errors import StoreUnavailable
from gateway.core.routing.problems import Problem, Problems
from tests.fakes import NOWHERE, MemoryAudit, MemoryRevisions

ALICE = Origin("alice", "more room", "api", "192.0.2.1", "owner")
BOB = Origin("bob", "less room", "api", "192.0.2.2", "editor")
ROUTES = "version: 1\nroutes:\n"
A, B, C = (f"{ROUTES}  - {{ name: {name}, path: /{name}, target: documents }}\n" for name in "abc")


class Place:
    """A data folder with a file, and the gateways on it, whose time passes here alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "routing.yaml"
        self.path.write_text(A)
        self.now = 1000.0
        self.wall = 1_800_000_000.0
        self.runs: list[Run] = []

    async def start(self, *, kind: str = "file", beside: bool = False) -> LiveConfig:
        """Another gateway on it; those before are gone, without having ended, or it runs beside them."""
        while self.runs and not beside:
            self.runs.pop().close()
        self.runs.append(Run(self.folder, "place"))
        self.runs[-1].start()
        revisions = SQLiteRevisions(self.folder / "config.sqlite")
        audit = AuditLog(self.folder / "audit.log", self.folder / "config.sqlite")
        await revisions.start()
        await audit.start()
        seed = FileSource(self.path, lambda: self.now)
        self.source: ConfigSource = seed if kind == "file" else StoreSource(revisions, kind, "the store")
        clocks: dict[str, Any] = {"now": lambda: self.now, "wall": lambda: self.wall}
        compiler = Compiler(lambda backend: NOWHERE, "")
        more = {"seed": seed, "run": self.runs[-1], **clocks}
        live = LiveConfig(self.source, revisions, audit, revisions, compiler, **more)
        await live.load_first()
        return live

    def draft(self, text: str, origin: Origin = ALICE, confirm_in: float = 0.0) -> Draft:
        return Draft(text, origin, self.wall, confirm_by=self.wall + confirm_in if confirm_in else 0.0)

    async def passes(self, live: LiveConfig, seconds: float) -> None:
        """What a gateway does in this time, the more of it in its last second."""
        for step in [1.0] * round(seconds - 1) + [POLL] * round(1 / POLL):
            self.now += step
            self.wall += step
            await self.source.poll(live.reload)  # type: ignore[attr-defined]
            await live.tick()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(params=["file", "store"])
async def live(place: Place, request: pytest.FixtureRequest) -> AsyncIterator[LiveConfig]:
    yield await place.start(kind=request.param)


def names(live: LiveConfig) -> list[str]:
    return [route.name for route in live.current.table.routes]


async def lines(live: LiveConfig, *fields: str) -> list[tuple[Any, ...]]:
    """The audit, the oldest line first."""
    found = await live.audit.page(0, 1000)
    return [tuple(line[field] for field in fields) for line in reversed(found)]


# --- apply -----------------------------------------------------------------------------------------


async def test_an_applied_text_is_live_in_its_source_and_a_revision_with_author_and_reason(
    live: LiveConfig, place: Place
) -> None:
    made = await live.apply(place.draft(B), live.head.number)
    assert (made.number, made.parent, made.origin) == (2, 1, replace(ALICE, role=""))
    assert (live.head, live.current.revision, live.text, names(live)) == (made, 2, B, ["b"])
    assert (await live.source.read()).text == B
    assert await live.revisions.text(2) == B
    found = await lines(live, "action", "author", "role", "reason", "address", "source", "from", "to")
    assert found[-1] == ("applied", "alice", "owner", "more room", "192.0.2.1", "api", 1, 2)
    assert await live.audit.verify() == []


async def test_the_watch_sees_its_own_write_as_the_same_revision(place: Place) -> None:
    live = await place.start()
    await live.apply(place.draft(B), 1)
    await place.passes(live, 5)
    assert (live.head.number, await lines(live, "action")) == (2, [("applied",), ("applied",)])


async def test_the_live_text_makes_no_revision_and_a_line_in_the_audit(
    live: LiveConfig, place: Place
) -> None:
    first = live.head
    assert await live.apply(place.draft(A), 1) == first
    assert await live.revisions.page(0, 10) == [first]
    assert (await lines(live, "action", "author", "to"))[-1] == ("applied", "alice", 1)


async def test_a_bad_text_changes_nothing_shows_every_problem_and_is_in_the_audit(
    live: LiveConfig, place: Place
) -> None:
    before = live.current
    wrong = A.replace("documents", "nobody") + "zzz: 1\n"
    assert [problem.line for problem in await live.check(wrong)] == [3, 4]
    with pytest.raises(Problems) as caught:
        await live.apply(place.draft(wrong), 1)
    assert [problem.line for problem in caught.value.items] == [3, 4]
    assert (live.current, live.text, place.path.read_text()) == (before, A, A)
    assert live.refusal is None  # the source has said nothing wrong
    (last,) = (await lines(live, "action", "outcome", "author", "detail"))[-1:]
    assert last[:3] == ("refused", "refused", "alice") and "line 3" in last[3]
    assert await live.check(B) == []


async def test_half_a_character_and_a_byte_order_mark_are_no_part_of_a_text(
    live: LiveConfig, place: Place
) -> None:
    with pytest.raises(Problems, match="problem") as caught:
        await live.apply(place.draft(f"{A}# \ud800"), 1)
    assert caught.value.items[0].line == 4
    await live.apply(place.draft(f"\ufeff{B}"), 1)
    assert (live.text, (await live.source.read()).text) == (B, B)


async def test_of_two_changes_of_one_revision_one_is_made_and_the_other_is_told_the_head(
    live: LiveConfig, place: Place
) -> None:
    results = await asyncio.gather(
        live.apply(place.draft(B), 1), live.apply(place.draft(C, BOB), 1), return_exceptions=True
    )
    made, stale = results if isinstance(results[0], Revision) else reversed(results)
    assert isinstance(made, Revision) and isinstance(stale, Stale)
    assert stale.head == made == live.head
    assert await live.audit.verify() == []


async def test_a_caller_that_goes_away_leaves_a_whole_change(live: LiveConfig, place: Place) -> None:
    task = asyncio.create_task(live.apply(place.draft(B), 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await live.close()
    assert task.cancelled()
    assert (live.head.number, names(live)) == (2, ["b"])


# --- the file --------------------------------------------------------------------------------------


async def test_a_file_save_is_a_revision_of_its_owner(place: Place) -> None:
    live = await place.start()
    place.path.write_text(B)
    await place.passes(live, 1)
    assert (live.head.number, live.head.parent, live.head.origin.source) == (2, 1, "file")
    assert live.head.origin.author == place.path.owner()
    assert (await lines(live, "action", "author", "from", "to"))[-1] == ("applied", place.path.owner(), 1, 2)


async def test_a_save_that_nobody_has_read_yet_is_not_overwritten(place: Place) -> None:
    live = await place.start()
    place.path.write_text(B)
    with pytest.raises(Stale) as caught:
        await live.apply(place.draft(C), 1)
    assert (caught.value.head.origin.source, place.path.read_text(), names(live)) == ("file", B, ["b"])


async def test_a_save_that_was_refused_goes_with_the_next_change(place: Place) -> None:
    live = await place.start()
    place.path.write_text("version: 2")
    await place.passes(live, 1)
    assert live.refusal is not None
    await live.apply(place.draft(B), 1)
    assert (live.refusal, place.path.read_text(), names(live)) == (None, B, ["b"])
    place.path.write_text("version: 2")
    await place.passes(live, 1)
    head = live.head
    assert await live.roll_back(2, BOB, 2) == head  # to what is live: it puts the file right
    assert (live.refusal, place.path.read_text()) == (None, B)
    place.path.unlink()
    await place.passes(live, 1)
    await live.apply(place.draft(C), 2)
    assert place.path.read_text() == C


async def test_mode_and_links_stay_and_so_does_the_owner(place: Place) -> None:
    theirs = place.folder / "theirs"
    theirs.mkdir()
    place.path.rename(theirs / "real.yaml")
    place.path.symlink_to(Path("theirs") / "real.yaml")
    real = theirs / "real.yaml"
    real.chmod(0o640)
    owner = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(real, *owner)
    live = await place.start()
    await live.apply(place.draft(B), 1)
    assert place.path.is_symlink() and real.read_text() == B
    status = real.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, *owner)
    assert sorted(entry.name for entry in theirs.iterdir()) == ["real.yaml"]


async def test_a_file_that_may_not_be_written_keeps_all_as_it_was(place: Place) -> None:
    live = await place.start()
    place.path.chmod(0o444)
    with pytest.raises(ConfigRefused) as caught:
        await live.apply(place.draft(B), 1)
    (problem,) = caught.value.problems
    assert "read-only" in problem.reason and "[config] source = store" in problem.hint
    await unchanged(live, place)
    place.path.chmod(0o644)
    await live.apply(place.draft(B), 1)
    assert live.head.number == 2


async def test_a_full_disk_keeps_all_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    live = await place.start()
    for module, name in (("gateway.runtime.durable", "rename"), ("gateway.runtime.durable", "_written")):
        with monkeypatch.context() as broken:
            broken.setattr(f"{module}.{name}", no_space)
            with pytest.raises(ConfigRefused) as caught:
                await live.apply(place.draft(B), 1)
        assert "no space is left" in caught.value.problems[0].reason
        await unchanged(live, place)
    assert [entry.name for entry in place.folder.glob(".*part")] == []


async def test_a_revision_that_cannot_be_kept_is_taken_out_of_the_file_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await place.start()
    with monkeypatch.context() as broken:
        broken.setattr(SQLiteRevisions, "_add", no_space)
        with pytest.raises(ConfigRefused) as caught:
            await live.apply(place.draft(B), 1)
    assert "no revision of it can be kept" in caught.value.problems[0].reason
    await unchanged(live, place)


@pytest.mark.parametrize("there", [b"\xff\xfe hand-made \x00", None], ids=["unreadable", "missing"])
async def test_what_cannot_be_read_is_put_back_to_the_byte_when_no_revision_can_be_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, there: bytes | None
) -> None:
    live = await place.start()
    place.path.unlink()
    if there is not None:
        place.path.write_bytes(there)
        place.path.chmod(0o640)
    await place.passes(live, 1)
    with monkeypatch.context() as broken:
        broken.setattr(SQLiteRevisions, "_add", no_space)
        with pytest.raises(ConfigRefused) as caught:
            await live.apply(place.draft(B), 1)
    assert "nothing was changed" in caught.value.problems[0].hint
    assert (place.path.read_bytes() if place.path.exists() else None) == there
    assert there is None or place.path.stat().st_mode & 0o777 == 0o640
    assert list(place.folder.glob("routing.yaml?*")) == [] and await live.revisions.intended() is None


async def test_what_cannot_be_taken_out_of_the_file_again_is_said_and_served_as_who_wrote_it_meant_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await place.start()

    def read_only_then(*args: object) -> Any:
        place.path.chmod(0o444)
        no_space()

    with monkeypatch.context() as broken:
        broken.setattr(SQLiteRevisions, "_add", read_only_then)
        with pytest.raises(ConfigRefused) as caught:
            await live.apply(place.draft(B), 1)
        assert "could not be taken out again" in caught.value.problems[0].hint
    await place.passes(live, 2)
    assert (names(live), live.head.number, live.head.origin.author) == (["b"], 2, "alice")


async def test_a_refused_edit_by_hand_is_kept_beside_the_file_that_the_next_change_replaces(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    live = await place.start()
    wrong = "version: 1\nroutes: [{ name: mine }]  # an hour of work\n"
    for change in (lambda: live.apply(place.draft(B), live.head.number), lambda: live.roll_back(2, BOB, 2)):
        place.path.write_text(wrong)
        place.path.chmod(0o640)
        await place.passes(live, 1)
        assert live.refusal is not None
        await change()
        number, kept = live.kept
        assert (number, Path(kept).read_text(), Path(kept).stat().st_mode & 0o777) == (2, wrong, 0o640)
        assert kept in caplog.text and kept in (await lines(live, "detail"))[-1][0]
    found = sorted(one.name for one in place.folder.glob("routing.yaml?*"))
    assert [name[:20] for name in found] == ["routing.yaml.before-"] * 2
    assert (place.path.read_text(), place.path.stat().st_mode & 0o777) == (B, 0o640)
    await live.apply(place.draft(C), 2)
    assert len(list(place.folder.glob("routing.yaml?*"))) == 2


async def test_who_holds_the_folder_of_the_file_stops_a_change_and_not_the_gateway(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "conf").mkdir()
    place.path = place.path.rename(place.folder / "conf" / "routing.yaml")
    live = await place.start()
    await live.apply(place.draft(B, confirm_in=60), 1)
    monkeypatch.setattr("gateway.config.sources.file._PATIENCE", 0.05)
    descriptor = os.open(place.path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    async with asyncio.timeout(30):
        await place.passes(live, 61)  # it is to go back, and cannot
        assert live.pending is not None and names(live) == ["b"]
        with pytest.raises(ConfigRefused) as caught:
            await live.roll_back(1, BOB, live.head.number)
    assert caught.value.transient and "another process holds a lock" in caught.value.problems[0].reason
    os.close(descriptor)
    await place.passes(live, 6)
    assert (live.pending, names(live), place.path.read_text()) == (None, ["a"], A)


async def test_without_its_line_in_the_audit_nothing_is_changed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await place.start()
    with monkeypatch.context() as broken:
        broken.setattr(AuditLog, "ready", lambda self: no_space())
        with pytest.raises(ConfigRefused):
            await live.apply(place.draft(B), 1)
    await unchanged(live, place)


def no_space(*args: object, **more: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_saved_file_is_served_while_no_revision_of_it_can_be_kept_and_is_one_later(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = await place.start()
    with monkeypatch.context() as broken:
        for owner, name in ((SQLiteRevisions, "_add"), (AuditLog, "_set_anchor")):
            broken.setattr(owner, name, no_space)
        place.path.write_text(B)
        await place.passes(live, 1)
        assert (names(live), live.head.number) == (["b"], 1)
        assert "is served, but no revision of it can be kept: " in caplog.text
        with pytest.raises(ConfigRefused):
            await live.apply(place.draft(C), 1)
        assert (place.path.read_text(), names(live)) == (B, ["b"])
        live = await place.start()
        assert (names(live), live.head.number) == (["b"], 1)
    await place.passes(live, 400)
    assert (names(live), live.head.number, live.head.parent) == (["b"], 2, 1)
    assert await live.revisions.text(2) == B and live.refusal is None
    assert await live.audit.verify() == []  # type: ignore[attr-defined]
    assert any((line["from"], line["to"]) == (1, 2) for line in await live.audit.page(0, 10))


async def unchanged(live: LiveConfig, place: Place) -> None:
    assert (live.head.number, live.text, place.path.read_text()) == (1, A, A)
    assert len(await live.revisions.page(0, 10)) == 1
    assert await live.revisions.intended() is None
    await place.passes(live, 5)
    assert (live.head.number, names(live), live.refusal) == (1, ["a"], None)


# --- roll back -------------------------------------------------------------------------------------

TEXTS = {
    "comments": "# why: größer 🚀\nversion: 1 # one\nroutes: [] # none\n",
    "carriage returns": "version: 1\r\nroutes: []\r\n# \r\n",
    "no final newline": "version: 1\nroutes: []",
    "spaces at the end": "version: 1  \nroutes: []\n\n\n  \n",
    "large": f"# {'é' * 9000}\nversion: 1\nroutes: []\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_rollback_restores_the_text_to_the_byte(live: LiveConfig, place: Place, text: str) -> None:
    await live.apply(place.draft(text), 1)
    await live.apply(place.draft(B), 2)
    made = await live.roll_back(2, BOB, 3)
    assert (made.number, made.restores, made.digest) == (4, 2, (await live.revisions.get(2)).digest)
    assert live.text == text
    if live.source.kind == "file":
        assert place.path.read_bytes() == text.encode()
    assert (await lines(live, "action", "author", "from", "to"))[-1] == ("rolled_back", "bob", 3, 4)


async def test_what_is_not_kept_and_what_is_no_config_any_more_is_not_rolled_back_to(
    live: LiveConfig, place: Place
) -> None:
    with pytest.raises(NoRevision):
        await live.roll_back(7, BOB, 1)
    await live.apply(place.draft(B), 1)
    with pytest.raises(Stale):
        await live.roll_back(1, BOB, 1)
    assert live.head.number == 2


# --- confirm ---------------------------------------------------------------------------------------


async def test_what_is_not_confirmed_in_time_goes_back(
    live: LiveConfig, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    made = await live.apply(place.draft(B, confirm_in=60), 1)
    assert live.pending == Pending(2, 1, place.wall + 60)
    assert made.confirm_by == live.status()["pending"]["due"] == place.wall + 60
    await place.passes(live, 59)
    assert names(live) == ["b"]
    await place.passes(live, 2)
    assert (names(live), live.pending, live.head.number, live.head.restores) == (["a"], None, 3, 1)
    assert (live.head.origin.source, "not confirmed" in live.head.origin.reason) == ("gateway", True)
    assert (await live.source.read()).text == A
    assert (await lines(live, "action", "from", "to"))[-1] == ("unconfirmed", 2, 3)
    (warned,) = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    why = "which is live as revision 3: revision 2 was not confirmed in time"
    assert warned == f"Revision 2 by {made.origin.author} went back to 1, {why}"


async def test_what_is_confirmed_stays(live: LiveConfig, place: Place) -> None:
    await live.apply(place.draft(B, confirm_in=60), 1)
    with pytest.raises(Stale):
        await live.confirm(BOB, 1)
    confirmed = await live.confirm(BOB, 2)
    assert (confirmed.number, confirmed.confirm_by, live.pending) == (2, 0.0, None)
    assert await live.confirm(BOB, 2) == confirmed
    await place.passes(live, 120)
    assert (names(live), live.head) == (["b"], confirmed)
    assert (await lines(live, "action", "author", "to"))[-1] == ("confirmed", "bob", 2)


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
async def test_a_system_clock_that_is_set_changes_nothing_about_when_it_goes_back(
    live: LiveConfig, place: Place, step: float
) -> None:
    await live.apply(place.draft(B, confirm_in=60), 1)
    place.wall += step
    await place.passes(live, 58)
    assert names(live) == ["b"]
    await place.passes(live, 3)
    assert names(live) == ["a"]


async def test_what_never_waited_and_what_is_over_is_not_confirmed(live: LiveConfig, place: Place) -> None:
    with pytest.raises(WaitsNot, match="revision 1 does not go back by itself"):
        await live.confirm(BOB, 1)
    await live.apply(place.draft(B, confirm_in=60), 1)
    await live.revisions.expire(2)  # as another process does that takes it back just now
    with pytest.raises(WaitsNot, match="the time of revision 2 is over"):
        await live.confirm(BOB, 2)
    await place.passes(live, 61)
    assert names(live) == ["a"]


async def test_a_confirmation_that_was_acknowledged_is_not_undone_by_who_looked_before(
    live: LiveConfig, place: Place
) -> None:
    await live.apply(place.draft(B, confirm_in=60), 1)
    text = live.revisions.text

    async def confirmed_meanwhile(number: int) -> str:
        await live.revisions.confirm(2)  # in another process, while this one takes it back
        return await text(number)

    live.revisions.text = confirmed_meanwhile  # type: ignore[method-assign]
    await place.passes(live, 61)
    assert (names(live), live.pending, live.head.number) == (["b"], None, 2)


async def test_another_gateway_that_starts_leaves_it_to_the_one_that_applied_it(place: Place) -> None:
    one = await place.start(kind="store")
    await one.apply(place.draft(B, confirm_in=60), 1)
    other = await place.start(kind="store", beside=True)
    assert (names(other), other.pending) == (["b"], one.pending)
    place.runs[0].close()
    await place.passes(other, 64)
    assert names(other) == ["b"]
    await place.passes(other, 2)
    assert (names(other), other.head.restores) == (["a"], 1)


async def test_the_clock_of_another_host_takes_nothing_back_early(place: Place) -> None:
    one = await place.start(kind="store")
    other = await place.start(kind="store", beside=True)
    await one.apply(place.draft(B, confirm_in=60), 1)
    place.wall += 50
    await place.passes(other, 1)
    await place.passes(other, 62)
    assert (names(other), other.pending) == (["b"], one.pending)
    await place.passes(other, 4)
    assert names(other) == ["a"]


async def test_it_goes_back_at_the_next_start_at_once(place: Place) -> None:
    for kind in ("file", "store"):
        live = await place.start(kind=kind)
        head = live.head.number
        await live.apply(place.draft(B, confirm_in=3600), head)
        restarted = await place.start(kind=kind)
        assert (names(restarted), restarted.pending, restarted.head.number) == (["a"], None, head + 2)
        assert "not confirmed before the gateway ended" in restarted.head.origin.reason
        assert (await restarted.source.read()).text == A
        assert await restarted.audit.verify() == []


async def test_while_one_waits_nobody_makes_anything_else_live_but_what_it_goes_back_to(
    live: LiveConfig, place: Place
) -> None:
    await live.apply(place.draft(C), 1)
    await live.apply(place.draft(B, confirm_in=60), 2)
    for text in (A, B, C):
        with pytest.raises(Waits) as caught:
            await live.apply(place.draft(text, BOB), 3)
        assert caught.value.pending == Pending(3, 2, place.wall + 60) and caught.value.head == live.head
    with pytest.raises(Waits):
        await live.roll_back(1, BOB, 3)
    refused = (await lines(live, "action", "author", "detail"))[-1]
    assert refused == ("refused", "bob", "revision 3 of alice waits for its confirmation")
    assert live.pending is not None and names(live) == ["b"]
    await live.roll_back(2, BOB, 3)
    assert (names(live), live.pending, live.head.number) == (["c"], None, 4)
    await live.apply(place.draft(A), 4)


async def test_a_save_of_the_file_ends_the_wait_and_the_audit_says_so(place: Place) -> None:
    live = await place.start()
    await live.apply(place.draft(B, confirm_in=60), 1)
    place.path.write_text(C)
    await place.passes(live, 120)
    assert (names(live), live.pending, live.head.number) == (["c"], None, 3)
    (detail,) = (await lines(live, "detail"))[-1]
    assert "revision 2, which waited for a confirmation, does not go back" in detail


async def test_a_bad_save_does_not_keep_it_from_going_back(place: Place) -> None:
    live = await place.start()
    await live.apply(place.draft(B, confirm_in=60), 1)
    await place.passes(live, 30)
    place.path.write_text("version: 2")
    await place.passes(live, 31)
    assert (names(live), place.path.read_text(), live.pending) == (["a"], A, None)


async def test_going_back_is_tried_until_it_can_be_done(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    live = await place.start()
    await live.apply(place.draft(B, confirm_in=60), 1)
    place.path.chmod(0o444)
    caplog.clear()
    await place.passes(live, 80)
    assert (names(live), live.pending is None) == (["b"], False)
    (record,) = caplog.records
    assert "is not confirmed, and still live" in record.getMessage() and "read-only" in record.getMessage()
    restarted = await place.start()  # it starts all the same
    assert (names(restarted), restarted.pending is None) == (["b"], False)
    place.path.chmod(0o644)
    await place.passes(restarted, 6)
    assert (names(restarted), restarted.pending) == (["a"], None)


# --- several processes on one folder ---------------------------------------------------------------


async def test_another_process_sees_what_one_has_applied_within_a_second(place: Place) -> None:
    for kind in ("file", "store"):
        one = await place.start(kind=kind)
        other = await place.start(kind=kind, beside=True)
        number = one.head.number
        text = B if kind == "file" else C
        made = await one.apply(place.draft(text), number)
        await place.passes(other, 1)
        assert other.head == made
        await other.apply(place.draft(A, BOB), made.number)
        with pytest.raises(Stale) as caught:
            await one.apply(place.draft(B if kind == "store" else C), made.number)
        assert caught.value.head.origin.author == "bob"
        assert await one.audit.verify() == []


async def test_a_confirmation_in_another_process_counts(place: Place) -> None:
    one, other = await place.start(kind="store"), await place.start(kind="store", beside=True)
    await one.apply(place.draft(B, confirm_in=60), 1)
    await place.passes(other, 1)
    assert other.pending == one.pending
    await other.confirm(BOB, 2)
    await place.passes(one, 90)
    assert (one.pending, one.head.number, names(one)) == (None, 2, ["b"])


async def test_two_processes_that_both_wait_take_back_once(place: Place) -> None:
    one, other = await place.start(kind="store"), await place.start(kind="store", beside=True)
    await one.apply(place.draft(B, confirm_in=60), 1)
    await place.passes(other, 1)
    place.now += 66
    await asyncio.gather(one.tick(), other.tick())
    for process in (one, other):
        await place.passes(process, 1)
    assert one.head == other.head
    assert (one.head.number, names(one), names(other)) == (3, ["a"], ["a"])


# --- the start -------------------------------------------------------------------------------------


async def test_numbers_go_on_over_restarts(place: Place) -> None:
    live = await place.start()
    await live.apply(place.draft(B), 1)
    live = await place.start()
    assert (live.head.number, live.current.revision, live.head.origin.author) == (2, 2, "alice")
    place.path.write_text(C)
    live = await place.start()
    assert (live.head.number, live.head.parent, live.head.origin.source) == (3, 2, "file")


async def test_author_and_reason_survive_a_crash_between_file_and_revision(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await place.start()
    with monkeypatch.context() as broken:
        broken.setattr(SQLiteRevisions, "_add", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await live.apply(place.draft(B), 1)
    assert place.path.read_text() == B
    live = await place.start()
    assert (live.head.number, live.head.origin) == (2, replace(ALICE, role=""))
    assert (await lines(live, "action", "author", "reason", "to"))[-1] == (
        *("recovered", "alice", "more room", 2),
    )
    live = await place.start()
    assert [action for (action,) in await lines(live, "action")] == ["applied", "recovered"]


async def test_an_intention_that_was_not_carried_out_is_forgotten(place: Place) -> None:
    live = await place.start()
    await live.revisions.intend(place.draft(B))
    live = await place.start()
    assert (live.head.number, await live.revisions.intended()) == (1, None)
    place.path.write_text(B)
    await place.passes(live, 1)
    assert live.head.origin.source == "file"  # it is not hers


async def test_a_store_that_is_empty_begins_with_the_file_and_never_reads_it_again(place: Place) -> None:
    live = await place.start(kind="store")
    assert (live.head.number, live.text) == (1, A)
    assert (live.head.origin.author, live.head.origin.source) == (place.path.owner(), "file")
    assert str(place.path) in live.head.origin.reason
    place.path.unlink()
    live = await place.start(kind="store")
    assert (live.head.number, live.text, live.synced) == (1, A, True)


async def test_a_bad_file_makes_no_first_revision(place: Place) -> None:
    place.path.write_text("version: 2")
    for kind in ("file", "store"):
        with pytest.raises(ConfigRefused):
            await place.start(kind=kind)
    place.path.write_text(A)
    assert (await place.start(kind="store")).head.number == 1


# --- when something is away ------------------------------------------------------------------------


class Away:
    """A source or a store that can be away. kind: of the source."""

    def __init__(self, real: Any, error: Callable[[], Exception]) -> None:
        self._real, self._error = real, error
        self.away = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not self.away or not asyncio.iscoroutinefunction(found):
            return found

        async def fails(*args: object, **more: object) -> Any:
            raise self._error()

        return fails


class Elsewhere:
    """A gateway whose source is not on this host, nor are its revisions."""

    def __init__(self, place: Place) -> None:
        problem = Problem((), "it does not answer", "tried again soon")
        self.source: Any = Away(
            FileSource(place.path, lambda: place.now),
            lambda: ConfigRefused("zookeeper://zk1/gateway/config", [problem], transient=True),
        )
        self.source.kind = "zookeeper"
        self.revisions: Any = Away(MemoryRevisions(), lambda: StoreUnavailable("MongoDB is away"))
        self.remembered = MemoryRevisions()
        self.audit = MemoryAudit()
        self.place = place

    async def start(self) -> LiveConfig:
        place = self.place
        clocks: dict[str, Any] = {"now": lambda: place.now, "wall": lambda: place.wall}
        compiler = Compiler(lambda backend: NOWHERE, "")
        live = LiveConfig(self.source, self.revisions, self.audit, self.remembered, compiler, **clocks)
        await live.load_first()
        return live

    async def passes(self, live: LiveConfig, seconds: int) -> None:
        for _ in range(seconds):
            self.place.now += 1
            await live.tick()


async def test_a_source_that_is_away_at_the_start_has_the_last_good_config_served_and_not_ready_said(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Elsewhere(place)
    gateway.source.away = True
    with pytest.raises(ConfigRefused):  # nothing was ever served here
        await gateway.start()
    gateway.source.away = False
    live = await gateway.start()
    await live.apply(place.draft(B), 1)
    gateway.source.away = gateway.revisions.away = True
    live = await gateway.start()
    assert (names(live), live.head.number, live.synced) == (["b"], 2, False)
    assert "it does not answer" in caplog.text and "revision 2 is served" in caplog.text
    with pytest.raises(ConfigRefused):
        await live.apply(place.draft(C), 2)
    await gateway.passes(live, 60)
    assert (names(live), live.synced) == (["b"], False)
    gateway.source.away = gateway.revisions.away = False
    await gateway.passes(live, 300)
    assert (live.head.number, live.synced, live.refusal) == (2, True, None)


async def test_what_was_changed_meanwhile_is_live_once_the_source_is_back(place: Place) -> None:
    gateway = Elsewhere(place)
    await gateway.start()
    gateway.source.away = True
    live = await gateway.start()
    place.path.write_text(C)
    gateway.source.away = False
    await gateway.passes(live, 10)
    assert (names(live), live.head.number, live.synced) == (["c"], 2, True)


async def test_a_store_of_revisions_that_is_away_at_the_start_keeps_no_config_from_being_served(
    place: Place,
) -> None:
    gateway = Elsewhere(place)
    gateway.revisions.away = True
    live = await gateway.start()
    assert (names(live), live.head.number, live.synced) == (["a"], 0, True)
    with pytest.raises(ConfigRefused):
        await live.apply(place.draft(B), 0)
    place.path.write_text(B)
    assert await live.reload()
    assert (names(live), live.head.number) == (["b"], 0)  # it cannot be a revision yet
    gateway.revisions.away = False
    await gateway.passes(live, 20)
    assert (names(live), live.head.number) == (["b"], 1)
    gateway.revisions.away = True
    live = await gateway.start()
    assert (names(live), live.head.number) == (["b"], 1)
    gateway.revisions.away = False
    await gateway.passes(live, 20)
    assert (live.head.number, len(await gateway.revisions.page(0, 9))) == (1, 1)


async def test_gateways_with_files_of_their_own_may_share_a_store_of_revisions(place: Place) -> None:
    one = Elsewhere(place)
    two = Elsewhere(place)
    other_file = place.folder / "other.yaml"
    other_file.write_text(B)
    two.source = FileSource(other_file)
    two.revisions = one.revisions
    first, second = await one.start(), await two.start()
    assert (first.head.number, second.head.number) == (1, 2)
    for _ in range(3):
        assert await first.reload() and await second.reload()
    assert (first.head.number, second.head.number) == (1, 2)
    made = await first.apply(place.draft(C), 1)
    assert (made.number, made.parent, place.path.read_text(), names(second)) == (3, 2, C, ["b"])


async def test_the_audit_says_what_differs_by_meaning(place: Place) -> None:
    live = await place.start()
    await live.apply(place.draft(A + "tenants: { acme: {} }\n"), 1)
    ((diff,),) = (await lines(live, "diff"))[-1:]
    assert [(one["kind"], one["name"], one["action"]) for one in diff] == [("tenants", "acme", "added")]


async def test_a_change_that_fails_leaves_nothing_that_waits_for_a_confirmation(
    live: LiveConfig, place: Place
) -> None:
    with pytest.raises(Problems):
        await live.apply(place.draft("version: 2", confirm_in=60), 1)
    with pytest.raises(Stale):
        await live.apply(place.draft(B, confirm_in=60), 7)
    assert live.pending is None
    await place.passes(live, 90)
    assert live.head.number == 1


async def test_a_file_that_is_mounted_by_itself_is_told_to_be_mounted_with_its_folder(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*args: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    live = await place.start()
    with monkeypatch.context() as mounted:
        mounted.setattr("gateway.runtime.durable.rename", busy)
        with pytest.raises(ConfigRefused) as caught:
            await live.apply(place.draft(B), 1)
    (problem,) = caught.value.problems
    assert "mounted by itself" in problem.reason and "mount its folder" in problem.hint
    await unchanged(live, place)


async def test_a_store_that_is_the_source_is_written_once_for_a_change_and_a_pin_swaps_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await place.start(kind="store")
    monkeypatch.setattr(SQLiteRevisions, "intend", no_space)
    await live.apply(place.draft(B), live.head.number)
    await place.passes(live, 1)
    served = live.current
    await live.revisions.pin(live.head.number, pinned=True)
    await place.passes(live, 2)
    assert names(live) == ["b"] and live.current is served
