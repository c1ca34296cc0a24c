"""The books in Redis or Valkey: the exchange of a node, and what it goes on with while the server is away.

While it is away this node has its part of each rate, one of as many as there were members, in books of its
own; what has no book here (quotas) is told when the server is back. The server keeps that part for it, for
`lease_time`. Of seats it has what was leased to it last; shortly before the server gives them to others, it
comes down to one at each address. Each change between the two begins another epoch, in which the parts of
rates and quotas tell what they know.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.core.openmetrics import Gauge, Instrument
from gateway.core.process.shared_state import SharedSettings
from gateway.core.shared import quotas, rates, seats
from gateway.core.shared.kept import Kept
from gateway.core.shared.ports import Away, Body
from gateway.runtime.periodic import PeriodicTask
from gateway.shared.redis.server import Server

L = logging.getLogger(__name__)
HEARTBEAT = 0.5  # seconds
SILENT = 3 * HEARTBEAT
_LATE = 0.9  # of the lease time
_SCRIPT = b"".join((Path(__file__).parent / name).read_bytes() for name in ("seats.lua", "exchange.lua"))
_SHA = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # as Redis names scripts


_is_of_one_host = re.compile(r"(?:[a-z]+://)?(?:unix:|/|127\.|localhost\b|\[?::1\b)").match


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
        self._settings = settings
        self._member = member
        self._share = share
        self._now = now
        self._since = self._now()
        self._server = Server(settings)
        self._silent = silent
        self._epoch, self._known = "", 0  # exchanges in it
        self._process = secrets.token_hex(6)
        self._host = socket.gethostname()
        self._number = 0
        self._kept = Kept()
        self._keys: dict[tuple[str, str], str] = {}  # of pools, by holder
        self._heard_at = now()
        self._book = rates.RateBook()
        self._beat = PeriodicTask("telling Redis that this node is here", HEARTBEAT, self.beat)
        self._asked_at = -HEARTBEAT

    async def start(self) -> None:
        """Ask it for the first time; then it may be away as well as later."""
        self._since = self._now()
        await self.beat()
        if not self.away:
            L.info("%s is shared with %d in all", self._settings.where, self.members)
        self._beat.start()

    async def close(self) -> None:
        """Leave: what is left of this node's part is the others' at once."""
        await self._beat.stop()
        if not self.away:
            try:
                members, meta = self._server.key("members"), self._server.key("meta")
                await self._server.forget(members, self._member, meta, f"of:{self._member}")
            except Away:
                pass
        await self._server.close()

    async def beat(self) -> None:
        """Say that this node is here, unless it did so just now; try again where the server is away."""
        if self.away or self._now() - self._asked_at > HEARTBEAT / 2:
            await self._ask({})

    async def exchange(self, reports: dict[str, Body], holder: str = "", among: int = 1) -> dict[str, Body]:
        """See Engine. Never raises Away: while the server is away, rates and seats are settled here. holder:
        which process of this node has the seats, of how many (among)."""
        if not self.away:
            grants = await self._ask(reports, holder)
            if grants is not None:
                return grants
        grants = {}
        members = max(1, self.members)
        if rates.NAME in reports:
            grant = self._book.exchange(self._member, reports[rates.NAME], self._now())
            grants[rates.NAME] = {**grant, "members": members}
        if seats.NAME in reports:
            late = bool(self.members) and self._now() - self._heard_at > _LATE * self._settings.lease_time
            pools = reports[seats.NAME]["pools"]
            kept = self._kept.alone(holder, pools, self._scale / among, late=late)
            grants[seats.NAME] = {"pools": kept, "members": members}
        return grants

    async def left(self, holder: str, pools: Mapping[str, seats.Report]) -> bool:
        """A process of this node has ended: tell what is left of it inside, again when that is less. Returns
        whether it was heard."""
        return not self.away and await self._ask({seats.NAME: {"pools": pools}}, holder) is not None

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

    def instruments(self) -> Iterator[Instrument]:
        """What the metrics show of it."""
        up = "1 while Redis keeps what machines share; 0: each goes on with its part."
        yield Gauge("gateway_shared_up", up, lambda: {(): int(not self.away)}, merge="min")
        about = "Machines that share, as Redis last said."
        yield Gauge("gateway_shared_members", about, lambda: {(): self.members}, merge="max")

    def _key_of(self, holder: str, key: str, report: seats.Report) -> str:
        """Where a pool lies. What listens on this host only is not what listens there on another one."""
        if report["seats"]:
            here = any(map(_is_of_one_host, report["seats"]))
            parts = ("seats", self._host, key) if here else ("seats", "", key)
            self._keys[holder, key] = self._server.key(*parts)
        return self._keys.setdefault((holder, key), self._server.key("seats", "", key))

    @property
    def _scale(self) -> float:
        return 1.0 / self.members if self.members else self._share

    async def _ask(self, reports: dict[str, Body], holder: str = "") -> dict[str, Body] | None:
        """The grants; None when the server is away."""
        server, settings = self._server, self._settings
        rated = {key: rates.asked_of(asked) for key, asked in reports.get(rates.NAME, {}).items()}
        counted = {key: quotas.counted_of(count) for key, count in reports.get(quotas.NAME, {}).items()}
        keys = [server.key("members"), server.key("meta")]
        keys += [server.key("rate", key) for key in rated] + [server.key("quota", key) for key in counted]
        pools = self._kept.to_tell(holder, reports.get(seats.NAME, {}).get("pools", {}))
        keys += [self._key_of(holder, key, report) for key, report in pools.items()]
        self._number += 1
        arguments: list[Any] = [self._member, self._epoch, self._silent, settings.lease_time, len(rated)]
        arguments += [len(counted), self._process, holder, self._number, self._known]
        for one in (*rated.values(), *counted.values()):
            arguments += one
        arguments += [json.dumps(report) for report in pools.values()]
        asked_at = self._asked_at = self._now()
        try:
            reply = await server.script(_SHA, _SCRIPT.decode(), keys, arguments)
        except Away as away:
            self._kept.lost(holder, pools)
            self._gone(str(away))
            return None
        self._heard_at = max(self._heard_at, asked_at)
        self._here(reply[0].decode(), int(reply[1]), int(reply[2]))
        rest = iter(reply[3:])
        granted = {key: (float(next(rest)), float(next(rest)), float(next(rest))) for key in rated}
        totals = {key: quotas.Total(int(next(rest)), int(next(rest))) for key in counted}
        grant = {"members": self.members, "epoch": self._epoch, "keys": granted}
        leased = {key: json.loads(next(rest)) for key in pools}
        self._kept.granted(holder, leased)
        for key, report in pools.items():
            if not report["seats"] and not report["held"]:  # else more is told of it
                self._keys.pop((holder, key), None)
        seated = {"pools": leased, "members": self.members}
        return {rates.NAME: grant, quotas.NAME: totals, seats.NAME: seated}

    def _here(self, epoch: str, members: int, count: int) -> None:
        if self.away:
            L.info("%s is back after %.0f s: what was used meanwhile is told", *self._said())
            self.away, self._since = "", self._now()
        elif self._epoch and epoch != self._epoch:
            L.warning(
                "%s has lost what it kept (it was flushed, or another one has taken its place): rates, quotas"
                " and seats go on from what each node knows",
                self._settings.where,
            )
        self._known = max(count, self._known) if epoch == self._epoch else count
        self._epoch, self.members = epoch, members

    def _gone(self, why: str) -> None:
        if self.away:
            self.away = why
            return
        self.away, self._since = why, self._now()
        scale = self._scale
        self._book = rates.RateBook(scale, settles_at=self._now() + rates.SETTLE, epoch=f"away {self._since}")
        L.warning(
            "%s is away: %s. Each rate goes on with this node's part, %.3g of it, until it is back;"
            " seats with those leased last, or that part",
            *(self._settings.where, why, scale),
        )

    def _said(self) -> tuple[str, float]:
        return self._settings.where, self._now() - self._since
