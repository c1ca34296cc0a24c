"""What open streams may do in one turn of the event loop, shared fairly by the tenants.

One read brings up to 256 KiB, and that may be 40,000 frames: worked off at once they would keep all others
waiting. So who has more to do than fits goes on in a later turn (and reads no more meanwhile), and the
tenants take turns at what a turn has room for: however many connections one of them floods, another's message
waits for the end of the turn that it comes in.

Requests have turns of their own (core/fairness/turns.py). What waits of both shares one turn of the loop: 1
ms of requests and some 2 ms of this, so about 3 ms together, and whoever changes one bound looks at the
other.

Work is counted in units of about 2 µs, not measured, so that the same bytes always take the same turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

TURN = 1000  # units of all together in a turn: about 2 ms
SHARE = 400  # units of one tenant, of what comes in a turn; more waits for the next one
SLICE = 64  # units of one connection, before the next one's turn
EACH = 8  # units that it costs to read, to write and to begin, whatever the number of frames
BYTES = 4 * 1024  # bytes that cost a unit: they are read, written and copied on their way

GoOn = Callable[[int], int]


class StreamTurns:
    """For those who work by callbacks. key: whose work it is.

    `now` says how many units may be spent at once, 0 when others wait before it; then, and with what is left
    over, `wait`. `spend` what was used at once. A waiter gets how many units it has, and gives those it used.
    """

    __slots__ = ("_coming", "_keys", "_spent", "_total", "_waiting", "rounds")

    def __init__(self) -> None:
        self._spent: dict[str, int] = {}  # units, in this turn
        self._total = 0
        self._keys: deque[str] = deque()  # who waits, in the order of their turns
        self._waiting: dict[str, deque[GoOn]] = {}
        self._coming = False  # the end of this turn is waited for
        self.rounds = 0  # turns in which there was work

    def now(self, key: str) -> int:
        if key in self._waiting or self._total >= TURN:
            return 0
        return max(0, min(SLICE, SHARE - self._spent.get(key, 0)))

    def spend(self, key: str, units: int) -> None:
        self._come()
        self._total += units
        self._spent[key] = self._spent.get(key, 0) + units

    def wait(self, key: str, go_on: GoOn) -> None:
        """Have it called when it is its turn."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._come()
            self._waiting[key] = deque((go_on,))
            self._keys.append(key)
        else:
            waiting.append(go_on)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def _come(self) -> None:
        if not self._coming:
            self._coming = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """A turn of the loop is over: those who wait are the first in the next one."""
        self._coming = False
        self.rounds += 1
        self._spent.clear()
        self._total = 0
        keys, waiting = self._keys, self._waiting
        if keys:
            self._come()  # first, so that a bug in one of them stops nobody
        while keys and self._total < TURN:
            key = keys.popleft()
            queue = waiting[key]
            go_on = queue.popleft()
            if queue:
                keys.append(key)
            else:
                del waiting[key]
            self.spend(key, max(1, go_on(SLICE)))
