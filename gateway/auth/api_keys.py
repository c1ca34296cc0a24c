"""The API keys that are good now, all of them in memory: no file is looked at while a request is served."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache

from gateway.core import api_keys
from gateway.core.api_keys import HOUR, ApiKey, KeySecret
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.keys import KeySet, parse_keys
from gateway.core.model import Identity

# What the owner of a key may sign assertions with (RFC 7523): never a secret, that is what the key has.
SIGNING_ALGORITHMS = ("EdDSA", "ES256", "ES384", "ES512", "PS256", "RS256")
REVOKED = "The credential was revoked."


def new_key(
    tenant: str, subject: str, scopes: str, name: str, lasts: float, by: str, now: float
) -> tuple[ApiKey, str]:
    """A new key, and its text, which nobody can make from it again. lasts: seconds, FOREVER for no expiry.
    Raises ValueError."""
    api_keys.check(tenant, subject, scopes, name)
    id_ = api_keys.base62(secrets.randbelow(62**api_keys.ID_LENGTH), api_keys.ID_LENGTH)
    text, digest = new_secret(id_)
    secret = KeySecret(digest, now, min(now + lasts, api_keys.FOREVER))
    return ApiKey(id_, tenant, subject, scopes, name, now, by, (secret,)), text


def new_secret(id_: str) -> tuple[str, bytes]:
    """The text of a key with a new secret, and the digest of the secret."""
    text = api_keys.compose(id_, secrets.randbits(api_keys.SECRET_BITS))
    return text, api_keys.split(text)[1]


@lru_cache(maxsize=1024)
def public_keys(jwks: str) -> KeySet:
    """The keys of a JWK set that verify assertions. Raises KeySetError."""
    return parse_keys(jwks, SIGNING_ALGORITHMS)


class ApiKeys:
    """The keys of the store, as this process has them. is_revoked: whether a revocation covers an
    identity."""

    def __init__(self, is_revoked: Callable[[Identity], bool]) -> None:
        self._is_revoked = is_revoked
        self._keys: Mapping[str, ApiKey] = {}
        self._used: dict[str, float] = {}

    def take(self, keys: Mapping[str, ApiKey]) -> None:
        """These are the keys from now on, by their ids."""
        self._keys = keys

    def identity(self, text: str, now: float) -> Identity:
        """Who calls with this key. now: seconds since the epoch. Raises Unauthenticated, never with the
        key."""
        id_, digest = api_keys.split(text)
        key = self._keys.get(id_)
        if key is None:
            raise api_keys.unknown()
        return self._noted(key, api_keys.identity(key, digest, now), now)

    def _noted(self, key: ApiKey, identity: Identity, now: float) -> Identity:
        """The identity, if nothing covers it; and that its key is used."""
        if self._is_revoked(identity):
            raise Unauthenticated(REVOKED)
        hour = now - now % HOUR
        if key.used < hour:
            self._used[key.id] = hour
        return identity

    def signing(self, id_: str, now: float) -> Identity:
        """Who calls as the owner of a key who has signed with a private key of his own, in place of its
        newest secret. now: seconds since the epoch. Raises Unauthenticated."""
        key = self._keys.get(id_)
        if key is None:
            raise api_keys.unknown()
        return self._noted(key, api_keys.identity(key, key.secrets[0].digest, now), now)

    def registered(self, id_: str) -> KeySet | None:
        """The public keys that the owner of a key signs with; None without any."""
        key = self._keys.get(id_)
        return public_keys(key.jwks) if key is not None and key.jwks else None

    def until(self, identity: Identity) -> float:
        """When an identity of a key ends, as the key is now: 0.0 when its secret, or the key, is gone."""
        key = self._keys.get(identity.credential_id)
        return key.until(identity.issued) if key is not None else 0.0

    def used(self) -> dict[str, float]:
        """Which keys were used since the last time that this was asked, and in which hour (seconds since the
        epoch)."""
        used, self._used = self._used, {}
        return used
