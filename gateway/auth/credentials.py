"""What a request presents to say who calls, and the one memory of what was verified of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from gateway.core.errors import Unauthenticated
from gateway.core.http.head import Head
from gateway.core.jwt.verify import bearer
from gateway.core.model import Identity
from gateway.core.openmetrics import Instrument, Total

SIZE = 10_000
LENGTH = 16 * 1024 * 1024  # characters of all, or of their claims: an issuer may say more than a token holds
_METRIC = "gateway_tokens_verified"
NOBODY = "none"  # the issuer of a credential that names none that is trusted
SEVERAL = "Send one credential, and not several."
API_KEY = "api_key"  # as the issuer of keys that the gateway gave out


def presented(head: Head) -> str:
    """The credential of a request's head: a bearer token (which may be an API key), or an API key in a header
    of its own. Raises Unauthenticated."""
    if not head.api_keys:
        return bearer(head.authorization)
    if len(head.api_keys) + len(head.authorization) > 1:
        raise Unauthenticated(SEVERAL, error="invalid_request")
    return head.api_keys[0]


class Credentials:
    """Verified credentials and their identities, at most `size`, of at most `length` characters, and what
    became of all that came. now: seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time, size: int = SIZE, length: int = LENGTH) -> None:
        self._now = now
        self._size = size
        self._length = length
        self._known: dict[str, Identity] = {}
        self._sizes: dict[str, int] = {}
        self._taken = 0  # characters
        self._hits: defaultdict[str, int] = defaultdict(int)  # by issuer
        self._results: defaultdict[tuple[str, str], int] = defaultdict(int)  # by issuer and result

    def known(self, text: str) -> Identity | None:
        """The identity of a credential that was verified before and is still good; None for any other."""
        identity = self._known.get(text)
        if identity is not None:
            if identity.good_until > self._now():
                self._hits[identity.issuer] += 1
                return identity
            self._drop(text)
        return None

    def peek(self, text: str) -> Identity | None:
        """As `known`, where no access follows from it: nothing is counted, and it may have expired."""
        return self._known.get(text)

    def remember(self, text: str, identity: Identity) -> None:
        """A credential was verified."""
        self.count(identity.issuer, "verified")
        if text in self._known:
            self._drop(text)
        self._known[text] = identity
        self._sizes[text] = size = max(len(text), len(str(identity.claims)))
        self._taken += size
        while len(self._known) > self._size or self._taken > self._length:
            self._drop(next(iter(self._known)))  # the one that was verified longest ago

    def forget(self, covers: Callable[[Identity], bool]) -> bool:
        """Forget those whose identity it covers; they are verified again when they come. Gives whether there
        were any."""
        gone = [text for text, identity in self._known.items() if covers(identity)]
        for text in gone:
            self._drop(text)
        return bool(gone)

    def _drop(self, text: str) -> None:
        del self._known[text]
        self._taken -= self._sizes.pop(text)

    def count(self, issuer: str, result: str) -> None:
        """A credential that was not known came. issuer: its name in the config, NOBODY, or "" of an API key.
        result: verified, refused or unavailable."""
        self._results[issuer or API_KEY, result] += 1

    def counts(self, issuer: str) -> dict[str, int]:
        """What became of an issuer's credentials, by result, and how many are known now."""
        cached = sum(identity.issuer == issuer for identity in self._known.values())
        results = ("verified", "refused", "unavailable")
        return {
            "cached": cached,
            "hits": self._hits.get(issuer, 0),
            **{result: self._results.get((issuer or API_KEY, result), 0) for result in results},
        }

    def __len__(self) -> int:
        return len(self._known)

    def instruments(self) -> tuple[Instrument, ...]:
        """What the metrics show of it."""
        return (Total(_METRIC, "Credentials looked at.", self._totals, ("issuer", "result")),)

    def _totals(self) -> dict[tuple[str, ...], float]:
        hits = {(issuer or API_KEY, "cached"): count for issuer, count in self._hits.items()}
        return dict((*self._results.items(), *hits.items()))
