"""The live config: good edits go live, bad ones change nothing and are shown whole."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.call import Snapshot
from gateway.config import source
from gateway.config.compilation import Compiler
from gateway.config.following import ALONE, Following
from gateway.config.live import LiveConfig
from gateway.config.ports import ConfigRefused, ConfigSource
from gateway.config.refusal import Refusal, describe
from gateway.config.sources.file import POLL, FileSource
from gateway.core.config.revision import Draft, Origin
from gateway.core.routing.problems import Problem
from gateway.runtime import files
from gateway.runtime.watch import QUIET, RESTLESS, ChangeDebouncer, FileState
from tests.eventually import eventually, passes
from tests.fakes import NOWHERE, MemoryAudit, MemoryRevisions


def text(*names: str, **more: str) -> str:
    lines = ["version: 1", *(f"{key}: {value}" for key, value in more.items()), "routes:"]
    lines += [f"  - {{ name: {name}, path: /{name}, target: documents }}" for name in names]
    return "\n".join(lines) + "\n"


COMPILER = Compiler(lambda backend: NOWHERE, "/sockets")


class Setting:
    """A file, the service on it, and what it reported."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "routing.yaml"
        self.path.write_text(text("a"))
        self.clock = 1000.0
        self.applied: list[tuple[Snapshot, Snapshot | None]] = []
        self.refused: list[Refusal] = []
        self.make(time.monotonic)

    def make(self, now: Callable[[], float]) -> None:
        self.source = FileSource(self.path, now)
        following = Following(lambda new, old: self.applied.append((new, old)), self.refused.append)
        self.live = live_config(self.source, following=following, now=now)

    @property
    def names(self) -> list[str]:
        return [route.name for route in self.live.current.table.routes]

    async def on_a_clock(self) -> None:
        """A service whose time passes in `looks` alone."""
        self.make(lambda: self.clock)
        self.applied.clear()
        await self.live.load_first()

    async def looks(self, seconds: float) -> None:
        """The looks of a watch in this time."""
        for _ in range(round(seconds / POLL)):
            self.clock += POLL
            await self.source.poll(self.live.reload)
            await self.live.tick()

    def write(self, content: str) -> None:
        """In place, at a time that no write had before: some file systems count in coarse steps."""
        status = self.path.stat() if self.path.exists() else None
        self.path.write_text(content)
        if status is not None:
            os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(watch) for watch in (self.live.watch(), self.live.watch_time())]
        try:
            yield
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def live_config(
    source: ConfigSource, *, following: Following = ALONE, now: Callable[[], float] = time.monotonic
) -> LiveConfig:
    revisions = MemoryRevisions()
    return LiveConfig(source, revisions, MemoryAudit(), revisions, COMPILER, following, now=now)


@pytest.fixture
async def setting(tmp_path: Path) -> Setting:
    made = Setting(tmp_path)
    await made.live.load_first()
    return made


# --- the start -------------------------------------------------------------------------------------


