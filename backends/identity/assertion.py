"""X-Gateway-Identity: what the gateway signs of a request's caller, for one application and a minute.

A JWT (RFC 7519) whose algorithm and `typ` are fixed, so that no other token can stand in its place. Without
`tenant` and `sub` nobody calls (a public route). One with `htm` and `target` is for the request that they
name alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import time
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import jwt

from .identity import ANONYMOUS, Headers, Identity, IdentityInvalid, IdentityMissing, identity_of
from .keys import KeySource, source
from .settings import Settings, SettingsInvalid

logger = logging.getLogger(__name__)

HEADER = "X-Gateway-Identity"
TYPE = "gateway-identity+jwt"
_MAX_LENGTH = 32 * 1024
_WARN_AGAIN = 60.0  # seconds: a setting that is wrong is wrong in each request
_REMEMBERED = 1024  # verified ones, each of which comes again and again for half a minute


class Incoming(NamedTuple):
    """What a request is, to the one who lets it in. path: decoded, with what the server took off in front.
    query: as it came. peer: the address that has connected, "" for a unix socket. root: what the server has
    put before the path of the request line (ASGI's root_path)."""

    headers: Headers
    method: str
    path: bytes
    query: bytes
    peer: str
    root: bytes = b""


class KeyUnknown(Exception):
    """It names a key that is not here, or not yet: refresh the keys, and try again."""


class Assertions:
    """Verifies them. now: seconds since the epoch. Raises SettingsInvalid."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time) -> None:
        self._settings = settings
        self._now = now
        self._verified: dict[str, tuple[Identity, float]] = {}
        self._warned: dict[str, float] = {}
        try:
            self.keys: KeySource = source(settings.keys)
        except ValueError as error:
            raise SettingsInvalid(f"GATEWAY_IDENTITY_KEYS is {error}.") from None

    def verify(self, request: Incoming) -> Identity:
        """Who calls, ANONYMOUS for nobody. Raises IdentityError, whose text is for the caller and echoes
        nothing, and KeyUnknown."""
        values = request.headers(HEADER)
        if len(values) != 1:
            raise IdentityMissing(
                f"The header {HEADER} must be there once. This application answers only what comes through "
                "the gateway, which sets it: call the gateway instead."
            )
        known = self._verified.get(values[0])
        if known is not None and known[1] > self._now():
            return known[0]
        claims = self._claims(values[0])
        if claims.keys() & {"htm", "target"}:
            _check_bound(claims, request)
            return _identity(claims)
        identity = _identity(claims)
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[values[0]] = identity, claims["exp"]
        return identity

    def _claims(self, text: str) -> Mapping[str, Any]:
        if len(text) > _MAX_LENGTH:
            raise _invalid("is not valid")
        try:
            header = jwt.get_unverified_header(text)
            fixed = (header.get("typ"), header.get("alg"))
            if fixed != (TYPE, "EdDSA") or header.keys() != {"typ", "alg", "kid"}:
                raise _invalid("is another kind of token")
            key = self.keys.get(header["kid"])
            if key is None:
                raise KeyUnknown
            return jwt.decode(
                text,
                key,
                ["EdDSA"],
                {"require": ["iss", "aud", "iat", "exp"], "strict_aud": True},
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway,
            )
        except jwt.ExpiredSignatureError:
            raise _invalid("has expired: it is good for a minute, if the clocks agree") from None
        except jwt.InvalidAudienceError:
            self._warn("is for", "aud", text, "AUDIENCE", self._settings.audience)
            raise _elsewhere("for another application", "AUDIENCE") from None
        except jwt.InvalidIssuerError:
            self._warn("is by", "iss", text, "ISSUER", self._settings.issuer)
            raise _elsewhere("of another gateway", "ISSUER") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _invalid("is not valid") from None

    def _warn(self, what: str, claim: str, text: str, setting: str, value: str) -> None:
        """Say what the gateway signed and what this application was told. text: its signature is verified, as
        PyJWT does before it looks at a claim."""
        now = self._now()
        if 0 <= now - self._warned.get(setting, -_WARN_AGAIN) < _WARN_AGAIN:
            return
        self._warned[setting] = now
        signed = jwt.decode(text, options={"verify_signature": False}).get(claim)
        logger.warning(
            "Refused: what the gateway signed %s %.100s, and GATEWAY_IDENTITY_%s is %.100s",
            what, ascii(signed), setting, ascii(value),
        )  # fmt: skip


def _elsewhere(what: str, setting: str) -> IdentityInvalid:
    return _invalid(
        f"is {what}, or this application's GATEWAY_IDENTITY_{setting} is wrong: see its log"
    )


def _invalid(what: str) -> IdentityInvalid:
    return IdentityInvalid(f"The header {HEADER} {what}. Call the gateway, which makes it for each request.")


def _identity(claims: Mapping[str, Any]) -> Identity:
    said = [claims.get(name) for name in ("tenant", "sub")]
    if said == [None, None]:
        return ANONYMOUS
    tenant, subject, scope = *said, claims.get("scope", "")
    if not (isinstance(tenant, str) and isinstance(subject, str) and isinstance(scope, str)):
        raise _invalid("says who calls in half")
    return identity_of(tenant, subject, scope)


def _check_bound(claims: Mapping[str, Any], request: Incoming) -> None:
    """An application sees the path decoded, so that is what has to be the same; the query byte for byte."""
    method, target = claims.get("htm"), claims.get("target")
    if isinstance(method, str) and isinstance(target, str):
        raw, _, query = target.encode("utf-8", "surrogateescape").partition(b"?")
        path = unquote_to_bytes(raw)
        same = request.path in (path, request.root + path) and request.query == query
        if same and request.method == method:
            return
    raise _invalid("is for another request")
