"""Clients that sign instead of sending a secret: private_key_jwt (RFC 7523 sections 2.2 and 3).

An assertion is good for minutes, for this gateway alone, and once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.auth.oauth.errors import OAuthError
from gateway.core.errors import Saturated, Unauthenticated
from gateway.core.jwt.keys import KeySet
from gateway.core.jwt.verify import MAX_TIME, Token, parse

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 300.0  # seconds that one may be good for
LEEWAY = 60.0  # seconds, for clocks that differ
REMEMBERED = LONGEST + 2 * LEEWAY  # seconds that a used one is remembered
_MOST = 100_000  # that are remembered
_MAX_JTI = 256


class Assertions:
    """Checks assertions, and remembers them while they could be used again. audiences: what we are called in
    `aud`."""

    def __init__(self, audiences: Sequence[str]) -> None:
        self._audiences = frozenset(audiences)
        # Those since `_began`, and those before: what is in neither has expired.
        self._seen: set[tuple[str, str]] = set()
        self._before: set[tuple[str, str]] = set()
        self._began = 0.0

    def __len__(self) -> int:
        return len(self._seen) + len(self._before)

    def client(self, text: str, keys: Callable[[str], KeySet | None], now: float) -> tuple[str, str]:
        """The client that signed an assertion, and the `jti` of it. keys: those that a client has registered,
        None for an unknown one. now: seconds since the epoch. Raises OAuthError, Saturated."""
        try:
            token = parse(text)
        except Unauthenticated as error:
            raise refused(error.detail.replace("The token", "It")) from None
        claims = token.claims
        client = claims.get("sub")
        if not isinstance(client, str) or claims.get("iss") != client:
            raise refused("Its `iss` and its `sub` are to be the client_id.")
        registered = keys(client)
        if registered is None or not _is_signed(token, registered):
            raise refused("Its client has registered no key that verifies it.")
        self._check_audience(claims.get("aud"))
        _check_times(claims, now)
        return client, self._use(client, claims.get("jti"), now)

    def _check_audience(self, audience: Any) -> None:
        """One alone: who is one of several could use it at the others."""
        named = audience if isinstance(audience, list) else [audience]
        if len(named) != 1 or named[0] not in self._audiences:
            raise refused("Its `aud` is to be this gateway's issuer, or its token endpoint, alone.")

    def _use(self, client: str, jti: Any, now: float) -> str:
        if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
            raise refused("It has no `jti`, a text that no other one has.")
        if now - self._began > REMEMBERED:
            idle = now - self._began > 2 * REMEMBERED
            self._before, self._seen, self._began = set() if idle else self._seen, set(), now
        if (client, jti) in self._seen or (client, jti) in self._before:
            raise used_before()
        if len(self._seen) >= _MOST:
            raise Saturated("Too many clients have shown assertions.", retry_after=LONGEST)
        self._seen.add((client, jti))
        return jti


def _is_signed(token: Token, keys: KeySet) -> bool:
    candidates = keys.candidates(token.kid, token.algorithm) or ()
    return any(key.verifies(token.algorithm, token.message, token.signature) for key in candidates)


def _check_times(claims: Any, now: float) -> None:
    expires = _number(claims.get("exp"))
    if expires is None or expires <= now - LEEWAY:
        raise refused("It has expired, or has no `exp`.")
    if expires > now + LONGEST + LEEWAY:
        raise refused(f"Its `exp` is to be within {LONGEST:g} s.")
    for name in ("nbf", "iat"):
        moment = _number(claims.get(name, 0.0))
        if moment is None or moment > now + LEEWAY:
            raise refused(f"Its `{name}` lies in the future, or is no number.")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_TIME:
        return None
    return float(value)


def refused(why: str) -> OAuthError:
    """The refusal of an assertion."""
    return OAuthError("invalid_client", f"The client assertion is refused. {why}")


def used_before() -> OAuthError:
    """The refusal of one that was used."""
    return refused("It was used before (`jti`).")
