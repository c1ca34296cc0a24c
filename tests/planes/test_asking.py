"""The master asks its workers: each in time, the counts of the dead kept, one that hangs said."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.merge.metrics import Reporter
from gateway.planes.asking import WorkerPlanes
from gateway.runtime.channel import AskFailed, Channel, Handler
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recent import KEPT
from gateway.telemetry.traffic import Traffic, sample


@dataclass
class Worker:
    """One side is the master's, the other one stands for the process."""

    number: int
    planes: WorkerPlanes
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = True
    leaving: bool = False
    silent: bool = False
    channel: Channel | None = None
    other: Channel | None = None
    hangs: bool = False
    fails: bool = False
    config: Any = None

    @property
    def id(self) -> str:
        return f"{self.number}.0"

    @property
    def pid(self) -> int:
        return 1000 + self.number

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        self.reporter, self.traffic = Reporter(self.metrics.instruments), Traffic(self.metrics)
        self.channel = await Channel.open(ours, self.planes.handlers(self), self._gone)
        self.shown: dict[str, Callable[[Any], Any]] = {
            "state": lambda body: {"ready": True, "store": True, "revision": 3, "since": 1.0},
            "metrics": lambda body: list(self.reporter.everything()),
            "counters": lambda body: list(self.reporter.changed()),
            "traffic": lambda first: self.traffic.counts(),
            "recent": lambda most: [f"{most:08}"],
        }
        handlers: dict[str, Handler] = {
            "show": self._answering(lambda asked: self.shown[asked[0]](asked[1])),
            "config": self._answering(self._take),
        }
        self.other = await Channel.open(theirs, handlers)

    def _answering(self, call: Callable[[Any], Any]) -> Handler:
        async def answer(body: Any) -> Any:
            if self.hangs:
                await asyncio.Event().wait()
            return call(body)

        return answer

    def _take(self, config: Any) -> None:
        if self.fails:
            raise AskFailed("no process to parse it")
        self.config = config

    def _gone(self) -> None:
        self.ready = False
        self.planes.gone(self)

    async def count(self, number: int, status: int = 200) -> None:
        for _ in range(number):
            self.metrics.observe("list", status, "acme", 0.01)

    async def end(self) -> None:
        for channel in (self.other, self.channel):
            if channel is not None:
                await channel.close()


@asynccontextmanager
async def master(number: int = 2) -> AsyncIterator[tuple[WorkerPlanes, list[Worker]]]:
    workers: list[Worker] = []
    there = lambda: [one for one in workers if one.channel and not one.channel.ended]  # noqa: E731
    planes = WorkerPlanes(there, Metrics())
    workers += [Worker(index, planes) for index in range(number)]
    for worker in workers:
        await worker.start()
    try:
        yield planes, workers
    finally:
        for worker in workers:
            await worker.end()


async def counted(planes: WorkerPlanes, name: str = "gateway_request_seconds_count") -> float:
    lines = "".join(await planes.metrics()).splitlines()
    assert lines[-1] == "# EOF"
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


async def test_the_metrics_are_those_of_all_and_none_is_counted_twice() -> None:
    async with master() as (planes, workers):
        for worker in workers:
            await worker.count(5)
        assert await counted(planes) == 10
        await planes.look()
        assert await counted(planes) == 10
        assert await counted(planes, "gateway_tenant_requests_total") == 10


async def test_of_one_that_dies_what_it_was_seen_to_count_stays() -> None:
    async with master() as (planes, (one, other)):
        await one.count(5)
        await planes.look()
        await one.count(2)  # nobody looks any more
        assert one.other is not None
        await one.other.close()
        await other.count(1)
        assert await counted(planes) == 6


async def test_one_that_leaves_tells_its_last_counts() -> None:
    async with master() as (planes, (one, _)):
        await one.count(5)
        list(one.reporter.changed())  # an answer that was lost
        assert one.other is not None
        one.other.tell("counted", list(one.reporter.everything()))
        await one.other.close()
        assert await counted(planes) == 5


