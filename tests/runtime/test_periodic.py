"""What is done again and again goes on whatever one round or one item does."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from gateway.admission import admission
from gateway.admission.admission import Admission
from gateway.config.live import LiveConfig
from gateway.config.sources.file import FileSource
from gateway.core.model import Address, Backend
from gateway.core.policy.circuit import HealthRule
from gateway.edge.backend import pool
from gateway.edge.backend.pool import Pools
from gateway.edge.client import listener
from gateway.health import probes
from gateway.health.circuits import Health
from gateway.health.probes import Probes
from gateway.limits import quotas
from gateway.limits.quotas import Quotas
from gateway.runtime import periodic
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.store.feeds import Feeds
from gateway.store.json.large import Jobs
from gateway.store.mongo.changes import MongoChangeLog
from gateway.store.mongo.large import LargeDocuments
from gateway.store.mongo.write import sweep as mongo_sweep
from gateway.store.mongo.write.sweep import Sweeper as MongoSweeper
from gateway.store.sqlite.changes import SQLiteChangeLog
from gateway.store.sqlite.told_names import ToldNames
from gateway.store.sqlite.write import sweep as sqlite_sweep
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend as FakeBackend
from tests.fakes import RawClient, always, answer


class Bug(Exception):
    """No error of the gateway's own."""


