"""How long a stream may go on: no longer than the credential that opened it, its key and its tenant.

A request is authorised once, when it comes. That is enough for what is over soon; what may have no end (event
streams, WebSockets, feeds of documents, exports, imports, responses without a time limit and a length) is
ended here, all by the same rule: when the credential expires or is revoked, when its key is taken away, and
when its tenant is disabled or removed. A download or a long poll that `timeouts.total` ends anyway is
finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from gateway.call import Call
from gateway.core.errors import Forbidden, GatewayError, IssuerUnavailable, Unauthenticated
from gateway.core.model import Identity, Tenant
from gateway.core.policy import access

ENDING = 1.0  # seconds that a stream may take to end once it was asked to: the rest of an event
_BATCH = 20  # tokens that are verified again in one turn of the loop
_CHECKED = 500  # streams whose credential is looked up in one turn, of some microseconds each
_LONGEST = 86_400.0  # seconds that a timer is set to: event loops take no number of them
EXPIRED = "The token has expired."
REVOKED = "The token is not valid any more."
DISABLED = "The tenant is disabled."

# Ends a stream in a way that its client understands; gets the reason, for the client.
EndStream = Callable[[str], None]


class Lifetime:
    """How long one stream may go on. Close it when the stream has ended.

    call: that opened it. good_until: as of now, when its credential is to be verified again (seconds since
    the epoch). is_over: the stream was asked to end, or has ended.
    """

    __slots__ = ("_cut", "_end_stream", "_expires", "_lifetimes", "_timer", "call", "good_until", "is_over")

    def __init__(
        self, call: Call, end_stream: EndStream, cut: Callable[[], None] | None, lifetimes: set[Lifetime]
    ) -> None:
        self.call = call
        self._end_stream = end_stream
        self._cut = cut
        self._lifetimes = lifetimes
        self._timer: asyncio.TimerHandle | None = None
        self._expires = self.good_until = 0.0
        self.is_over = False
        if call.identity is not None:
            self.verified(call.identity)
            self.expire_at(call.identity.expires)

    def verified(self, identity: Identity) -> None:
        """Its credential is good, as was found just now."""
        self.good_until = identity.good_until

    def expire_at(self, expires: float) -> None:
        """The credential expires then (seconds since the epoch), and not when was said before."""
        if expires != self._expires and not self.is_over:
            self._cancel_timer()
            self._expires = expires
            self._later(min(_LONGEST, max(0.0, expires - time.time())), self._expired)

    def is_due(self, now: float) -> bool:
        """Whether its credential is to be verified again before it expires."""
        identity = self.call.identity
        return identity is not None and self.good_until <= min(now, identity.expires)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _expired(self) -> None:
        left = self._expires - time.time()
        if left > _LONGEST / 2:
            self._later(min(_LONGEST, left), self._expired)
            return
        self.end(Unauthenticated.code, EXPIRED)

    def end(self, code: str, reason: str) -> None:
        """Ask the stream to end, once; if it has not soon after that, it is cut. code: of the error, for the
        log. reason: for the client."""
        if self.is_over:
            return
        self.is_over = True
        self._cancel_timer()
        self.call.code = code
        if self._cut is not None:
            self._later(ENDING, self._cut)
        self._end_stream(reason)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The stream has ended, for whatever reason."""
        self.is_over = True
        self._cancel_timer()
        self._lifetimes.discard(self)


def cut_off(call: Call) -> None:
    """End the connection if the response to the call has begun: a client that does not read would not notice
    another end."""
    if call.client is not None and call.client.writer is not None:
        call.client.writer.cut()


class Ending:
    """For a call that ends itself with an error, once it is asked to. on_request: called then, with that
    error."""

    def __init__(self, call: Call, on_request: Callable[[GatewayError], None] = lambda error: None) -> None:
        self._call = call
        self._on_request = on_request
        self._reason = ""

    def request(self, reason: str) -> None:
        """Ask the call to end (see Lifetimes.add)."""
        self._reason = reason
        self._on_request(self._error())

    def check(self) -> None:
        """Raise the error, if the call was asked to end: Unauthenticated, or Forbidden where the tenant is
        disabled."""
        if self._reason:
            raise self._error()

    def _error(self) -> GatewayError:
        """A new one each time: a raised error keeps its frames alive, and these keep this object alive."""
        kind = Forbidden if self._call.code == Forbidden.code else Unauthenticated
        return kind(self._reason, close=True)


