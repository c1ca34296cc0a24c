"""Memory that unfinished requests hold in clients' connections, counted against one budget for all of them.

Counted is what came and waits: an unfinished head, a body of which more is to come, one that waits with its
request for a seat, what was sent ahead. Most requests come whole and are read at once; they are never
counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.core.errors import ClientLimit, GatewayError, Saturated, TenantLimit
from gateway.core.policy.budget import Budget
from gateway.runtime.log_interval import LogInterval

L = logging.getLogger(__name__)
SMALL = 4 * 1024  # bytes that a connection may hold uncounted


class RequestMemory:
    """The budget of all connections of a listener.

    total: bytes. key: the setting, for the log. budget: by holder, a tenant or a client's address (see
    `Service.holder`).
    """

    def __init__(self, total: int, key: str = "[gateway] memory") -> None:
        self.budget = Budget(total)
        self._key = key
        self._log_interval = LogInterval()

    def refusal(self, holder: str) -> GatewayError:
        """The error for a holder that may have no more. It is logged, once a minute."""
        held, total = self.budget.held(holder), self.budget.total
        if self._log_interval.is_over():
            text = (
                "%s: unfinished requests hold %d of %d bytes, those of %s %d; the newest are refused."
                " Clients send slowly, or more than backends take; raise it if they are meant to"
            )
            L.warning(text, self._key, self.budget.used, total, holder, held)
        if held < total // 8:
            return Saturated("Unfinished requests take all memory that there is for them.", close=True)
        kind = TenantLimit if holder.startswith("tenant ") else ClientLimit
        return kind(f"Your unfinished requests hold {held} bytes: finish some of them first.", close=True)


class ConnectionMemory:
    """What one connection holds. memory: None where nothing is counted. size: bytes that are counted."""

    __slots__ = ("_holder", "_memory", "size")

    def __init__(self, memory: RequestMemory | None) -> None:
        self._memory = memory
        self.size = 0
        self._holder = ""

    def set(self, size: int, holder: Callable[[], str]) -> GatewayError | None:
        """Set how many bytes the connection holds now. holder: returns the tenant or address that they
        count for, called for the first of them. Returns the error when they are too many; then nothing has
        changed."""
        if size <= SMALL:
            size = 0
        more = size - self.size
        if not more or self._memory is None:
            return None
        budget = self._memory.budget
        if more < 0:
            budget.give_back(self._holder, -more)
        else:
            if not self.size:
                self._holder = holder()
            if not budget.count(self._holder, more):
                return self._memory.refusal(self._holder)
        self.size = size
        return None

    def clear(self) -> None:
        """It holds nothing any more."""
        if self.size and self._memory is not None:
            self._memory.budget.give_back(self._holder, self.size)
            self.size = 0
