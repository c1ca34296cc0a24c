"""Names that stand for several servers: the master resolves them, and all workers mean the same addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Address, Backend
from gateway.core.routing.backends.each import each_address
from gateway.edge.backend.resolver import Names
from gateway.health.circuits import Health
from gateway.health.host import FollowedHealth, HostCircuits, Trials
from gateway.planes.shared.names import Found, HostNames
from tests.eventually import eventually

NAME = Backend("b", "http", (Address("http://b:80", "b", 80),), resolve_each=True)
ONE, TWO, THREE = (Address(f"http://b:80 (10.0.0.{n})") for n in (1, 2, 3))


class Host:
    """A master and two workers. results: what the name server says."""

    def __init__(self, folder: Path) -> None:
        self.now, self.results = 100.0, ["10.0.0.1", "10.0.0.2"]
        self.lookups = 0
        self.told: list[Found] = []
        self.master = Health(lambda backend: self.circuits.changed(backend), lambda: self.now)
        self.circuits = HostCircuits(self.master, self._tell)
        self.names = HostNames(self.master.reconcile, self._spread, Names(self._lookup, lambda: self.now))
        self.trials = Trials(folder / "trials.lock")
        self.workers: dict[str, FollowedHealth] = {}
        for member in ("1", "2"):
            self.workers[member] = FollowedHealth(self._heard(member), self.trials, now=lambda: self.now)

    def _lookup(self, host: str) -> tuple[str, ...]:
        self.lookups += 1
        if not self.results:
            raise OSError("the name server is away")
        return tuple(self.results)

    def _heard(self, member: str) -> Any:
        return lambda event: self.circuits.heard(member, event)

    def _tell(self, member: str, facts: Mapping[str, Any], leads: bool) -> None:
        self.workers[member].told(dict(facts), leads)

    def _spread(self, found: Found) -> None:
        self.told.append(found)
        for worker in self.workers.values():
            worker.reconcile({"b": each_address(NAME, lambda host: tuple(found[host]))})

    async def asked(self) -> None:
        """The name server is asked once more, which implies that its last answer counts."""
        before = self.lookups

        def asked() -> bool:
            self.now += 11.0
            self.names.refresh()
            return self.lookups > before

        await eventually(asked)

    def addresses(self) -> list[set[str]]:
        """Of the master and both workers."""
        of = (self.master, *self.workers.values())
        return [{one["address"] for one in health.states()[0]["addresses"]} for health in of]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    made.names.reconcile({"b": NAME})
    await eventually(lambda: made.told)
    for member in made.workers:
        made.circuits.join(member)
    yield made
    made.trials.close()


def broken(host: Host, address: Address) -> None:
    for _ in range(3):
        host.workers["1"].failed(address, "connect")


async def test_each_address_has_a_circuit_that_the_master_and_all_workers_know(host: Host) -> None:
    assert host.addresses() == [{ONE.text, TWO.text}] * 3
    broken(host, ONE)
    healths = (host.master, *host.workers.values())
    assert [health.usable(ONE) for health in healths] == [False] * 3
    assert [health.usable(TWO) for health in healths] == [True] * 3


async def test_a_config_that_is_applied_again_loses_no_circuit(host: Host) -> None:
    broken(host, ONE)
    host.names.reconcile({"b": NAME, "c": Backend("c", "http", (Address("http://c:80", "10.1.1.1", 80),))})
    host._spread(host.names.found())
    assert host.addresses() == [{ONE.text, TWO.text}] * 3
    assert not host.master.usable(ONE)
    assert not host.workers["2"].usable(ONE)


async def test_an_address_that_comes_or_goes_does_so_for_all_and_the_others_keep_their_state(
    host: Host,
) -> None:
    broken(host, TWO)
    host.results = ["10.0.0.2", "10.0.0.3"]
    await host.asked()
    await eventually(lambda: host.addresses() == [{ONE.text, TWO.text, THREE.text}] * 3, host.addresses)
    await host.asked()  # what two results lack is gone
    await eventually(lambda: host.addresses() == [{TWO.text, THREE.text}] * 3, host.addresses)
    assert not host.master.is_closed(TWO)
    assert not host.workers["2"].is_closed(TWO)


async def test_a_name_server_that_is_away_or_turns_its_answers_changes_nothing(host: Host) -> None:
    broken(host, TWO)
    told = len(host.told)
    host.results = []
    await host.asked()
    host.results = ["10.0.0.2", "10.0.0.1"]
    await host.asked()
    host.results = ["10.0.0.3", "10.0.0.2", "10.0.0.1"]
    await host.asked()
    await eventually(lambda: host.addresses() == [{ONE.text, TWO.text, THREE.text}] * 3, host.addresses)
    assert len(host.told) == told + 1
    assert not host.master.is_closed(TWO)
    assert not host.workers["2"].is_closed(TWO)


async def test_a_name_is_forgotten_with_its_backend(host: Host) -> None:
    host.names.reconcile({})
    assert host.names.found() == {}
    assert host.master.states() == []