class Rounds:
    """A sleep that is over at once, for so many rounds; then it never is."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.slept: list[float] = []
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.left:
            self.over.set()
            await asyncio.Event().wait()
        self.left -= 1
        await asyncio.sleep(0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.runtime.periodic"]


# --- the one periodic task -------------------------------------------------------------------------


@pytest.mark.parametrize("awaits", [False, True])
async def test_a_round_that_fails_is_logged_once_and_the_next_ones_come(
    awaits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []

    def plain() -> None:
        done.append(1)
        raise Bug("plain")

    async def awaited() -> None:
        plain()

    rounds = Rounds(100)
    task = PeriodicTask("counting", 0.05, awaited if awaits else plain, sleep=rounds)
    task.start()
    await rounds.over.wait()
    assert len(done) == 100
    assert rounds.slept == [0.05] * 101
    (line,) = told(caplog)
    assert "counting failed; it goes on" in line
    assert caplog.records[0].exc_info is not None, "with its stack"
    await task.stop()
    assert not task.running


async def test_each_distinct_failure_is_told_and_told_again_after_a_quiet_time() -> None:
    clock, logged = Clock(), []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    boundary = Boundary("a sweep", clock)
    periodic.L.addHandler(handler)
    try:
        for step in range(1000):
            clock.now = step * 0.05
            with boundary:
                if step % 2:
                    raise Bug("one")
                raise ValueError("another")
        assert len(logged) == 2
        clock.now += periodic.QUIET + 1
        with boundary:
            raise Bug("again, from another line")
        assert len(logged) == 3
        for _ in range(30):
            clock.now += 25
            with boundary:
                raise Bug("for ever")
        assert len(logged) == 5
        assert "still fails" in logged[-1]
    finally:
        periodic.L.removeHandler(handler)


def test_one_item_that_fails_keeps_no_other_from_its_turn() -> None:
    seen: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise Bug
        seen.append(item)

    Boundary("items").each([1, 2, 3], work)
    assert seen == [1, 3]


async def test_a_stop_waits_until_nothing_of_a_round_runs_and_a_start_begins_anew() -> None:
    state: list[str] = []

    async def round_() -> None:
        state.append("in")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            state.append("out")

    task = PeriodicTask("waiting", 0.0, round_, sleep=Rounds(1))
    task.start()
    task.start()
    await eventually(lambda: state)
    await task.stop()
    assert state == ["in", "out"]
    await task.stop()


async def test_what_is_no_error_ends_it() -> None:
    """A cancellation, and the exit of the process."""

    def leave() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await PeriodicTask("leaving", 0.0, leave, sleep=Rounds(1)).run()


# --- each of those that use it ---------------------------------------------------------------------


class Late:
    """What has a deadline that has passed."""

    deadline = 1.0
    dropped = 0

    def drop(self) -> None:
        self.dropped += 1

    def abort(self) -> None:
        pass


async def test_a_sweep_of_exchanges_goes_on_and_what_cannot_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "_SWEEP", 0.001)
    pools, seen, broken, good = Pools(), [], Late(), Late()

    def raises(timed: Late) -> None:
        seen.append("broken")
        raise Bug

    pools.of(Address("127.0.0.1:1", "127.0.0.1", 1), 1.0)
    pools.watch(broken, raises)
    pools.watch(good, lambda timed: seen.append("good"))
    await eventually(lambda: seen.count("good") > 30)
    assert seen.count("broken") == 20, "then it is let go, and holds no seat for ever"
    assert broken.dropped == 1 and not good.dropped
    assert pools.under_way == 1
    assert len(told(caplog)) == 1
    pools.forget(good)
    pools.close()
    assert not pools._failures


async def test_a_sweep_of_clients_connections_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "_SWEEP_INTERVAL", 0.001)
    sweep = listener.Listener(cast(Any, None))
    seen: list[str] = []

    class Connection:
        def __init__(self, name: str) -> None:
            self.name = name

        def check_timeouts(self, now: float) -> None:
            seen.append(self.name)
            if self.name == "broken":
                raise Bug

    sweep.connections = cast(Any, [Connection("broken"), Connection("good")])
    sweep._sweep.start()
    await eventually(lambda: seen.count("good") > 3)
    await sweep._sweep.stop()
    assert len(told(caplog)) == 1


async def test_the_sweep_of_sqlite_goes_on_with_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_sweep, "SWEEP_SECONDS", 0.001)
    seen: list[str] = []

    class Files:
        def open_files(self) -> list[Any]:
            names = "broken", "damaged", "good"
            return [SimpleNamespace(path=tmp_path / f"{name}.db", inline=None) for name in names]

        def check_moved(self, connection: Any, name: str) -> None:
            return None

        def is_open(self, name: str, file: Any) -> bool:
            seen.append(name)
            if name == "broken":
                raise Bug
            if name == "damaged":
                raise sqlite3.DatabaseError
            return False

    sweeper = sqlite_sweep.Sweeper(cast(Any, Files()), cast(Any, None))
    sweeper.start()
    await eventually(lambda: seen.count("good") > 3)
    await sweeper.stop()


class Driver:
    """A MongoDB driver whose rows are given; None raises."""

    def __init__(self, rows: list[dict[str, Any] | None]) -> None:
        self.rows = rows
        self.asked = 0

    async def find(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        self.asked += 1
        for row in self.rows:
            if row is None:
                raise Bug
            yield row

    async def modify(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


async def test_the_sweep_of_mongodb_goes_on_with_the_next_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_sweep, "SWEEP_SECONDS", 0.001)
    seen: list[str] = []
    driver = Driver([{"t": "a", "c": name, "q": 0, "moved": ""} for name in ("broken", "good")])
    sweeper = MongoSweeper(cast(Any, driver), cast(Any, lambda tenant: None))

    async def sweep(writes: Any, collection: str) -> None:
        seen.append(collection)
        if collection == "broken":
            raise Bug

    async def forget(tenant: str, last: int) -> None:
        seen.append("changes")
        raise Bug

    monkeypatch.setattr(sweeper, "_sweep_collection", sweep)
    monkeypatch.setattr(sweeper, "_forget_changes", forget)
    sweeper.start()
    await eventually(lambda: seen.count("good") > 3 and seen.count("changes") > 3)
    await sweeper.stop()


async def test_the_poll_of_sqlites_feeds_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SQLiteChangeLog, "POLL_SECONDS", 0.001)
    asked: list[str] = []

    class Files:
        def data_version(self, name: str) -> int:
            asked.append(name)
            if name == "broken":
                raise sqlite3.DatabaseError("the file is damaged")
            return len(asked)

    told = ToldNames(tmp_path, lambda name: None)
    feeds = Feeds(SQLiteChangeLog(cast(Any, Files()), cast(Any, None), told))
    feeds._join("broken")
    event = feeds._join("good")
    for _ in range(3):
        event.clear()
        async with asyncio.timeout(30):
            await event.wait()
    assert "broken" in asked
    await feeds.close()
    told.close()


@pytest.mark.parametrize("rows", [[None], [{"t": "good"}, {"t": "good", "q": 1}]])
async def test_the_poll_of_mongodbs_feeds_goes_on(
    rows: list[dict[str, Any] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MongoChangeLog, "POLL_SECONDS", 0.001)
    driver = Driver(rows)
    feeds = Feeds(MongoChangeLog(cast(Any, driver), Jobs(), LargeDocuments(), supported=True))
    event = feeds._join("good")
    await eventually(lambda: driver.asked > 3)
    driver.rows = [{"t": "good", "q": 7}]
    async with asyncio.timeout(30):
        await event.wait()
    await feeds.close()


async def test_the_quotas_are_written_on_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quotas, "FLUSH", 0.001)
    service = Quotas(tmp_path / "quotas.sqlite")
    write, failures = service._write, [Bug(), Bug()]

    def fails(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return write(*arguments)

    monkeypatch.setattr(service, "_write", fails)
    await service.start()
    service.used("acme")
    service.count("acme")
    await eventually(lambda: not failures)
    service.count("acme")
    await eventually(lambda: service._stored)
    await service.close()


async def test_probes_and_ticks_go_on_with_the_next_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_TICK", 0.001)
    monkeypatch.setattr(admission, "_TICK", 0.001)
    backends = {
        name: Backend(name, "uvicorn", (Address(name),), health=HealthRule(path="/", interval=0.001))
        for name in ("broken", "good")
    }
    health, seats = Health(), Admission()
    health.reconcile(backends)
    seats.reconcile(backends)
    asked: list[str] = []

    class Seats:
        def try_admit_at(self, backend: Backend, address: Address) -> None:
            asked.append(backend.name)
            if backend.name == "broken":
                raise Bug

    def tick() -> None:
        asked.append("tick")
        raise Bug

    monkeypatch.setattr(seats._queues["broken"].fair, "tick", lambda now: tick())
    good = seats._queues["good"]
    monkeypatch.setattr(good.fair, "tick", lambda now: asked.append("good tick"))
    watches = [
        asyncio.create_task(watch) for watch in (Probes(health, Seats(), Pools()).watch(), seats.watch())
    ]
    await eventually(lambda: min(asked.count(name) for name in ("broken", "good", "tick", "good tick")) > 3)
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)


async def test_the_watch_of_the_config_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = FileSource(tmp_path / "routing.yaml")
    compiler = cast(Any, SimpleNamespace(texts=None))
    service = LiveConfig(source, *[cast(Any, None)] * 3, compiler)
    polls: list[int] = []

    async def poll(changed: object) -> None:
        polls.append(1)
        raise Bug

    monkeypatch.setattr(source, "poll", poll)
    watch = asyncio.create_task(service.watch())
    await eventually(lambda: len(polls) > 2)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_after_a_bug_in_a_sweep_a_time_out_still_ends_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over real sockets: the sweep meets a bug, and a backend that never answers is 504 all the same."""

    async def silent(heard: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with FakeBackend(silent) as backend:
        app = {"kind": "uvicorn", "addresses": [backend.address]}
        routes = [harness.route("svc", "app", timeouts={"first_byte": "200ms"}, public=True)]
        async with harness.running(tmp_path, harness.routing(routes, backends={"app": app})) as gateway:
            broken = Late()

            def raises(timed: Late) -> None:
                raise Bug

            gateway.pools.watch(broken, raises)
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"GET /svc/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.head()).startswith("HTTP/1.1 504 ")
            client.close()


async def test_keys_are_read_again_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.planes.data.KEYS_POLL", 0.001)
    async with FakeBackend(always(answer())) as backend:
        app = {"kind": "uvicorn", "addresses": [backend.address]}
        config = harness.routing([harness.route("svc", "app")], backends={"app": app})
        async with harness.running(tmp_path, config) as gateway:
            asked: list[int] = []

            def load(**more: Any) -> None:
                asked.append(1)
                raise Bug

            monkeypatch.setattr(gateway.issuers, "refresh", load)
            await eventually(lambda: len(asked) > 3)


async def test_what_follows_from_a_reload_is_done_though_a_part_of_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the seats and circuits of a config would not be those that are live."""
    async with FakeBackend(always(answer())) as backend:
        app = {"kind": "gunicorn", "threads": 2, "addresses": [backend.address]}
        config = harness.routing([harness.route("svc", "app")], backends={"app": app})
        async with harness.running(tmp_path, config) as gateway:

            def fails(wanted: Any) -> None:
                raise Bug

            monkeypatch.setattr(gateway.pools, "reconcile", fails)
            app["threads"] = 5
            (tmp_path / "routing.yaml").write_text(yaml.safe_dump(config))
            assert await gateway.live.reload()
            assert gateway.admission.state()["app"]["seats"] == 5
            assert len(told(caplog)) == 1
            monkeypatch.undo()


async def test_what_cannot_be_closed_keeps_nothing_else_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeBackend(always(answer())) as backend:
        app = {"kind": "uvicorn", "addresses": [backend.address]}
        config = harness.routing([harness.route("svc", "app")], backends={"app": app})
        async with harness.running(tmp_path, config) as gateway:
            closed: list[str] = []

            async def stop() -> None:
                raise Bug

            close = gateway.store.close

            async def closes() -> None:
                closed.append("store")
                await close()

            monkeypatch.setattr(gateway.supervisor, "stop", stop)
            monkeypatch.setattr(gateway.store, "close", closes)
    assert closed == ["store"]
    assert "the end of the gateway failed" in told(caplog)[0]
