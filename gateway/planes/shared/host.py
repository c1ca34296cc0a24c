"""What a process has of seats and circuits that it shares: leases and states, by way of the master of its
host or by Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.admission.leases import Leases
from gateway.admission.shared import SharedAdmission
from gateway.core.errors import GatewayError
from gateway.core.model import Address, Backend
from gateway.health.host import FollowedHealth, Trials
from gateway.planes.ground import Ground
from gateway.runtime.channel import Channel, Handler
from gateway.runtime.processes.in_use import InUse
from gateway.runtime.scheduling import workers
from gateway.shared.exchange import Exchange

_TRIALS = "trials.lock"  # in the data folder
BEAT = 0.5  # seconds; how soon an idle process hears that others need its seats, where no master calls it
SEATS, CIRCUITS, CIRCUIT = "seats", "circuits", "circuit"  # messages: two from the master, one to it


class _SeatRooms:
    """Makes the admission of a process that leases seats. by_redis: from all hosts' together. beat: see
    Leases."""

    def __init__(
        self, ground: Ground, exchange: Exchange, table: InUse, workers: int, *, by_redis: bool
    ) -> None:
        beat = BEAT if by_redis else None
        self._by_redis = by_redis
        self._leases = Leases(exchange.wait, exchange.kick, table, workers, ground.now, beat)
        exchange.add(self._leases)

    def admission(
        self,
        *,
        share: float,
        usable: Callable[[Address], bool],
        age: Callable[[Address], float],
        unavailable: Callable[[Backend], GatewayError],
    ) -> SharedAdmission:
        """Seats that are leased: all that there are, where other hosts share them; share counts there while
        Redis was never reached."""
        share = 1.0 if self._by_redis else share
        return SharedAdmission(self._leases, share=share, usable=usable, age=age, unavailable=unavailable)


class NodeRooms(_SeatRooms):
    """Makes the admission of a single process that shares seats with other hosts by Redis."""

    def __init__(self, ground: Ground, exchange: Exchange) -> None:
        self._table = InUse.create()
        super().__init__(ground, exchange, self._table, 1, by_redis=True)

    def leave(self) -> None:
        """The process ends; one more exchange follows."""
        self._leases.leave()

    def close(self) -> None:
        """After it."""
        self._table.close()


class HostRooms(_SeatRooms):
    """Makes the rooms of a data plane that are one on a host. table: where is written what is in use."""

    def __init__(self, ground: Ground, exchange: Exchange, channel: Channel, table: InUse) -> None:
        table.own()
        config = ground.config
        super().__init__(ground, exchange, table, workers(config.workers), by_redis=bool(config.shared.uri))
        self._channel = channel
        self._trials = Trials(ground.data / _TRIALS)
        self._health: FollowedHealth | None = None

    def health(self, on_change: Callable[[str], None], now: Callable[[], float]) -> FollowedHealth:
        """The circuits, as the master says."""
        tell = self._channel.tell
        self._health = FollowedHealth(lambda event: tell(CIRCUIT, event), self._trials, on_change, now)
        return self._health

    def handlers(self) -> Mapping[str, Handler]:
        """What the master tells."""
        return {SEATS: self._leases.called, CIRCUITS: self._told}

    def close(self) -> None:
        """The process ends."""
        self._trials.close()

    def _told(self, body: list[Any]) -> None:
        facts, leads = body
        if self._health is not None:
            self._health.told(facts, leads)
