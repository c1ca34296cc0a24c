"""The health of each address, live: a circuit for each, by the address, so that a reload resets nothing."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from gateway.core.errors import BackendUnavailable
from gateway.core.model import Address, Backend
from gateway.core.openmetrics import Counter, Gauge, Instrument
from gateway.core.policy.circuit import Circuit, Failure
from gateway.core.policy.limits import with_jitter

L = logging.getLogger(__name__)


class Health:
    """The circuits of all addresses. on_change(backend's name): which of its addresses are usable has
    changed.

    What costs time is done for circuits that are not closed only: while all are, it costs nothing.
    """

    def __init__(
        self,
        on_change: Callable[[str], None] = lambda backend: None,
        now: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._on_change = on_change
        self._now = now
        self._chance = chance
        self._backends: Mapping[str, Backend] = {}
        self._owners: dict[str, str] = {}  # address -> its backend's name
        self._circuits: dict[str, Circuit] = {}
        self._broken: dict[str, Circuit] = {}  # those that are not closed
        self._transitions = Counter(
            "gateway_circuit_transitions", "Changes of an address's circuit.", ("backend", "state")
        )

    # --- for each request ---

    def is_closed(self, address: Address) -> bool:
        """Whether the address is healthy, as far as is known."""
        return address.text not in self._broken

    def usable(self, address: Address) -> bool:
        """Whether a request may go there: it is healthy, or the time for a trial has come."""
        circuit = self._broken.get(address.text)
        return circuit is None or circuit.fit(self._now())

    def age(self, address: Address) -> float:
        """For how many seconds it has been healthy, or known."""
        circuit = self._circuits.get(address.text)
        if circuit is None:
            return math.inf  # gone from the config
        return self._now() - circuit.since if circuit.state == "closed" else 0.0

    def require(self, backend: Backend) -> None:
        """Raises BackendUnavailable when no address of the backend is usable."""
        if self._broken and not any(self.usable(address) for address in self._addresses(backend)):
            raise self.unavailable(backend)

    def enter(self, address: Address, holder: object) -> bool:
        """A holder of a seat there is about to use it. False: the address is not healthy, and the trial is
        not to be had. When it ends without `responded` or `failed`, `end_trial` has to be called."""
        circuit = self._broken.get(address.text)
        if circuit is None:
            return True
        now = self._now()
        return circuit.fit(now) and self._changed(address, circuit.begin_trial(holder, now))

    def responded(self, address: Address, status: int) -> None:
        """A response has begun."""
        circuit = self._circuits.get(address.text)
        if circuit is None:
            return  # gone from the config
        if status >= 500 and circuit.rule.server_errors:
            self.failed(address, "status", f"status {status}")
            return
        if not circuit.heard:
            circuit.heard_from()
        if circuit.failures:
            self._succeeded(address, circuit)

    def _succeeded(self, address: Address, circuit: Circuit) -> None:
        """A response after failures."""
        self._changed(address, circuit.succeeded(self._now()))

    def failed(self, address: Address, kind: Failure, detail: str = "") -> None:
        """A request or a probe failed by the address's doing."""
        circuit = self._circuits.get(address.text)
        if circuit is not None:
            self._changed(address, circuit.failed(kind, self._now(), self._chance(), detail))

    def end_trial(self, address: Address, holder: object) -> None:
        """The holder goes, whatever became of its request: when it had the trial, that is free again."""
        circuit = self._broken.get(address.text)
        if circuit is not None:
            self._changed(address, circuit.left(holder, self._now(), self._chance()))

    def unavailable(self, backend: Backend) -> BackendUnavailable:
        """The error for a client: it may come back when the next trial is due."""
        now = self._now()
        circuits = [self._broken[a.text] for a in self._addresses(backend) if a.text in self._broken]
        wait = min((circuit.retry_at - now for circuit in circuits), default=0.0)
        retry_after = with_jitter(max(0.0, wait), self._chance())
        return BackendUnavailable("No address of the backend is healthy.", retry_after=retry_after)

    def _addresses(self, backend: Backend) -> tuple[Address, ...]:
        """As they are now: a call's snapshot has names, which may stand for several."""
        return self._backends.get(backend.name, backend).addresses

    # --- probes ---

    def due_probes(self) -> Iterator[tuple[Backend, Address, Circuit]]:
        """Where a probe should go now."""
        now = self._now()
        for backend in self._backends.values():
            for address in backend.addresses if backend.health.path else ():
                circuit = self._circuits[address.text]
                if circuit.probe_due(now):
                    yield backend, address, circuit

    def begin_probe(self, address: Address, holder: object) -> None:
        """A probe leaves; it has the trial, if one is due."""
        circuit, now = self._circuits[address.text], self._now()
        circuit.probed(now)
        self._changed(address, circuit.begin_trial(holder, now))

    def probe_succeeded(self, address: Address) -> None:
        """A probe had the status that it is to have."""
        circuit = self._circuits.get(address.text)
        if circuit is not None:
            self._changed(address, circuit.probe_succeeded(self._now(), self._chance()))

    def retry_now(self, backend: str) -> None:
        """There is reason to believe that it is back: the next trials are due now."""
        for text, circuit in self._broken.items():
            if self._owners[text] == backend:
                circuit.retry_now(self._now())

    # --- of several processes, see health/host.py ---

    def facts(self) -> dict[str, Any]:
        """Circuit.facts of all circuits that are not closed, by address."""
        return {text: circuit.facts() for text, circuit in self._broken.items()}

    def fact_of(self, backend: str, text: str) -> Any:
        """Circuit.facts of one address of a backend, None where it is not one of its."""
        return self._circuits[text].facts() if self._owners.get(text) == backend else None

    def facts_of(self, backend: str) -> dict[str, Any]:
        """Circuit.facts of the addresses of a backend."""
        texts = [text for text, name in self._owners.items() if name == backend]
        return {text: self._circuits[text].facts() for text in texts}

    def leave_trials(self, holder: object) -> None:
        """The holder is gone: trials that it had are another's."""
        for text in list(self._broken):
            self.end_trial(Address(text), holder)

    # --- the config, and what is shown ---

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """Follow a new snapshot: addresses that are there keep their state, those that are gone lose it."""
        now = self._now()
        self._backends = backends
        self._owners = {a.text: name for name, backend in backends.items() for a in backend.addresses}
        for text, name in self._owners.items():
            rule = backends[name].health
            circuit = self._circuits.get(text)
            if circuit is None:
                self._circuits[text] = Circuit(rule, now, self._chance())
            else:
                circuit.follow(rule)
        for text in self._circuits.keys() - self._owners.keys():
            del self._circuits[text]
            self._broken.pop(text, None)

    def states(self) -> list[dict[str, Any]]:
        """Each backend with its addresses: state, since (seconds since the epoch), failures in a row, the
        last error ("" for none), and next_trial: in so many seconds, None when none is to come."""
        return list(self.each_state())

    def each_state(self) -> Iterator[dict[str, Any]]:
        """The same one by one; the config may change between two of them."""
        for name, backend in list(self._backends.items()):
            there = [address for address in backend.addresses if address.text in self._circuits]
            yield {
                "name": name,
                "healthy": any(self.is_closed(address) for address in there),
                "addresses": [self._state(address) for address in there],
            }

    def _state(self, address: Address) -> dict[str, Any]:
        circuit, now = self._circuits[address.text], self._now()
        waits = circuit.state == "open"
        return {
            "address": address.text,
            "state": circuit.state,
            "since": round(time.time() - (now - circuit.since), 3),
            "failures": circuit.failures,
            "last_error": circuit.last_error,
            "next_trial": round(max(0.0, circuit.retry_at - now), 3) if waits else None,
        }

    def instruments(self) -> tuple[Instrument, ...]:
        """What the metrics show of it."""

        def healthy() -> dict[tuple[str, ...], float]:
            return {(name, text): int(text not in self._broken) for text, name in self._owners.items()}

        text = "1 while requests go to the address, 0 while its circuit is open."
        names = ("backend", "address")
        return Gauge("gateway_backend_healthy", text, healthy, names, merge="min"), self._transitions

    def _changed(self, address: Address, changed: bool) -> bool:
        """Report that a circuit changed, if it did: in the metrics, the log, and to `on_change`."""
        if not changed:
            return False
        circuit, backend = self._circuits[address.text], self._owners[address.text]
        was_broken = address.text in self._broken
        if circuit.state == "closed":
            del self._broken[address.text]
        else:
            self._broken[address.text] = circuit
        self._transitions.add(backend, circuit.state)
        is_news = was_broken is (circuit.state == "closed")
        L.log(
            logging.WARNING if is_news else logging.DEBUG,
            "The circuit of %s (backend %s) is %s%s",
            *(address.text, backend, circuit.state, self._why(circuit)),
        )
        self._on_change(backend)
        return True

    def _why(self, circuit: Circuit) -> str:
        if circuit.state != "open":
            return ""
        said = f"after {circuit.failures} failures in a row, the last: {circuit.last_error}"
        return f" {said}; next trial in {max(0.0, circuit.retry_at - self._now()):.2f} s"