async def test_an_answer_that_is_older_than_the_last_word_of_one_that_leaves_undoes_nothing() -> None:
    async with master() as (planes, (one, _)):
        await one.count(2)
        old = list(one.reporter.everything())
        await one.count(3)
        assert one.other is not None

        def answer(body: Any) -> list[str]:
            assert one.other is not None
            one.other.tell("counted", list(one.reporter.everything()))
            return old

        one.shown |= {"metrics": answer, "counters": answer}
        await planes.look()
        assert await counted(planes) == 5


async def test_of_one_that_hangs_the_rest_is_shown_and_what_it_said_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with master() as (planes, (one, other)):
        await one.count(5)
        await planes.look()
        one.hangs = True
        await other.count(1)
        with caplog.at_level(logging.WARNING):
            assert len(await planes.ask("state", wait=1.0)) == 1
        assert "worker 0 (pid 1000), asked for its state: no answer" in caplog.text
        states = {one["worker"]: one["state"] for one in await planes.workers(wait=1.0)}
        assert states == {0: "silent", 1: "ready"}
        one.hangs = False
        list(one.reporter.changed())  # as if the answer came too late
        assert await counted(planes) == 6


async def test_any_one_that_answers_will_do_where_one_is_asked() -> None:
    async with master() as (planes, (one, other)):
        assert one.other is not None and other.other is not None
        await one.other.close()
        assert (await planes.ask_one("state"))["revision"] == 3
        await other.other.close()
        with pytest.raises(StoreUnavailable):
            await planes.ask_one("state")


async def test_who_was_too_busy_for_a_config_is_given_it_again(caplog: pytest.LogCaptureFixture) -> None:
    async with master() as (planes, (one, other)):
        other.fails = True
        assert await planes.spread("config", 4) == ["worker 1 (pid 1001)"]
        await planes.look()
        other.fails = False
        with caplog.at_level(logging.INFO):
            await planes.look()
        assert one.config == other.config == 4
        assert "worker 1 (pid 1001) has the config now" in caplog.text
        other.config = None
        await planes.look()
        assert other.config is None, "once is enough"


async def test_workers_that_die_are_counted_and_those_that_serve() -> None:
    async with master() as (planes, (one, other)):
        one.leaving = True
        for worker in (one, other):
            assert worker.other is not None
            await worker.other.close()
        lines = "".join(await planes.metrics()).splitlines()
        assert "gateway_workers 0" in lines and "gateway_workers_died_total 1" in lines


async def test_the_last_requests_are_as_many_as_of_one_process() -> None:
    async with master() as (planes, _):
        assert len(await planes.recent()) == 2
        assert await planes.ask("recent", 7) == [["00000007"], ["00000007"]]
        assert KEPT // 2 * 2 == KEPT


async def test_the_traffic_of_all_is_one() -> None:
    async with master() as (planes, (one, other)):
        await one.count(3)
        await other.count(1, 503)
        seen = sample(await planes.ask("traffic", False))
        assert seen["total"]["requests"] == 4 and seen["total"]["errors"] == 1
        assert seen["routes"]["list"]["requests"] == 4
        assert sample(await planes.ask("traffic", False))["routes"] == {}


async def test_a_config_is_there_when_all_have_it_and_who_has_it_not_is_named() -> None:
    async with master(3) as (planes, (one, other, starting)):
        starting.ready = False
        assert await planes.spread("config", {"revision": 4}, wait=5.0) == []
        assert one.config == other.config == starting.config == {"revision": 4}
        other.hangs = True
        assert await planes.spread("config", {"revision": 5}, wait=0.05) == ["worker 1 (pid 1001)"]
        assert other.other is not None
        ends = asyncio.create_task(planes.spread("config", {"revision": 6}, wait=5.0))
        await asyncio.sleep(0)
        await other.other.close()
        assert await ends == [], "one that ended begins anew with the new one"


async def test_nobody_waits_for_one_that_is_known_to_be_silent() -> None:
    async with master() as (planes, (one, other)):
        one.hangs = one.silent = True
        async with asyncio.timeout(30):
            assert len(await planes.ask("state", wait=1e6)) == 1
            states = {each["worker"]: each["state"] for each in await planes.workers(wait=1e6)}
            assert states == {0: "silent", 1: "ready"}
            await other.count(1)
            await planes.look()
        other.silent = True
        assert await planes.ask("state") == []
