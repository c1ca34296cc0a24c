"""Which request begins next, where more of them are here than one turn of the event loop may take.

A turn of the loop serves everybody who has something, one after the other; so one client with a thousand
connections, or with a thousand requests sent ahead, makes all others wait for all of that. Here requests
begin at once while a turn has used little time. What is beyond that waits, by its holder: the holders take
turns (round robin, as in fair queueing), so that one request of a quiet holder waits for one of each other
holder's, not for all of them. Between two shares the loop looks at its sockets again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

SHARE = 0.002  # seconds of one turn that may be used for beginning requests at once
WAITING_SHARE = 0.001  # and for those that waited; shorter, for a quiet client waits for some of these turns
_CLOCK_INTERVAL = 8  # requests that begin between two readings of the clock


class Turns:
    """The turns of one event loop, for requests.

    call_soon: has a function called in the loop's next turn. now: the monotonic clock, in seconds.
    """

    __slots__ = (
        "_began", "_begun", "_call_soon", "_is_running", "_is_watching", "_new", "_now", "_served",
        "_waiting",
    )  # fmt: skip

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], now: Callable[[], float]) -> None:
        self._call_soon = call_soon
        self._now = now
        self._begun = 0  # requests since the clock was read
        self._began = 0.0  # when that turn began, as far as the clock was read
        self._is_watching = False  # the next turn is going to be noticed
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._new: deque[str] = deque()  # holders that have had no turn since they wait
        self._served: deque[str] = deque()  # holders that wait for another one
        self._is_running = False

    def __len__(self) -> int:
        """Requests that wait for a turn."""
        return sum(map(len, self._waiting.values()))

    def try_begin(self) -> bool:
        """Whether a request may begin at once; if so, it is counted. The clock is read for every eighth one:
        a request pays 0.1 µs for all of this (measured)."""
        if self._waiting:
            return False
        self._begun += 1
        if self._begun < _CLOCK_INTERVAL:
            return True
        self._begun = 0
        if not self._is_watching:
            self._is_watching = True
            self._began = self._now()
            self._call_soon(self._next_turn)
            return True
        if self._now() - self._began < SHARE:
            return True
        self._begun = _CLOCK_INTERVAL - 1  # the next one reads it again
        return False

    def _next_turn(self) -> None:
        self._is_watching = False
        self._begun = 0

    def later(self, holder: str, work: Callable[[], None]) -> None:
        """Call work when it is the holder's turn, not in this turn of the loop. holder: a tenant, or a
        client's address."""
        waiting = self._waiting.get(holder)
        if waiting is None:
            self._waiting[holder] = waiting = deque()
            self._new.append(holder)
        waiting.append(work)
        self._run_soon()

    def _run_soon(self) -> None:
        if not self._is_running:
            self._is_running = True
            self._call_soon(self._run)

    def _run(self) -> None:
        """One share. A piece of work that fails (a bug) ends it; the others have theirs in the next turn."""
        self._is_running = False
        try:
            end = self._now() + WAITING_SHARE
            prefers_new = True
            while self._waiting:
                # By turns, so that neither the new ones nor the served ones wait for ever.
                order = self._new if self._new and (prefers_new or not self._served) else self._served
                prefers_new = not prefers_new
                self._take(order.popleft())()
                if self._now() >= end:
                    break
        finally:
            if self._waiting:
                self._run_soon()

    def _take(self, holder: str) -> Callable[[], None]:
        """The holder's next piece of work."""
        waiting = self._waiting[holder]
        work = waiting.popleft()
        if waiting:
            self._served.append(holder)
        else:
            del self._waiting[holder]
        return work
