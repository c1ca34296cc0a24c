"""One process of a host asks an issuer, and the others wait for its answer: in the master who asks what, and
in a worker how it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from gateway.edge.backend.origin import TIMEOUT, OriginError
from gateway.runtime.channel import Channel, ChannelError

BOARD, LANDED = "flight", "flight landed"  # the handlers
_KEPT = 30.0  # seconds that an answer may be asked for
_MOST = 10_000  # answers
_LEADS = 2 * TIMEOUT  # seconds until one that asks has to say what came of it

Outcome = tuple[Any, str]  # what was answered, or why it was not


class Flights:
    """In the master."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._leaders: dict[str, tuple[str, float]] = {}  # who asks, and since when
        self._waiting: dict[str, list[asyncio.Future[Outcome | None]]] = {}
        self._landed: dict[str, tuple[float, Outcome]] = {}  # the oldest first

    async def board(self, member: str, body: tuple[str, float]) -> Outcome | None:
        """The answer under this key; None: the member is to ask, and to say what came of it. body: the key,
        and how many seconds old the answer may be."""
        key, max_age = body
        landed = self._landed.get(key)
        if landed is not None and not landed[1][1] and self._now() - landed[0] <= max_age:
            return landed[1]
        leader = self._leaders.get(key)
        if leader is None or self._now() - leader[1] > _LEADS:
            self._leaders[key] = member, self._now()
            return None
        waiter: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = [*(one for one in self._waiting.get(key, ()) if not one.done()), waiter]
        outcome = await waiter
        if outcome is None:
            self._leaders[key] = member, self._now()
        return outcome

    def landed(self, member: str, body: tuple[str, Any, str | None]) -> None:
        """What came of a question. body: its key, the answer, and why there is none; None: it was given up,
        which says nothing of the issuer."""
        key, answer, why = body
        if key not in self._leaders or self._leaders[key][0] != member:
            return
        if why is None:
            self._pass_on(key)
            return
        del self._leaders[key]
        now = self._now()
        self._landed.pop(key, None)
        while self._landed:
            oldest = next(iter(self._landed))
            if now - self._landed[oldest][0] < _KEPT and len(self._landed) < _MOST:
                break
            del self._landed[oldest]
        self._landed[key] = now, (answer, why)
        for waiter in self._waiting.pop(key, []):
            if not waiter.done():
                waiter.set_result((answer, why))

    def gone(self, member: str) -> None:
        """It will not say any more what came of its questions: the first that waits asks."""
        for key in [key for key, leader in self._leaders.items() if leader[0] == member]:
            self._pass_on(key)

    def _pass_on(self, key: str) -> None:
        """The first that waits asks."""
        del self._leaders[key]
        waiting = [one for one in self._waiting.pop(key, []) if not one.done()]
        if waiting:
            self._leaders[key] = "", self._now()  # until it has heard of it
            waiting.pop(0).set_result(None)
            self._waiting[key] = waiting


class SharedFlights:
    """In a worker: edge.backend.origin.Flights. channel: to the master."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def share(self, key: str, max_age: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        """See the port. Where the master does not answer, this process asks."""
        try:
            outcome = await self._channel.ask(BOARD, [key, max_age], 2 * TIMEOUT)
        except ChannelError:
            return await ask()
        except asyncio.CancelledError:  # the master may have answered that this one is to ask
            self._channel.tell(LANDED, [key, None, None])
            raise
        if outcome is not None:
            answer, why = outcome
            if why:
                raise OriginError(why)
            return answer
        landed: list[Any] = [key, None, None]
        try:
            landed = [key, await ask(), ""]
        except OriginError as error:
            landed = [key, None, str(error)]
            raise
        finally:
            self._channel.tell(LANDED, landed)
        return landed[1]
