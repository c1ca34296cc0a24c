"""The books in Redis or Valkey: the exchange of a node, and what it goes on with while the server is away.

While it is away this node has its part of each rate, one of as many as there were members, in books of its
own; what has no book here (quotas) is told when the server is back. The server keeps that part for it, for
`lease_time`. Each change between the two begins another epoch, in which the parts tell what they know.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

from gateway.core.openmetrics import Gauge, Instrument
from gateway.core.process.shared_state import SharedSettings
from gateway.core.shared import quotas, rates
from gateway.core.shared.ports import Away, Body
from gateway.runtime.periodic import PeriodicTask
from gateway.shared.redis.server import Server

L = logging.getLogger(__name__)
HEARTBEAT = 0.5  # seconds
SILENT = 3 * HEARTBEAT
_SCRIPT = (Path(__file__).parent / "exchange.lua").read_bytes()
_SHA = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # as Redis names scripts


class RedisEngine:
    """start() once, close() once. member: this node, the same after a restart. share: its part while no
    server was ever reached. silent: seconds after which a member is taken for one that goes on alone.

    away: why it cannot be asked, "" while it can. members: nodes that share, as it last said; 0 if never.
    """

    def __init__(
        self,
        settings: SharedSettings,
        member: str,
        share: float = 1.0,
        now: Callable[[], float] = monotonic,
        silent: float = SILENT,
    ) -> None:
        self.away = ""
        self.members = 0
        self.exchanges = self.failures = 0
        self._settings = settings
        self._member = member
        self._share = share
        self._now = now
        self._since = time()
        self._server = Server(settings)
        self._silent = silent
        self._epoch = ""
        self._book = rates.RateBook()
        self._beat = PeriodicTask("telling Redis that this node is here", HEARTBEAT, self.beat)
        self._asked_at = -HEARTBEAT

    async def start(self) -> None:
        """Ask it for the first time; then it may be away as well as later."""
        self._since = time()
        await self.beat()
        if not self.away:
            L.info("%s is shared with %d in all", self._settings.where, self.members)
        self._beat.start()

    async def close(self) -> None:
        """Leave: what is left of this node's part is the others' at once."""
        await self._beat.stop()
        if not self.away:
            try:
                await self._server.forget(self._server.key("members"), self._member)
            except Away:
                pass
        await self._server.close()

    async def beat(self) -> None:
        """Say that this node is here, unless it did so just now; try again where the server is away."""
        if self.away or self._now() - self._asked_at > HEARTBEAT / 2:
            await self._ask({})

    async def exchange(self, reports: dict[str, Body]) -> dict[str, Body]:
        """See Engine. Never raises Away: while the server is away, rates are settled here."""
        if not self.away:
            grants = await self._ask(reports)
            if grants is not None:
                return grants
        if rates.NAME not in reports:
            return {}
        grant = self._book.exchange(self._member, reports[rates.NAME], self._now())
        return {rates.NAME: {**grant, "members": max(1, self.members)}}

    # --- what may be used once (auth.oauth.once.Once) ---

    async def put(self, key: str, value: str, seconds: float) -> bool:
        """Keep a value. False where the key is there already. Raises Away."""
        self._check()
        server = self._server
        return await server.set_new(server.key("once", key), value.encode(), math.ceil(seconds * 1000))

    async def take(self, key: str) -> str | None:
        """The value of a key, which is gone after that. Raises Away."""
        self._check()
        found = await self._server.take(self._server.key("once", key))
        return None if found is None else found.decode()

    def _check(self) -> None:
        if self.away:
            raise Away(self.away)

    def status(self) -> dict[str, Any]:
        """For /readyz?verbose."""
        found = {
            "engine": "redis",
            "where": self._settings.where,
            "members": self.members,
            "since": self._since,
        }
        return {**found, "state": "away" if self.away else "ok", "reason": self.away}

    def instruments(self) -> Iterator[Instrument]:
        """What the metrics show of it."""
        up = "1 while Redis keeps what machines share; 0: each goes on with its part."
        yield Gauge("gateway_shared_up", up, lambda: {(): int(not self.away)}, merge="min")
        about = "Machines that share, as Redis last said."
        yield Gauge("gateway_shared_members", about, lambda: {(): self.members}, merge="max")

    async def _ask(self, reports: dict[str, Body]) -> dict[str, Body] | None:
        """The grants; None when the server is away."""
        server, settings = self._server, self._settings
        rated = {key: rates.asked_of(asked) for key, asked in reports.get(rates.NAME, {}).items()}
        counted = {key: quotas.counted_of(count) for key, count in reports.get(quotas.NAME, {}).items()}
        keys = [server.key("members"), server.key("meta")]
        keys += [server.key("rate", key) for key in rated] + [server.key("quota", key) for key in counted]
        arguments: list[Any] = [self._member, self._epoch, self._silent, settings.lease_time, len(rated)]
        for one in (*rated.values(), *counted.values()):
            arguments += one
        self._asked_at = self._now()
        try:
            reply = await server.script(_SHA, _SCRIPT.decode(), keys, arguments)
        except Away as away:
            self._gone(str(away))
            return None
        self.exchanges += 1
        self._here(reply[0].decode(), int(reply[1]))
        numbers = iter([float(number) for number in reply[2:]])
        granted = {key: (next(numbers), next(numbers), next(numbers)) for key in rated}
        totals = {key: int(next(numbers)) for key in counted}
        grant = {"members": self.members, "epoch": self._epoch, "keys": granted}
        return {rates.NAME: grant, quotas.NAME: totals}

    def _here(self, epoch: str, members: int) -> None:
        if self.away:
            L.info("%s is back after %.0f s: what was used meanwhile is told", *self._said())
            self.away, self._since = "", time()
        elif self._epoch and epoch != self._epoch:
            L.warning(
                "%s has lost what it kept (it was flushed, or another one has taken its place): rates and"
                " quotas go on from what each node knows",
                self._settings.where,
            )
        self._epoch, self.members = epoch, members

    def _gone(self, why: str) -> None:
        self.failures += 1
        if self.away:
            self.away = why
            return
        self.away, self._since = why, time()
        scale = 1.0 / self.members if self.members else self._share
        self._book = rates.RateBook(scale, settles_at=self._now() + rates.SETTLE, epoch=f"away {self._since}")
        L.warning(
            "%s is away: %s. Each rate goes on with this node's part, %.3g of it, until it is back",
            *(self._settings.where, why, scale),
        )

    def _said(self) -> tuple[str, float]:
        return self._settings.where, time() - self._since
