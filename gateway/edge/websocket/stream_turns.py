"""What open WebSockets may do in one turn of the event loop, shared fairly by the tenants.

One read brings up to 256 KiB, and that may be 40,000 frames: forwarded at once they would delay all others.
So a connection with more to do than fits continues in a later turn (and reads no more meanwhile), and
the tenants take turns at what a turn has room for: however many connections one of them floods, another's
message waits for the end of the turn that it comes in.

Requests have turns of their own (core/fairness/turns.py). What waits of both shares one turn of the loop: 1
ms of requests and some 2 ms of this, so about 3 ms together, and who changes one bound checks the
other.

Work is counted in units of about 2 µs, not measured, so that the same bytes always take the same turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

TURN = 1000  # units of all together in a turn: about 2 ms
SHARE = 400  # units of one holder, of what comes in a turn; more waits for the next one
SLICE = 64  # units of one connection, before the next one's turn
EACH = 8  # units that it costs to read, to write and to begin, whatever the number of frames
BYTES = 4 * 1024  # bytes that cost a unit: they are read, written and copied on their way

Work = Callable[[int], int]


class StreamTurns:
    """The turns of one event loop, for streams. holder: the tenant, or the client's address, of some work.

    `available` gives the units that may be spent at once, 0 when others wait before it; `spend` counts them.
    What is left over waits: its work is called with the units that it has, and gives those that it used.
    turns: those in which there was work.
    """

    __slots__ = ("_holders", "_is_scheduled", "_spent", "_total", "_waiting", "turns")

    def __init__(self) -> None:
        self._spent: dict[str, int] = {}  # units, in this turn
        self._total = 0
        self._holders: deque[str] = deque()  # those that wait, in the order of their turns
        self._waiting: dict[str, deque[Work]] = {}
        self._is_scheduled = False  # the end of this turn is waited for
        self.turns = 0

    def available(self, holder: str) -> int:
        """Units that the holder may spend at once."""
        if holder in self._waiting or self._total >= TURN:
            return 0
        return max(0, min(SLICE, SHARE - self._spent.get(holder, 0)))

    def spend(self, holder: str, units: int) -> None:
        """Units were used in this turn."""
        self._schedule()
        self._total += units
        self._spent[holder] = self._spent.get(holder, 0) + units

    def wait(self, holder: str, work: Work) -> None:
        """Call work when it is the holder's turn."""
        waiting = self._waiting.get(holder)
        if waiting is None:
            self._schedule()
            self._waiting[holder] = deque((work,))
            self._holders.append(holder)
        else:
            waiting.append(work)

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """A turn of the loop is over: what waits comes first in the next one."""
        self._is_scheduled = False
        self.turns += 1
        self._spent.clear()
        self._total = 0
        holders, waiting = self._holders, self._waiting
        if holders:
            self._schedule()  # first, so that a bug in one of them stops nobody
        while holders and self._total < TURN:
            holder = holders.popleft()
            queue = waiting[holder]
            work = queue.popleft()
            if queue:
                holders.append(holder)
            else:
                del waiting[holder]
            self.spend(holder, max(1, work(SLICE)))