async def test_the_first_load_is_revision_one(setting: Setting) -> None:
    ((new, old),) = setting.applied
    assert (new.revision, old, setting.names) == (1, None, ["a"])
    assert setting.live.status()["refused"] is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, f"cannot be read: {os.strerror(errno.ENOENT)}"),
        (b"", "not a mapping"),
        (b"\xff", "not UTF-8"),
        (b"a: [", "not YAML"),
        (b"version: 2", "2 is not 1"),
        (b"#" * (16 * 1024 * 1024 + 1), "larger than"),
    ],
    ids=["missing", "empty", "bytes", "torn", "wrong", "large"],
)
async def test_without_a_good_config_nothing_begins(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "routing.yaml"
    if content is not None:
        path.write_bytes(content)
    live = live_config(FileSource(path))
    with pytest.raises(ConfigRefused) as caught:
        await live.load_first()
    assert str(caught.value.path) == str(path)
    assert await live.revisions.head() is None
    assert reason in caught.value.problems[0].reason


# --- edits -----------------------------------------------------------------------------------------


async def test_a_good_edit_goes_live_and_is_swapped_once(setting: Setting) -> None:
    async with setting.watched():
        for number in range(2, 5):
            setting.path.write_text(text("a", f"b{number}"))
            await eventually(lambda wanted=number: setting.names[1:] == [f"b{wanted}"])
            assert setting.live.current.revision == number
        await passes(0.3)
    assert [new.revision for new, _ in setting.applied] == [1, 2, 3, 4]
    assert all(
        before[0] is after[1] for before, after in zip(setting.applied, setting.applied[1:], strict=False)
    )


async def test_a_bad_edit_changes_nothing_and_all_its_problems_are_shown(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    before = setting.live.current
    async with setting.watched():
        setting.path.write_text(
            "version: 1\nzzz: 1\nroutes:\n"
            "  - name: x\n    path: /x\n    target: nobody\n    body_limit: big\n"
        )
        await eventually(lambda: setting.refused)
    assert setting.live.current is before
    expected = [("zzz", 2), ("routes[0].target", 6), ("routes[0].body_limit", 7)]
    (refusal,) = setting.refused
    assert [(p.where, p.line) for p in refusal.problems] == expected
    shown = setting.live.status()
    assert (shown["revision"], shown["digest"]) == (1, before.digest)
    assert [(p["path"], p["line"]) for p in shown["refused"]["problems"]] == expected
    assert all(p["reason"] and p["hint"] for p in shown["refused"]["problems"])
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    for where, line in expected:
        assert f"{setting.path}:{line}: {where}: " in record.getMessage()


async def test_a_good_edit_after_a_bad_one_takes_the_refusal_away(setting: Setting) -> None:
    await setting.on_a_clock()
    setting.write("version: [")
    await setting.looks(1)
    assert setting.live.refusal
    setting.write(text("a", "b"))
    await setting.looks(1)
    assert (setting.names, setting.live.status()["refused"]) == (["a", "b"], None)


@pytest.mark.parametrize("wrong", ["version: [", "version: 2", None, "\0"], ids=str)
@pytest.mark.parametrize("by", ["watch", "reload"])
async def test_what_is_as_the_live_text_again_takes_the_refusal_away_and_the_log_says_so(
    setting: Setting, caplog: pytest.LogCaptureFixture, wrong: str | None, by: str
) -> None:
    await setting.on_a_clock()
    caplog.set_level(logging.INFO)
    setting.path.unlink() if wrong is None else setting.write(wrong)
    await setting.looks(1)
    assert setting.live.status()["refused"]["problems"]
    caplog.clear()
    setting.write(text("a"))
    await setting.looks(1) if by == "watch" else await setting.live.reload()
    assert setting.live.status()["refused"] is None
    (record,) = caplog.records
    assert f"{setting.path} is as the live revision 1 again" in record.getMessage()
    setting.write(text("a") + "# \n")
    await setting.looks(1)
    caplog.clear()
    os.utime(setting.path, (1, 1))
    await setting.looks(1)
    assert not caplog.records
    assert setting.live.text == text("a") + "# \n"


# --- files that are none ---------------------------------------------------------------------------


def a_fifo(path: Path) -> str:
    os.mkfifo(path)
    return "FIFO"


def a_folder(path: Path) -> str:
    path.mkdir()
    return "directory"


def a_device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "character device"


def a_terminal(path: Path) -> str:
    path.symlink_to("/dev/tty")
    return "device"


def a_socket(path: Path) -> str:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.close()
    return "socket"


def a_loop(path: Path) -> str:
    path.symlink_to(path.name)
    return "cannot be read"


def a_dead_link(path: Path) -> str:
    path.symlink_to("nowhere")
    return "cannot be read"


def nothing(path: Path) -> str:
    return "cannot be read"


@pytest.mark.parametrize(
    "make",
    [a_fifo, a_folder, a_device, a_terminal, a_socket, a_loop, a_dead_link, nothing],
    ids=lambda f: f.__name__,
)
async def test_what_is_no_regular_file_is_refused_by_its_kind_and_the_watch_goes_on(
    setting: Setting, make: Callable[[Path], str]
) -> None:
    await setting.on_a_clock()
    setting.path.unlink()
    kind = make(setting.path)
    async with asyncio.timeout(30):
        await setting.looks(1)
    ((problem,),) = [refusal.problems for refusal in setting.refused]
    assert kind in problem.reason and problem.hint
    with pytest.raises(ConfigRefused):
        await live_config(FileSource(setting.path)).load_first()
    if setting.path.is_dir():
        setting.path.rmdir()
    setting.path.unlink(missing_ok=True)
    setting.path.write_text(text("b"))
    await setting.looks(1)
    assert setting.names == ["b"]


async def test_a_file_that_says_it_is_empty_is_bounded_too(setting: Setting) -> None:
    """Files of /proc have the size 0 and any content; a file may grow after it was looked at."""
    await setting.on_a_clock()
    setting.path.unlink()
    setting.path.symlink_to("/proc/self/status")
    async with asyncio.timeout(30):
        await setting.looks(1)
    assert setting.refused
    with pytest.raises(files.FileUnusable, match="larger than 10 bytes"):
        files.read_file(Path("/proc/self/status"), 10)


async def test_a_file_that_was_replaced_outside_of_a_container_is_told_once(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is mounted by itself stays the same one when its name outside is given to another. As such
    a mount does, a descriptor's link leads to a file whatever has its name."""
    mounted = setting.path.with_name("mounted.yaml")
    with setting.path.open() as file:
        mounted.symlink_to(f"/proc/self/fd/{file.fileno()}")
        setting.path, outside = mounted, setting.path
        await setting.on_a_clock()
        caplog.clear()
        other = outside.with_name("new")
        other.write_text(text("b"))
        other.replace(outside)
        await setting.looks(10)
        (record,) = caplog.records
        assert "Mount its folder" in record.getMessage()
        assert setting.live.status()["cut_off"]
        assert (setting.names, setting.refused) == (["a"], [])


async def test_a_byte_order_mark_is_no_part_of_the_text(setting: Setting) -> None:
    await setting.on_a_clock()
    setting.path.write_bytes(b"\xef\xbb\xbf" + text("b").encode())
    await setting.looks(1)
    assert setting.names == ["b"]


async def test_a_failure_that_passes_by_itself_is_tried_again_and_said_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.config.sources import file as config

    def no_descriptors(path: Path) -> str:
        problem = Problem((), "it cannot be read: too many open files", "end some")
        raise ConfigRefused(path, [problem], transient=True)

    await setting.on_a_clock()
    with monkeypatch.context() as broken:
        broken.setattr(config, "read", no_descriptors)
        setting.write(text("b"))
        await setting.looks(30)
    assert (len(setting.refused), setting.names) == (1, ["a"])
    await setting.looks(60)
    assert (len(setting.refused), setting.names) == (1, ["b"])


async def test_a_parser_that_cannot_run_is_tried_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_process(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    await setting.on_a_clock()
    with monkeypatch.context() as broken:
        broken.setattr(source.asyncio, "create_subprocess_exec", no_process)
        setting.write(text("b") + "#" * 10_000)
        await setting.looks(1)
        assert "no process could be started" in setting.refused[0].problems[0].reason
    await setting.looks(8)
    assert (len(setting.refused), setting.names) == (1, ["b"])


async def test_a_text_that_is_torn_under_every_reading_is_refused_in_the_end(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.config.sources import file as config

    count = itertools.count()
    monkeypatch.setattr(config, "file_stamp", lambda path: (next(count),) * 5)
    async with asyncio.timeout(30):
        assert not await setting.live.reload()
    assert "changes while it is read" in setting.refused[0].problems[0].reason


@pytest.mark.parametrize("typo", ["!!bool abc", '!!int ""', "!!seq abc", "!x 1"])
@pytest.mark.parametrize("padding", ["", "#" * 10_000], ids=["small", "large"])
async def test_a_tag_is_a_refused_edit_and_the_watch_goes_on(
    setting: Setting, typo: str, padding: str
) -> None:
    async with setting.watched():
        setting.path.write_text(f"version: {typo}\n{padding}\n")
        await eventually(lambda: setting.refused)
        (problem,) = setting.refused[0].problems
        assert (problem.line, "tag" in problem.reason) == (1, True)
        setting.path.write_text(text("b"))
        await eventually(lambda: setting.names == ["b"])


async def test_a_bug_while_loading_is_a_refusal_and_the_watch_goes_on(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gateway.config import compilation

    with monkeypatch.context() as broken:
        broken.setattr(compilation, "compile_data", lambda *_: {}["bug"])
        async with setting.watched():
            setting.path.write_text(text("b"))
            await eventually(lambda: setting.refused)
            assert "a bug in the gateway" in setting.live.status()["refused"]["problems"][0]["reason"]
            assert setting.names == ["a"]
            broken.undo()
            setting.path.write_text(text("c"))
            await eventually(lambda: setting.names == ["c"])
    assert len(setting.refused) == 1
    assert any(record.exc_info for record in caplog.records)


async def test_a_listener_that_raises_neither_undoes_a_swap_nor_ends_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(*_: object) -> None:
        raise LookupError("a bug of the listener")

    path = tmp_path / "routing.yaml"
    path.write_text(text("a"))
    following = Following(lambda new, old: old and raising(), raising)
    live = live_config(FileSource(path), following=following)
    await live.load_first()
    path.write_text(text("b"))
    assert await live.reload()
    assert live.current.revision == 2
    path.write_text("version: 2")
    assert not await live.reload()
    path.write_text(text("c"))
    assert await live.reload()
    assert (live.current.revision, live.refusal) == (3, None)
    assert sum(record.exc_info is not None for record in caplog.records) == 3


async def test_a_listener_that_raises_at_the_first_load_ends_the_start(tmp_path: Path) -> None:
    def raising(*_: object) -> None:
        raise LookupError

    path = tmp_path / "routing.yaml"
    path.write_text(text("a"))
    with pytest.raises(LookupError):
        await live_config(FileSource(path), following=Following(raising)).load_first()


async def test_a_file_that_is_still_being_written_is_not_read(setting: Setting) -> None:
    """Whatever the pace of the writer is, as long as it does not rest for QUIET: from the third line on, each
    part of the file is a good config that lacks routes."""
    await setting.on_a_clock()
    whole = text(*(f"r{index}" for index in range(40))).splitlines(keepends=True)
    for number in range(1, len(whole) + 1):
        setting.write("".join(whole[:number]))
        await setting.looks(QUIET - POLL)
    assert [len(new.table.routes) for new, _ in setting.applied] == [1]
    await setting.looks(3 * POLL)
    assert [len(new.table.routes) for new, _ in setting.applied] == [1, 40]
    assert not setting.refused


async def test_it_is_read_once_it_has_been_left_alone_and_not_before(setting: Setting) -> None:
    await setting.on_a_clock()
    setting.write(text("b"))
    await setting.looks(QUIET)
    assert setting.names == ["a"]
    await setting.looks(2 * POLL)
    assert setting.names == ["b"]


def test_a_look_that_took_long_proves_no_rest() -> None:
    """What a hanging disk said at the end of a look may be what was there at its begin."""
    settling = ChangeDebouncer((1, 1, 1, 1, 1))
    changed = (1, 1, 2, 2, 2)
    assert settling.observe(0, 0, changed) is FileState.CHANGING
    assert settling.observe(0.05, 9, changed) is FileState.CHANGING
    assert settling.observe(9, 9, changed) is FileState.QUIET
    settling.mark_read(changed)
    assert settling.observe(10, 20, None) is FileState.CHANGING
    assert settling.observe(20.1, 20.1, None) is FileState.CHANGING
    assert settling.observe(20.3, 20.3, None) is FileState.QUIET


async def test_a_file_that_never_rests_is_said_in_the_log_and_more_and_more_seldom(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    await setting.on_a_clock()
    caplog.set_level(logging.WARNING)
    for second in range(int(RESTLESS * 8)):
        for _ in range(5):
            with setting.path.open("a") as file:
                file.write("#\n")
            await setting.looks(0.2)
        if second == 2:
            assert 2 <= setting.live.status()["changing_for"] <= 4
            assert not caplog.records
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert all(str(setting.path) in text and "what is live stays live" in text for text in said)
    await setting.looks(1)
    assert setting.live.status()["changing_for"] is None
    assert setting.live.current.digest == setting.live.status()["digest"]
    assert setting.live.current.revision == 2


def vim(path: Path, content: str) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_text(content)
    backup.unlink()


def in_place_by_sed(path: Path, content: str) -> None:
    beside = path.with_name("sedAbC123")
    beside.write_text(content)
    beside.rename(path)


def copied_over(path: Path, content: str) -> None:
    other = path.with_name("other")
    other.write_text(content)
    shutil.copyfile(other, path)


def copied_with_an_old_time(path: Path, content: str) -> None:
    beside = path.with_name(".routing.yaml.XyZ")
    beside.write_text(content)
    os.utime(beside, (1, 1))  # as rsync --times and tar do
    beside.rename(path)


def config_map(path: Path, content: str) -> None:
    """As the kubelet does: a folder for each version, and a link that is turned."""
    folder = path.parent / f"..{time.time_ns()}"
    folder.mkdir()
    (folder / path.name).write_text(content)
    link = path.parent / "..data_tmp"
    link.symlink_to(folder.name)
    old = os.readlink(path.parent / "..data") if (path.parent / "..data").exists() else None
    link.rename(path.parent / "..data")
    if old is None:
        path.unlink()
        path.symlink_to(Path("..data") / path.name)
    else:
        shutil.rmtree(path.parent / old)


@pytest.mark.parametrize(
    "save", [vim, in_place_by_sed, copied_over, copied_with_an_old_time, config_map], ids=lambda f: f.__name__
)
async def test_each_way_to_save_is_one_revision_and_no_refusal(
    setting: Setting, save: Callable[[Path, str], None]
) -> None:
    await setting.on_a_clock()
    for number in range(2, 5):
        save(setting.path, text(f"b{number}"))
        await setting.looks(1)
        assert (setting.names, setting.live.current.revision) == ([f"b{number}"], number)
    assert not setting.refused


async def test_a_file_that_is_away_for_a_moment_is_not_missed(setting: Setting) -> None:
    await setting.on_a_clock()
    away = setting.path.with_name("away")
    setting.path.rename(away)
    await setting.looks(QUIET - POLL)
    away.rename(setting.path)
    await setting.looks(1)
    assert (len(setting.applied), setting.refused) == (1, [])


async def test_a_touch_and_a_clock_that_goes_back_make_no_revision_and_an_edit_with_it_does(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    await setting.on_a_clock()
    caplog.clear()
    for when in (2_000_000_000, 1, 0):
        os.utime(setting.path, (when, when))
        await setting.looks(1)
    assert (len(setting.applied), caplog.records) == (1, [])
    setting.path.write_text(text("b"))
    os.utime(setting.path, (1, 1))
    await setting.looks(1)
    assert setting.names == ["b"]


async def test_an_edit_that_its_stamp_does_not_tell_is_found_all_the_same(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two edits of one length within one step of the file system's clock (2 s on FAT, 1 s on some NFS)."""
    from gateway.config.sources import file as config

    monkeypatch.setattr(config, "file_stamp", lambda path: (1, 1, 1, 1, path.stat().st_size))
    await setting.on_a_clock()
    setting.path.write_text(text("bb"))
    await setting.looks(QUIET + 2 * POLL)
    assert setting.names == ["bb"]
    setting.path.write_text(text("cc"))
    await setting.looks(10)
    assert setting.names == ["cc"]
    setting.path.write_text(text("dd"))
    await setting.looks(10)
    assert setting.names == ["cc"]  # later than any step of a clock: a stamp tells it, or nothing does


async def test_a_file_that_changes_while_it_is_read_is_read_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.config.sources import file as config

    genuine = config.read

    def slow(path: Path) -> str:
        found = genuine(path)
        if "b" not in found:
            path.write_text(text("b"))
        return found

    monkeypatch.setattr(config, "read", slow)
    setting.path.write_text(text("torn"))
    assert await setting.live.reload()
    assert setting.names == ["b"]
    assert len(setting.applied) == 2


async def test_a_file_that_goes_away_and_comes_back(setting: Setting) -> None:
    async with setting.watched():
        setting.path.unlink()
        await eventually(lambda: setting.live.refusal)
        assert "cannot be read" in setting.refused[0].problems[0].reason
        assert setting.names == ["a"]
        setting.path.write_text(text("back"))
        await eventually(lambda: setting.names == ["back"])
    assert len(setting.refused) == 1


async def test_a_file_that_is_replaced_by_a_rename_of_the_same_size_and_time(setting: Setting) -> None:
    other = setting.path.with_name("new.yaml")
    other.write_text(text("b"))
    status = setting.path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    async with setting.watched():
        other.replace(setting.path)
        await eventually(lambda: setting.names == ["b"])


async def test_an_edit_in_place_that_keeps_size_and_time_is_seen(setting: Setting) -> None:
    status = setting.path.stat()
    async with setting.watched():
        await passes(0.02)  # file systems count time in steps of some milliseconds
        setting.path.write_text(text("b"))
        os.utime(setting.path, ns=(status.st_atime_ns, status.st_mtime_ns))
        await eventually(lambda: setting.names == ["b"])


async def test_a_link_that_is_turned_to_another_file_is_seen(setting: Setting) -> None:
    one, two = setting.path.with_name("one"), setting.path.with_name("two")
    setting.path.rename(one)
    two.write_text(text("b"))
    setting.path.symlink_to(one)
    async with setting.watched():
        link = setting.path.with_name("link")
        link.symlink_to(two)
        link.replace(setting.path)
        await eventually(lambda: setting.names == ["b"])


# --- reload ----------------------------------------------------------------------------------------


async def test_reload_takes_the_file_now(setting: Setting) -> None:
    assert await setting.live.reload()
    assert setting.live.current.revision == 1
    setting.path.write_text(text("b"))
    assert await setting.live.reload()
    assert (setting.names, setting.live.current.revision) == (["b"], 2)
    setting.path.write_text("version: 2")
    assert not await setting.live.reload()
    assert (setting.names, setting.live.current.revision) == (["b"], 2)


async def test_a_reload_that_a_signal_asks_for_does_not_take_half_a_file(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.config.sources import file as config

    whole = text(*(f"r{index}" for index in range(20))).splitlines(keepends=True)
    parts = iter(range(4, len(whole) + 1))
    monkeypatch.setattr(config, "QUIET", 0.001)

    def written_on(path: Path) -> tuple[int, ...]:
        """The stamp of a file that grows whenever it is looked at, until it is whole."""
        part = next(parts, len(whole))
        path.write_text("".join(whole[:part]))
        return (part,) * 5

    monkeypatch.setattr(config, "file_stamp", written_on)
    assert await setting.live.reload_when_quiet()
    assert [len(new.table.routes) for new, _ in setting.applied] == [1, 20]


async def test_a_reload_of_a_file_that_never_rests_ends_and_says_so(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gateway.config.sources import file as config

    count = itertools.count()
    monkeypatch.setattr(config, "file_stamp", lambda path: (next(count),) * 5)
    monkeypatch.setattr(config, "QUIET", 0.001)
    monkeypatch.setattr(config, "RESTLESS", 0.05)
    assert not await setting.live.reload_when_quiet()
    assert "changes all the time" in caplog.text
    assert len(setting.applied) == 1


async def test_reloads_at_once_swap_once(setting: Setting) -> None:
    setting.path.write_text(text("b"))
    async with setting.watched():
        assert await asyncio.gather(*(setting.live.reload() for _ in range(5))) == [True] * 5
        await passes(0.3)
    assert len(setting.applied) == 2


async def test_a_thousand_routes_are_read_outside_the_process_that_serves(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libyaml in a thread of this process would hold the event loop for 120 ms (`make bench` measures it)."""
    many = "version: 1\nroutes:\n" + "".join(
        f"  - {{ name: r{index}, path: '/r{index}/{{rest*}}', strip: /r{index}, target: documents }}\n"
        for index in range(1000)
    )

    def here(text: str) -> None:
        raise AssertionError("a large text is parsed in the process that serves")

    async with setting.watched():
        monkeypatch.setattr("gateway.config.strict_yaml.parse", here)
        setting.path.write_text(many)
        await eventually(lambda: len(setting.names) == 1000)


async def test_edits_good_and_bad_in_a_row_leave_the_last_good_one(setting: Setting) -> None:
    async with setting.watched():
        for number in range(20):
            setting.path.write_text("version: [" if number % 3 else text(f"n{number}"))
            await passes(0.03)
        setting.path.write_text(text("last"))
        await eventually(lambda: setting.names == ["last"])
    revisions = [new.revision for new, _ in setting.applied]
    assert revisions == list(range(1, len(revisions) + 1))


async def test_problems_as_text_are_one_a_line(setting: Setting) -> None:
    setting.path.write_text("version: 2\nzzz: 1\n")
    with pytest.raises(ConfigRefused) as caught:
        await setting.live.load_first()
    assert describe(setting.path, caught.value.problems).splitlines() == [
        f"  {setting.path}:1: version: 2 is not 1 (write version: 1)",
        f"  {setting.path}:2: zzz: the key 'zzz' is unknown "
        "(remove it; known here: backends, certificates, client_limit, front_page, issuers,"
        " rate_limit_headers, routes, tenants, trusted_proxies, version)",
    ]


async def test_a_change_is_done_when_the_other_processes_have_it_and_who_has_it_not_is_known(
    tmp_path: Path,
) -> None:
    spread: list[tuple[int, str]] = []

    async def all_but_one(new: Snapshot, text: str) -> list[str]:
        await asyncio.sleep(0)
        spread.append((new.revision, text))
        return ["worker 1"] if len(spread) == 1 else []

    setting = Setting(tmp_path)
    live = live_config(setting.source, following=Following(spread=all_but_one), now=time.monotonic)
    await live.load_first()
    assert spread == []
    revision = await live.apply(Draft(text("a", "b"), Origin("alice", "", "api"), 1.0), live.head.number)
    assert spread == [(revision.number, text("a", "b"))]
    assert live.behind == ["worker 1"]
    await live.apply(Draft(text("a"), Origin("alice", "", "api"), 2.0), live.head.number)
    assert live.behind == []
