"""Circuits that are one on a host: what one sees counts for all, one trial at a time, probes by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Address, Backend
from gateway.core.policy.circuit import HealthRule
from gateway.health.circuits import Health
from gateway.health.host import FollowedHealth, HostCircuits, Trials

A = Address("a")


class Host:
    """A master and its workers, whose messages wait until `deliver`."""

    def __init__(self, folder: Path, *, health: HealthRule | None = None) -> None:
        self.now, self.folder = 100.0, folder
        self.backends = {"b": Backend("b", "http", (A, Address("c")), health=health or HealthRule())}
        self.master = Health(lambda backend: self.circuits.changed(backend), lambda: self.now, lambda: 0.0)
        self.circuits = HostCircuits(self.master, self._tell)
        self.master.reconcile(self.backends)
        self.workers: dict[str, FollowedHealth] = {}
        self.locks: dict[str, Trials] = {}
        self.woken: list[str] = []
        self.waiting: deque[Any] = deque()

    def _tell(self, member: str, facts: Mapping[str, Any], leads: bool) -> None:
        self.waiting.append(lambda: self.workers[member].told(dict(facts), leads))

    def worker(self, name: str) -> FollowedHealth:
        def tell(event: list[Any]) -> None:
            self.waiting.append(lambda: self.circuits.heard(name, event))

        trials = self.locks[name] = Trials(self.folder / "trials.lock")
        worker = FollowedHealth(tell, trials, lambda backend: self.woken.append(name), lambda: self.now)
        self.workers[name] = worker
        worker.reconcile(self.backends)
        self.circuits.join(name)
        self.deliver()
        return worker

    def deliver(self) -> None:
        while self.waiting:
            self.waiting.popleft()()

    def kill(self, name: str) -> None:
        self.locks.pop(name).close()
        del self.workers[name]
        self.circuits.gone(name)
        self.deliver()

    def close(self) -> None:
        for trials in self.locks.values():
            trials.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, health=HealthRule(path="/healthz", interval=1.0, rise=1, fall=1))
    yield made
    made.close()


def break_it(host: Host, *workers: FollowedHealth) -> None:
    for worker in workers:
        worker.failed(A, "connect")
    host.deliver()


def test_failures_that_several_see_open_the_circuit_for_all(host: Host) -> None:
    one, other, third = host.worker("one"), host.worker("other"), host.worker("third")
    break_it(host, one, other)
    assert third.usable(A)
    break_it(host, one)
    assert not any(worker.usable(A) for worker in (one, other, third))
    assert one.usable(Address("c"))
    assert set(host.woken) == {"one", "other", "third"}


def test_a_success_that_one_sees_clears_what_another_saw(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one)
    other.responded(A, 200)
    host.deliver()
    break_it(host, one, one)
    assert one.usable(A)


def test_one_trial_at_a_time_whatever_the_messages_do(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one, one)
    host.now += 1.0
    assert one.usable(A)
    assert one.enter(A, "trial")
    assert other.usable(A)  # it has not heard of it
    assert not other.enter(A, "second")
    assert not other.usable(A)  # and does not ask again and again
    host.deliver()
    assert not other.usable(A)
    one.responded(A, 200)
    assert not other.enter(A, "second")
    host.deliver()
    assert one.is_closed(A)
    assert other.is_closed(A)


def test_a_trial_that_failed_is_not_repeated_by_another_before_its_time(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one, one)
    host.now += 1.0
    assert one.enter(A, "trial")
    host.deliver()
    one.failed(A, "connect")
    assert not other.enter(A, "second")
    host.deliver()
    assert not other.usable(A)
    host.now += 1.0
    assert other.enter(A, "second")


def test_the_trial_of_a_killed_worker_is_anothers(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one, one)
    host.now += 1.0
    assert one.enter(A, "trial")
    host.deliver()
    host.kill("one")
    host.now += 1.0
    assert other.enter(A, "second")
    host.deliver()
    other.responded(A, 200)
    host.deliver()
    assert other.is_closed(A)


def test_a_trial_that_ends_without_a_verdict_is_anothers(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one, one)
    host.now += 1.0
    assert one.enter(A, "trial")
    one.end_trial(A, "trial")
    host.deliver()
    host.now += 1.0
    assert other.enter(A, "second")


def test_a_new_worker_knows_what_the_others_know(host: Host) -> None:
    one = host.worker("one")
    break_it(host, one, one, one)
    assert not host.worker("other").usable(A)


def test_one_worker_sends_the_probes_and_another_when_that_is_gone(probed: Host) -> None:
    one, other = probed.worker("one"), probed.worker("other")
    probed.now += 10.0
    assert len(list(one.due_probes())) == 2
    assert not list(other.due_probes())
    one.begin_probe(A, "probe")
    one.failed(A, "probe")
    probed.deliver()
    assert not other.usable(A)
    probed.kill("one")
    probed.now += 10.0
    assert {address.text for _, address, _ in other.due_probes()} == {"a", "c"}
    other.begin_probe(A, "probe")
    other.probe_succeeded(A)
    probed.deliver()
    assert other.is_closed(A)


def test_what_the_master_believes_to_be_back_is_tried_by_all(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one, one)
    assert not other.usable(A)
    host.master.retry_now("b")
    host.circuits.changed("b")
    host.deliver()
    assert other.usable(A)


def test_an_address_that_is_gone_from_the_config_leaves_its_trial(host: Host) -> None:
    one, other = host.worker("one"), host.worker("other")
    break_it(host, one, one, one)
    host.now += 1.0
    assert one.enter(A, "trial")
    host.deliver()
    one.reconcile({})
    assert host.locks["other"].take("a")
    assert other.states()


def test_a_reload_makes_no_second_prober(probed: Host) -> None:
    one, other = probed.worker("one"), probed.worker("other")
    for worker in (one, other):
        worker.reconcile(probed.backends)
    probed.master.reconcile(probed.backends)
    probed.now += 10.0
    assert len(list(one.due_probes())) == 2
    assert not list(other.due_probes())