class Lifetimes:
    """All streams that are open; they outlive a snapshot. expires: when a credential that was good ends, as
    is known now (seconds since the epoch); 0.0 when it was revoked."""

    def __init__(self, expires: Callable[[Identity], float] = lambda identity: identity.expires) -> None:
        self._expires = expires
        self._open: set[Lifetime] = set()
        self._tenants: Mapping[str, Tenant] | None = None  # of the live snapshot, None before the first
        self._in_doubt = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: Call, end_stream: EndStream, cut: Callable[[], None] | None = None) -> Lifetime:
        """A stream that begins. end_stream: called a turn of the loop later at the earliest. cut: ends the
        stream at once, should that take too long."""
        lifetime = Lifetime(call, end_stream, cut, self._open)
        self._open.add(lifetime)
        if not (self._has_tenant(lifetime) and self._has_credential(lifetime)):  # not any more
            asyncio.get_running_loop().call_soon(self._check, lifetime)
        return lifetime

    def reconcile(self, tenants: Mapping[str, Tenant]) -> None:
        """A snapshot was swapped: end the streams whose tenant is removed or disabled. tenants: of the new
        one."""
        self._tenants = tenants
        for lifetime in list(self._open):
            self._check(lifetime)

    def _has_tenant(self, lifetime: Lifetime) -> bool:
        tenant = lifetime.call.tenant
        if tenant is None or self._tenants is None:
            return True
        now = self._tenants.get(tenant.id.value)
        return now is not None and not now.disabled

    def _has_credential(self, lifetime: Lifetime) -> bool:
        identity = lifetime.call.identity
        if identity is None:
            return True
        expires = self._expires(identity)
        if expires:
            lifetime.expire_at(expires)
        return expires > 0

    def _check(self, lifetime: Lifetime) -> None:
        if not self._has_tenant(lifetime):
            lifetime.end(Forbidden.code, DISABLED)
        elif not self._has_credential(lifetime):
            lifetime.end(Unauthenticated.code, REVOKED)

    def recheck(self) -> None:
        """Credentials may have been revoked, or expire sooner: end the streams of those that were, in this
        turn of the loop and the next ones."""
        self._recheck(list(self._open))

    def _recheck(self, left: list[Lifetime]) -> None:
        for lifetime in left[:_CHECKED]:
            self._check(lifetime)
        if len(left) > _CHECKED:
            asyncio.get_running_loop().call_soon(self._recheck, left[_CHECKED:])

    async def reask(self) -> None:
        """End the streams whose credential was found good for some time, which has passed, and is not good
        any more; after `doubt`, of all that is not."""
        now, all_of_them = time.time(), self._in_doubt
        self._in_doubt = False
        await self._reauthenticate([one for one in self._open if all_of_them or one.is_due(now)])

    def doubt(self) -> None:
        """Keys or issuers have changed: the next `reask` is about all streams. Apart from it, because an
        issuer that is asked about their tokens may take long."""
        self._in_doubt = True

    async def _reauthenticate(self, lifetimes: list[Lifetime]) -> None:
        for number, lifetime in enumerate(lifetimes, 1):
            if not lifetime.is_over:
                try:
                    await _verify_again(lifetime)
                except IssuerUnavailable:
                    pass  # it may be good
                except (Unauthenticated, Forbidden) as error:
                    lifetime.end(error.code, REVOKED)
            if not number % _BATCH:
                await asyncio.sleep(0)


async def _verify_again(lifetime: Lifetime) -> None:
    """Whether the credential of a stream still lets in whom it let in. Raises Unauthenticated, Forbidden,
    IssuerUnavailable."""
    call = lifetime.call
    route, before = call.route, call.identity
    if route is None or route.authentication is None or before is None:
        return
    identity = await route.authentication.authenticate(call)
    if (identity.tenant, identity.subject) != (before.tenant, before.subject):
        raise Unauthenticated(REVOKED)
    access.require(route, call.method, identity)
    lifetime.verified(identity)
