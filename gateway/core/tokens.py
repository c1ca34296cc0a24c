"""Tokens: JSON Web Tokens (RFC 7519) checked against local keys (RFC 7517), and times against `now`.

The algorithm is never the token's choice: it must be on the rule's list and equal its key's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt import PyJWK

from gateway.core.errors import Unauthenticated
from gateway.core.model import Identity, TenantId

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
_subject = re.compile(r"[\x21-\x7e]{1,200}").fullmatch
_scope = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*").fullmatch  # RFC 6749, 3.3
# Signature only: the claims are checked below, against `now` and not against the clock.
_SIGNATURE_ONLY = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_MIN_SECRET = 32  # bytes; RFC 7518 section 3.2
_MIN_RSA = 2048  # bits; RFC 7518 section 3.3


class KeySetError(ValueError):
    """A key set that cannot be used; the text says which key, why and how to mend it, never its value."""


@dataclass(frozen=True, slots=True)
class Key:
    """One verification key. Its value is never part of its repr."""

    kid: str
    algorithm: str
    material: Any = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)

    @property
    def can_sign(self) -> bool:
        """Whether the private half is here."""
        return "d" in self.jwk or self.jwk.get("kty") == "oct"


@dataclass(frozen=True, slots=True)
class TokenRule:
    """What a token must say. `leeway` in seconds, for clocks that differ."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: float = 60.0


def parse_keys(text: str, algorithms: Sequence[str] = ALGORITHMS) -> dict[str, Key]:
    """Read a JWK set; each key needs `kid` and `alg`. Gives kid -> Key. Raises KeySetError."""
    try:
        document = json.loads(text)
        entries = document["keys"]
        if not isinstance(entries, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError('it is not a JWK set: a JSON object {"keys": [...]}') from None
    keys: dict[str, Key] = {}
    for index, entry in enumerate(entries):
        key = _parse_key(entry, f"keys[{index}]", algorithms)
        if key.kid in keys:
            raise KeySetError(f"keys[{index}]: the kid {key.kid!r} is there twice")
        keys[key.kid] = key
    if not keys:
        raise KeySetError("it holds no key")
    return keys


def _parse_key(entry: Any, where: str, algorithms: Sequence[str]) -> Key:
    if not isinstance(entry, dict):
        raise KeySetError(f"{where}: a key is a JSON object")
    kid, algorithm = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str) or not kid:
        raise KeySetError(f"{where}: it has no `kid`; give each key a name")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise KeySetError(f"{where} ({kid}): `alg` must be one of {', '.join(algorithms)}")
    try:
        parsed = PyJWK.from_dict(entry, algorithm)
        material = parsed.key
        if hasattr(material, "public_key"):
            material = material.public_key()
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise KeySetError(f"{where} ({kid}): it is not a valid {algorithm} key") from None
    if algorithm == "HS256" and len(material) < _MIN_SECRET:
        raise KeySetError(f"{where} ({kid}): a HS256 secret needs at least {_MIN_SECRET} bytes")
    if algorithm == "RS256" and material.key_size < _MIN_RSA:
        raise KeySetError(f"{where} ({kid}): a RS256 key needs at least {_MIN_RSA} bits")
    if algorithm == "ES256" and entry.get("crv") != "P-256":
        raise KeySetError(f"{where} ({kid}): an ES256 key lies on the curve P-256")
    if algorithm == "EdDSA" and entry.get("crv") != "Ed25519":
        raise KeySetError(f"{where} ({kid}): an EdDSA key lies on the curve Ed25519")
    return Key(kid, algorithm, material, entry)


def bearer(values: Sequence[str]) -> str:
    """The token of a request's Authorization headers (RFC 6750 section 2.1). Raises Unauthenticated."""
    if len(values) != 1:
        raise Unauthenticated("Send one Authorization header: Bearer and a token.")
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send the token as Authorization: Bearer.")
    return token


