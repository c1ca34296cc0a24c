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
_LOST = "the process that asked has ended"

Outcome = tuple[Any, str]  # what was answered, or why it was not


class Flights:
    """In the master."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._leaders: dict[str, str] = {}
        self._waiting: dict[str, list[asyncio.Future[Outcome | None]]] = {}
        self._landed: dict[str, tuple[float, Outcome]] = {}  # the oldest first

    def waiting(self, key: str) -> int:
        """How many wait for this answer."""
        return len(self._waiting.get(key, ()))

    async def board(self, member: str, body: tuple[str, float]) -> Outcome | None:
        """The answer under this key; None: the member is to ask, and to say what came of it. body: the key,
        and how many seconds old the answer may be."""
        key, max_age = body
        landed = self._landed.get(key)
        if landed is not None and not landed[1][1] and self._now() - landed[0] <= max_age:
            return landed[1]
        if key not in self._leaders:
            self._leaders[key] = member
            return None
        waiter: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(waiter)
        outcome = await waiter
        if outcome is None:
            self._leaders[key] = member
        return outcome

    def landed(self, member: str, body: tuple[str, Any, str]) -> None:
        """What came of a question. body: its key, the answer, and why there is none."""
        key, answer, why = body
        if self._leaders.get(key) != member:
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
        for key in [key for key, leader in self._leaders.items() if leader == member]:
            del self._leaders[key]
            waiting = self._waiting.pop(key, [])
            while waiting:
                first = waiting.pop(0)
                if not first.done():
                    self._leaders[key] = ""  # until it has heard of it
                    first.set_result(None)
                    self._waiting[key] = waiting
                    break


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
        if outcome is not None:
            answer, why = outcome
            if why:
                raise OriginError(why)
            return answer
        why = _LOST
        answer = None
        try:
            answer = await ask()
            why = ""
        except OriginError as error:
            why = str(error)
            raise
        finally:
            self._channel.tell(LANDED, [key, answer, why])
        return answer
