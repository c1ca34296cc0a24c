"""What a process shares with others, and by what: the books in the master of this host, or in Redis."""

from __future__ import annotations

import hashlib
import importlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gateway.admission.admission import Admission
from gateway.auth.oauth.once import Once
from gateway.core.http.hops import pseudonym
from gateway.core.openmetrics import Instrument
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem
from gateway.edge.backend.origin import Alone
from gateway.edge.backend.origin import Flights as AuthFlights
from gateway.limits.leases import SharedRates
from gateway.limits.quotas import Quotas
from gateway.limits.rates import Limits
from gateway.limits.shared_quotas import SharedQuotas
from gateway.limits.shared_rates import SharedLimits
from gateway.planes.ground import Ground
from gateway.planes.shared.host import HostRooms, NodeRooms
from gateway.planes.steps import ENDING, Step
from gateway.runtime.channel import Channel
from gateway.runtime.processes.in_use import InUse
from gateway.runtime.scheduling import workers
from gateway.setting_errors import SettingUnusable
from gateway.shared.exchange import Exchange
from gateway.shared.flights import SharedFlights
from gateway.shared.master import MasterEngine
from gateway.shared.once import MasterOnce

if TYPE_CHECKING:
    from gateway.shared.redis.engine import RedisEngine

QUOTAS = "quotas.sqlite"


class Sharing:
    """What a data plane shares. start() once, before clients come; steps() at the end, when none is left.

    channel: to the master of this host, where there is one; table: what this process has in use, for the
    master. exchange: None where nothing is shared; others add their parts before the start. limits, quotas:
    by the exchange, or of this process alone. once: None where what may be used once is kept by whoever made
    it. host: makes what is one on a host, where there is a master. admission: makes the seats.
    """

    limits: Limits | SharedLimits
    quotas: Quotas | SharedQuotas

    def __init__(self, ground: Ground, channel: Channel | None = None, table: InUse | None = None) -> None:
        self.redis: RedisEngine | None = None
        self.once: Once | None = None
        self.flights: AuthFlights = Alone()
        self.exchange: Exchange | None = None
        self.host: HostRooms | None = None
        self._node: NodeRooms | None = None
        self.admission: Callable[..., Admission] = Admission
        if channel is not None and table is not None:
            self.exchange = Exchange(MasterEngine(channel), ground.now)
            self.host = HostRooms(ground, self.exchange, channel, table)
            self.admission = self.host.admission
            self.once, self.flights = MasterOnce(channel), SharedFlights(channel)
        elif ground.config.shared.uri:
            self.once = self.redis = redis_engine(ground)
            self.exchange = Exchange(self.redis, ground.now)
            self._node = NodeRooms(ground, self.exchange)
            self.admission = self._node.admission
        if self.exchange is None:
            self.quotas = Quotas(ground.data / QUOTAS, ground.wall)
            self.limits = Limits(self.quotas, ground.now)
            return
        rates = SharedRates(self.exchange.kick, workers(ground.config.workers) if channel is not None else 1)
        self.quotas = counted = SharedQuotas(ground.wall)
        self.limits = SharedLimits(self.exchange, rates, self.quotas, ground.now)
        self.exchange.add(rates)
        self.exchange.add(counted)

    async def start(self) -> None:
        """Begin to share. Redis may be away."""
        if isinstance(self.quotas, Quotas):
            await self.quotas.start()
        if self.redis is not None:
            await self.redis.start()
        if self.exchange is not None:
            self.exchange.start()

    async def settle(self) -> None:
        """Wait for the first leases, so that the first requests need not."""
        if self.exchange is not None:
            await self.exchange.wait()

    def steps(self) -> Iterator[Step]:
        """Those of its end."""
        if isinstance(self.quotas, Quotas):
            yield Step(self.quotas.close, "the file of the quotas", ENDING)
        if self._node is not None:
            yield Step(self._node.leave)
        if self.exchange is not None:
            yield Step(self.exchange.stop, "what is told of what was shared", ENDING)
        if self._node is not None:
            yield Step(self._node.close)
        if self.host is not None:
            yield Step(self.host.close)
        if self.redis is not None:
            yield Step(self.redis.close, "the connections to Redis", ENDING)

    def status(self) -> dict[str, str]:
        """For /readyz?verbose."""
        if self.redis is not None:
            return status("redis", self.redis.away)
        return status("master", self.exchange.away) if self.exchange is not None else status("local")

    def instruments(self) -> Iterator[Instrument]:
        """What the metrics show of it."""
        if self.redis is not None:
            yield from self.redis.instruments()


def status(engine: str, away: str = "") -> dict[str, str]:
    """engine: where the books are. away: why it cannot be asked, "" while it can."""
    return {"engine": engine, "state": "away" if away else "ok", "reason": away}


def problem(config: ProcessConfig) -> Problem | None:
    """Why what `[shared] uri` asks for cannot be had."""
    if not config.shared.uri:
        return None
    try:
        importlib.import_module("gateway.shared.redis.engine")
    except ModuleNotFoundError as error:
        reason = f"the client of Redis is not installed ({error.name})"
        return Problem(("[shared]", "uri"), reason, "pip install 'gateway[redis]'")
    return None


def redis_engine(ground: Ground) -> RedisEngine:
    """What `[shared] uri` asks for, not started."""
    config = ground.config
    if wrong := problem(config):
        raise SettingUnusable(f"[shared] uri in {config.path}: {wrong.reason}: {wrong.hint}")
    from gateway.shared.redis.engine import RedisEngine  # nothing of Redis unless it is asked for

    name = f"{socket.gethostname()} {pseudonym(ground.secret)} {config.listen}"
    member = hashlib.sha256(name.encode()).hexdigest()[:16]  # the same after a restart
    return RedisEngine(config.shared, member, config.share, ground.now)