def verify(token: str, keys: Mapping[str, Key], rule: TokenRule, now: float) -> Identity:
    """Who the token says is calling. Raises Unauthenticated with the reason, never with the token."""
    if not token.isascii():
        raise Unauthenticated("The token is not a JSON Web Token.")
    try:
        algorithm, kid = _header(token)
        key = _key_for(kid, keys)
        if algorithm != key.algorithm or key.algorithm not in rule.algorithms:
            raise Unauthenticated("The token's algorithm is not its key's, or is not allowed.")
        claims = jwt.decode(token, key.material, algorithms=[key.algorithm], options=_SIGNATURE_ONLY)  # type: ignore[arg-type]
    except jwt.InvalidSignatureError:
        raise Unauthenticated("The token's signature is not valid.") from None
    except jwt.PyJWTError:
        raise Unauthenticated("The token is not a JSON Web Token.") from None
    _check_times(claims, rule, now)
    _check_parties(claims, rule)
    return _identity(claims)


_headers: dict[str, tuple[Any, Any]] = {}
_MAX_HEADERS = 256


def _header(token: str) -> tuple[Any, Any]:
    """What a token's header says of its algorithm and key. All tokens of a key share one header, so it is
    remembered: PyJWT takes 26 µs for it, of 41 µs for the whole of a token with HS256 (measured)."""
    segment = token.partition(".")[0]
    known = _headers.get(segment)
    if known is None:
        header = jwt.get_unverified_header(token)
        known = header.get("alg"), header.get("kid")
        if len(segment) <= 512:
            if len(_headers) >= _MAX_HEADERS:
                _headers.clear()
            _headers[segment] = known
    return known


def _key_for(kid: Any, keys: Mapping[str, Key]) -> Key:
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise Unauthenticated("The token names no key that is known here.")
    return key


def _check_times(claims: Mapping[str, Any], rule: TokenRule, now: float) -> None:
    expires = _number(claims, "exp")
    if expires is None:
        raise Unauthenticated("The token has no `exp`.")
    if expires <= now - rule.leeway:
        raise Unauthenticated("The token has expired.")
    for name in ("nbf", "iat"):
        moment = _number(claims, name)
        if moment is not None and moment > now + rule.leeway:
            raise Unauthenticated(f"The token is not valid yet (`{name}` lies in the future).")


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise Unauthenticated(f"The token's `{name}` is not a number of seconds.")
    return float(value)


def _check_parties(claims: Mapping[str, Any], rule: TokenRule) -> None:
    if claims.get("iss") != rule.issuer:
        raise Unauthenticated("The token's issuer is not the one trusted here.")
    audience = claims.get("aud")
    if audience != rule.audience and not (isinstance(audience, list) and rule.audience in audience):
        raise Unauthenticated("The token is for another audience.")


def _identity(claims: Mapping[str, Any]) -> Identity:
    """Claims become header values, so each is validated (or the token is refused)."""
    tenant, subject, scope = claims.get("tenant"), claims.get("sub"), claims.get("scope", "")
    try:
        tenant_id = TenantId(tenant if isinstance(tenant, str) else "")
    except ValueError:
        raise Unauthenticated("The token's `tenant` is missing or not a tenant's name.") from None
    if not isinstance(subject, str) or not _subject(subject):
        raise Unauthenticated("The token's `sub` must be 1 to 200 visible ASCII characters.")
    if not isinstance(scope, str) or (scope and not _scope(scope)):
        raise Unauthenticated("The token's `scope` must be names separated by single spaces.")
    return Identity(tenant_id, subject, frozenset(scope.split()), float(claims["exp"]), scope)


def sign(claims: Mapping[str, Any], key: Key) -> str:
    """A signed token with these claims. Raises KeySetError when the key has no private half."""
    if not key.can_sign:
        raise KeySetError(f"the key {key.kid!r} has no private half, so it cannot sign")
    private = PyJWK.from_dict(dict(key.jwk), key.algorithm).key
    return jwt.encode(dict(claims), private, algorithm=key.algorithm, headers={"kid": key.kid})
