"""Circuits that are one on a host: the master decides, each worker tells what it sees and follows.

A failure that one worker sees counts for all. A trial is one worker's, which has a lock for it that ends
with the process. Probes are sent by one worker, the leader.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.core.model import Address, Backend
from gateway.core.openmetrics import Instrument
from gateway.core.policy.circuit import Circuit, Failure
from gateway.health.circuits import Health

_ANOTHER_HAS_IT = 0.05  # seconds until it is asked for again, unless the master says something before
_FLOCK = struct.Struct("hh4xqqi4x")  # struct flock of Linux, 64 bits
Event = list[Any]


class HostCircuits:
    """The master's side. health: decides; its on_change has to be `changed`. tell(member, facts, leader): to
    one worker."""

    def __init__(self, health: Health, tell: Callable[[str, Mapping[str, Any], bool], None]) -> None:
        self._health = health
        self._tell = tell
        self._members: list[str] = []

    def join(self, member: str) -> None:
        """A worker serves: it is told all."""
        self._members.append(member)
        self._tell(member, self._health.facts(), member == self._members[0])

    def gone(self, member: str) -> None:
        """A worker has ended."""
        was_leader = self._members[:1] == [member]
        if member in self._members:
            self._members.remove(member)
        self._health.leave_trials(member)
        if was_leader and self._members:
            self._tell(self._members[0], {}, True)

    def changed(self, backend: str) -> None:
        """The circuit of an address of this backend has another state."""
        facts = self._health.facts_of(backend)
        for number, member in enumerate(self._members):
            self._tell(member, facts, number == 0)

    def heard(self, member: str, event: Event) -> None:
        """What a worker has seen: [backend, address, what, more]."""
        backend, text, what, *more = event
        before = _noted(self._health.fact_of(backend, text))
        self._apply(Address(text), member, what, more)
        facts = self._health.fact_of(backend, text)
        if facts is None:
            return
        members = self._members if _noted(facts) != before else [member]
        for one in members:
            if one in self._members:
                self._tell(one, {text: facts}, one == self._members[0])

    def _apply(self, address: Address, member: str, what: str, more: list[Any]) -> None:
        health = self._health
        if what == "failed":
            health.failed(address, *more)
        elif what == "responded":
            health.responded(address, 200)
        elif what == "probed":
            health.probe_succeeded(address)
        elif what == "left":
            health.end_trial(address, member)
        elif what == "trial":
            health.enter(address, member)  # where it cannot be, the worker is told how things are


def _noted(facts: Any) -> tuple[Any, bool] | None:
    """What all workers have to know at once: the state, and whether a success clears something."""
    return (facts[0], bool(facts[2])) if facts is not None else None


class Trials:
    """Locks, one for each address, that one process of the host can have; all of them end with the
    process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, address: str) -> bool:
        """Whether this process has it now."""
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, self._lock(fcntl.F_WRLCK, address))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def leave(self, address: str) -> None:
        """Another process may have it."""
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, self._lock(fcntl.F_UNLCK, address))

    def close(self) -> None:
        """Leave all."""
        os.close(self._file)

    @staticmethod
    def _lock(kind: int, address: str) -> bytes:
        return _FLOCK.pack(kind, os.SEEK_SET, zlib.crc32(address.encode()), 1, 0)


class FollowedHealth(Health):
    """A worker's side, see Health. tell(event): to the master."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        trials: Trials,
        on_change: Callable[[str], None] = lambda backend: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(on_change, now)
        self._tell = tell
        self._locks = trials
        self._holders: dict[str, object] = {}  # of the trials that this process has, by address
        self._leads = False

    def told(self, facts: Mapping[str, Any], leads: bool) -> None:
        """What the master says of some circuits, and whether this worker sends the probes."""
        self._leads = leads
        for text, one in facts.items():
            circuit = self._circuits.get(text)
            if circuit is None:
                continue
            before = circuit.state
            circuit.told(*one)
            if circuit.state == "closed":
                self._broken.pop(text, None)
            else:
                self._broken[text] = circuit
            if circuit.state != "half-open" and text in self._holders:
                del self._holders[text]
                self._locks.leave(text)
            if circuit.state != before:
                self._on_change(self._owners[text])

    # --- for each request ---

    def enter(self, address: Address, holder: object) -> bool:
        """See Health."""
        circuit = self._broken.get(address.text)
        return circuit is None or (circuit.fit(self._now()) and self._try(address, circuit, holder))

    def _succeeded(self, address: Address, circuit: Circuit) -> None:
        """See Health."""
        self._say(address, "responded")

    def failed(self, address: Address, kind: Failure, detail: str = "") -> None:
        """See Health."""
        self._say(address, "failed", kind, detail)

    def end_trial(self, address: Address, holder: object) -> None:
        """See Health."""
        if self._holders.get(address.text, self) is holder:
            self._say(address, "left")

    def _try(self, address: Address, circuit: Circuit, holder: object) -> bool:
        """Take the trial, if it is due and nobody has it."""
        now = self._now()
        if not self._locks.take(address.text):
            circuit.put_off(now + _ANOTHER_HAS_IT)
            return False
        if not circuit.begin_trial(holder, now):
            self._locks.leave(address.text)
            return False
        self._holders[address.text] = holder
        self._say(address, "trial")
        return True

    def _say(self, address: Address, what: str, *more: str) -> None:
        backend = self._owners.get(address.text)
        if backend is not None:
            self._tell([backend, address.text, what, *more])

    # --- probes ---

    def due_probes(self) -> Iterator[tuple[Backend, Address, Circuit]]:
        """See Health: the leader's only."""
        return super().due_probes() if self._leads else iter(())

    def begin_probe(self, address: Address, holder: object) -> None:
        """See Health."""
        circuit = self._circuits[address.text]
        circuit.probed(self._now())
        if circuit.state == "open":
            self._try(address, circuit, holder)

    def probe_succeeded(self, address: Address) -> None:
        """See Health."""
        self._say(address, "probed")

    def retry_now(self, backend: str) -> None:
        """See Health: the master does, and tells."""

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """See Health."""
        super().reconcile(backends)
        for text in self._holders.keys() - self._owners.keys():
            del self._holders[text]
            self._locks.leave(text)

    def instruments(self) -> tuple[Instrument, ...]:
        """None: the master shows its own."""
        return ()
