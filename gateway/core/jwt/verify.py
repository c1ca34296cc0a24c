"""Tokens: JSON Web Tokens (RFC 7519) checked against local keys, and times against `now`.

The algorithm is never the token's choice: it must be pinned, and one that the key may do. A token has one
spelling: each part is canonical base64url without padding (RFC 7515 section 2), and header and claims are
objects of strict JSON without a member twice (RFC 8725 section 2.4), so that nobody reads another token than
we do, and a client that has one token cannot make many of it for the cache of verified tokens. (An ECDSA
signature has a mirror image, so such a token has two.)
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from typing import Any

from gateway.core.errors import Unauthenticated
from gateway.core.jwt.keys import ALGORITHMS, KeySet
from gateway.core.model import Identity, TenantId

_subject = re.compile(r"[\x21-\x7e]{1,200}").fullmatch
_scope = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*").fullmatch  # RFC 6749, 3.3
_NO_TOKEN = "The token is not a JSON Web Token."  # noqa: S105 - a sentence
# Each of them changes what is signed or how it is read, and none is understood here (RFC 7515 section 4.1.11,
# RFC 7797, RFC 7516).
_NOT_UNDERSTOOD = ("crit", "b64", "zip", "enc")


@dataclass(frozen=True, slots=True)
class TokenRule:
    """What a token must say. `leeway` in seconds, for clocks that differ."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: float = 60.0


def bearer(values: Sequence[str]) -> str:
    """The token of a request's Authorization headers (RFC 6750 section 2.1). Raises Unauthenticated."""
    if len(values) > 1:
        raise Unauthenticated("Send one Authorization header: Bearer and a token.", error="invalid_request")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    token = token.strip(" \t")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send the token as Authorization: Bearer.", error="")
    return token


def verify(token: str, keys: KeySet, rule: TokenRule, now: float) -> Identity:
    """The identity that the token states. Raises Unauthenticated with the reason, never with the token."""
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise Unauthenticated(_NO_TOKEN)
    algorithm, kid = _header(parts[0])
    if algorithm not in rule.algorithms:
        raise Unauthenticated("The token's algorithm is not allowed.")
    candidates = keys.candidates(kid, algorithm)
    if candidates is None:
        raise Unauthenticated("The token names no key that is known here.")
    if not candidates:
        raise Unauthenticated("The token's algorithm is not its key's.")
    payload, signature = _decoded(parts[1]), _decoded(parts[2])
    message = token[: -1 - len(parts[2])].encode()
    if not any(key.verifies(algorithm, message, signature) for key in candidates):
        raise Unauthenticated("The token's signature is not valid.")
    claims = _object(payload)
    _check_times(claims, rule, now)
    _check_parties(claims, rule)
    return _identity(claims)


def _decoded(part: str) -> bytes:
    """A part of a token. Raises Unauthenticated unless it is the one spelling of its bytes: the decoder
    skips what is not of its alphabet and ignores bits left over, so its result must give the part again."""
    try:
        raw = urlsafe_b64decode(part + "==")
    except ValueError:
        raise Unauthenticated(_NO_TOKEN) from None
    if urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise Unauthenticated(_NO_TOKEN)
    return raw


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member is there twice")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError("it is no number that others read as well")
    return value


_json = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant, parse_float=_float)


def _object(raw: bytes) -> dict[str, Any]:
    """An object of strict JSON in UTF-8. Raises Unauthenticated."""
    try:
        found = _json.decode(raw.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unauthenticated(_NO_TOKEN)
    return found


_headers: dict[str, tuple[str, str | None]] = {}
_MAX_HEADERS = 256


def _header(part: str) -> tuple[str, str | None]:
    """What a token's header says of its algorithm and key. All tokens of a key share one header, so it is
    remembered. Raises Unauthenticated."""
    known = _headers.get(part)
    if known is None:
        known = _parse_header(_object(_decoded(part)))
        if len(part) <= 512:
            if len(_headers) >= _MAX_HEADERS:
                _headers.clear()
            _headers[part] = known
    return known


def _parse_header(header: Mapping[str, Any]) -> tuple[str, str | None]:
    algorithm, kid, content = header.get("alg"), header.get("kid"), header.get("cty", "")
    if not isinstance(algorithm, str) or not (isinstance(kid, str) or "kid" not in header):
        raise Unauthenticated(_NO_TOKEN)
    for name in _NOT_UNDERSTOOD:
        if name in header:
            raise Unauthenticated(f"The token's header holds `{name}`, which is not understood here.")
    if not isinstance(content, str) or content.lower().removeprefix("application/") == "jwt":
        raise Unauthenticated("The token holds another token (`cty`), which is not understood here.")
    return algorithm, kid


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
