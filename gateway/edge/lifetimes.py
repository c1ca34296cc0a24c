"""How long a stream may go on: no longer than the token that opened it, its key and its tenant.

A request is authorised once, when it comes. That is enough for what is over soon; what may have no end (event
streams, WebSockets, feeds of documents, exports, imports, answers without a time limit and a length) is told
here when it is over, all by the same rule: when the token expires, when its key is taken away, and when its
tenant is disabled or removed. A download or a long poll that `timeouts.total` ends anyway is finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from gateway.call import Call
from gateway.core.errors import Forbidden, GatewayError, Unauthenticated
from gateway.core.model import Tenant

ENDING = 1.0  # seconds that a stream may take to end once it was told: the rest of an event
_AT_ONCE = 20  # tokens that are verified again in one turn of the loop
_LONGEST = 86_400.0  # seconds that a timer is set to: event loops take no number of them
EXPIRED = "The token has expired."
REVOKED = "The token is not valid any more."
DISABLED = "The tenant is disabled."

Tell = Callable[[str], None]


class Lifetime:
    """One stream's. over: it was told to end, and why its call did is in the log. Close it at its end."""

    __slots__ = ("_all", "_cut", "_tell", "_timer", "call", "over")

    def __init__(self, call: Call, tell: Tell, cut: Callable[[], None] | None, all_: set[Lifetime]) -> None:
        self.call = call
        self._tell = tell
        self._cut = cut
        self._all = all_
        self._timer: asyncio.TimerHandle | None = None
        self.over = False
        if call.identity is not None:
            self._later(min(_LONGEST, max(0.0, call.identity.expires - time.time())), self._expired)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, what)

    def _expired(self) -> None:
        assert self.call.identity is not None
        left = self.call.identity.expires - time.time()
        if left > _LONGEST / 2:
            self._later(min(_LONGEST, left), self._expired)
            return
        self.end(Unauthenticated.code, EXPIRED)

    def end(self, code: str, why: str) -> None:
        """It is told, once. What has not ended soon after that is cut."""
        if self.over:
            return
        self.over = True
        self._stop()
        self.call.code = code
        if self._cut is not None:
            self._later(ENDING, self._cut)
        self._tell(why)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The stream has ended, whoever ended it."""
        self.over = True
        self._stop()
        self._all.discard(self)


def cut_off(call: Call) -> None:
    """End the connection on which the call is answered, if that has begun: its client does not read, so that
    it would not hear of the end."""
    if call.client is not None and call.client.writer is not None:
        call.client.writer.cut()


class Ending:
    """For a call that ends itself with an error, once it was told to. told: called then, with that error."""

    def __init__(self, call: Call, told: Callable[[GatewayError], None] = lambda error: None) -> None:
        self._call = call
        self._told = told
        self._why = ""

    def tell(self, why: str) -> None:
        """What Lifetimes.add takes."""
        self._why = why
        self._told(self._error())

    def check(self) -> None:
        """Raises the error."""
        if self._why:
            raise self._error()

    def _error(self) -> GatewayError:
        """Another one each time: one that is raised holds the frames that hold this."""
        disabled = self._call.code == Forbidden.code
        error = Forbidden(self._why) if disabled else Unauthenticated(self._why)
        error.close = True
        return error


class Lifetimes:
    """All streams that are open; they outlive a snapshot."""

    def __init__(self) -> None:
        self._open: set[Lifetime] = set()
        self._tenants: Mapping[str, Tenant] | None = None  # of the live snapshot, None before the first

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: Call, tell: Tell, cut: Callable[[], None] | None = None) -> Lifetime:
        """A stream that begins. tell(why): it is to end, in a way that its client understands; called a turn
        later at the earliest. cut: end it now, should that take too long."""
        lifetime = Lifetime(call, tell, cut, self._open)
        self._open.add(lifetime)
        if not self._has_tenant(lifetime):  # it is gone since the request began
            asyncio.get_running_loop().call_soon(self._check, lifetime)
        return lifetime

    def reconcile(self, tenants: Mapping[str, Tenant]) -> None:
        """A snapshot was swapped: end those whose tenant is gone or disabled."""
        self._tenants = tenants
        for lifetime in list(self._open):
            self._check(lifetime)

    def _has_tenant(self, lifetime: Lifetime) -> bool:
        tenant = lifetime.call.tenant
        if tenant is None or self._tenants is None:
            return True
        now = self._tenants.get(tenant.id.value)
        return now is not None and not now.disabled

    def _check(self, lifetime: Lifetime) -> None:
        if not self._has_tenant(lifetime):
            lifetime.end(Forbidden.code, DISABLED)

    async def verify(self, verify: Callable[[str], object]) -> None:
        """The keys have changed: end those whose token is not valid any more. verify raises Unauthenticated
        for such a token."""
        for number, lifetime in enumerate(list(self._open), 1):
            if lifetime.call.identity is not None and not lifetime.over:
                try:
                    verify(lifetime.call.head.token)
                except Unauthenticated:
                    lifetime.end(Unauthenticated.code, REVOKED)
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
