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
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isinf
from typing import Any

from gateway.core.api_keys import is_api_key
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.claims import one_value, scope_names, template
from gateway.core.jwt.issuer import Introspection, Issuer, TenantRule
from gateway.core.jwt.keys import KeySet, base64url, is_pinned
from gateway.core.model import SUBJECT_PATTERN, Identity, TenantId

MAX_TOKEN = 16 * 1024  # characters
MAX_SCOPES = 8 * 1024  # characters of all scopes together: they are one header value for a backend
MAX_TIME = 253_402_300_800  # seconds since the epoch: the end of year 9999. Milliseconds of today are beyond
_word = re.compile(SUBJECT_PATTERN).fullmatch
# Each of them changes what is signed or how it is read, and none is understood here (RFC 7515 section 4.1.11,
# RFC 7797, RFC 7516).
_NOT_UNDERSTOOD = ("crit", "b64", "zip", "enc")
_TYPES = ("jwt", "at+jwt")  # RFC 7519 section 5.1, RFC 9068 section 2.1
UNTRUSTED = "The token's issuer (`iss`) is none that is trusted here, letter for letter."
_ENCRYPTED = "The token is encrypted (it has five parts); its issuer must be told to only sign it."


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it came: nothing that it says is true yet.

    message: the bytes that are signed.
    """

    algorithm: str
    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)
    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def bearer(values: Sequence[str]) -> str:
    """The token of a request's Authorization headers (RFC 6750 section 2.1). Raises Unauthenticated."""
    if len(values) > 1:
        raise Unauthenticated("Send one Authorization header: Bearer and a token.", error="invalid_request")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    token = token.strip(" \t")
    if scheme.lower() != "bearer" or not token:
        if is_api_key(token or scheme):
            raise Unauthenticated("In Authorization, write Bearer before the API key.", error="")
        hint = "Send the credential as Authorization: Bearer, or an API key as X-API-Key."
        raise Unauthenticated(hint, error="")
    return token


def verify(text: str, keys: KeySet, issuer: Issuer, now: float) -> Identity:
    """The identity that a token states. Raises Unauthenticated with the reason, never with the token."""
    return verify_token(parse(text), keys, issuer, now)


def parse(text: str) -> Token:
    """A token in the compact form (RFC 7515 section 3.1), before any key is looked at. Raises
    Unauthenticated."""
    parts = text.split(".", 5)
    if len(parts) != 3:
        raise Unauthenticated(_ENCRYPTED if len(parts) == 5 else _malformed("has not three parts"))
    if len(text) > MAX_TOKEN:
        raise Unauthenticated(f"The token is longer than {MAX_TOKEN // 1024} KiB.")
    if not text.isascii():
        raise Unauthenticated(_malformed("holds characters that are not ASCII"))
    algorithm, kid = _header(parts[0])
    claims = _object(_decoded(parts[1], "payload"), "payload")
    message = text[: -1 - len(parts[2])].encode()
    return Token(algorithm, kid, claims, message, _decoded(parts[2], "signature"))


def verify_token(token: Token, keys: KeySet, issuer: Issuer, now: float) -> Identity:
    """The identity that the token states, where its issuer's keys verify it. Raises Unauthenticated; its
    `reason` says where newer keys might."""
    _check_issuer(token.claims, issuer)
    if not is_pinned(token.algorithm, issuer.algorithms):
        raise Unauthenticated("The token's algorithm (`alg`) is not allowed for its issuer.")
    candidates = keys.candidates(token.kid, token.algorithm)
    if candidates is None:
        raise Unauthenticated("The token names no key that is known here.", reason="unknown_key")
    if not candidates:
        raise Unauthenticated("The token's algorithm is not its key's.", reason="unknown_key")
    live = (key for key in candidates if not key.is_retired(now))
    signer = next((k for k in live if k.verifies(token.algorithm, token.message, token.signature)), None)
    if signer is None:
        raise Unauthenticated("The token's signature is not valid.", reason="bad_signature")
    identity = identity_of(token.claims, issuer, now)
    # It is known until then, and its key may end before.
    return replace(identity, good_until=signer.retires) if signer.retires < identity.good_until else identity


def _malformed(what: str) -> str:
    return f"The token is not a JSON Web Token: it {what}."


def _decoded(part: str, name: str) -> bytes:
    """A part of a token. Raises Unauthenticated unless it is the one spelling of its bytes: the decoder
    skips what is not of its alphabet and ignores bits left over, so its result must give the part again."""
    try:
        raw = urlsafe_b64decode(part + "==")
    except ValueError:
        raw = None
    if raw is None or base64url(raw) != part.encode():
        raise Unauthenticated(_malformed(f"has a {name} that is not base64url (no padding, no spaces)"))
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


def _object(raw: bytes, name: str) -> dict[str, Any]:
    """An object of strict JSON in UTF-8. Raises Unauthenticated."""
    try:
        text = raw.decode()
        found = _json.decode(text)
        if "\\ud" in text.lower():  # half a character (RFC 8259 section 8.2) could not be written again
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        how = "no member twice, every number finite, nothing around it"
        raise Unauthenticated(_malformed(f"has a {name} that is not one JSON object ({how})"))
    return found


_headers: dict[str, tuple[str, str | None]] = {}
_MAX_HEADERS = 256


def _header(part: str) -> tuple[str, str | None]:
    """What a token's header says of its algorithm and key. All tokens of a key share one header, so it is
    remembered. Raises Unauthenticated."""
    known = _headers.get(part)
    if known is None:
        known = _parse_header(_object(_decoded(part, "header"), "header"))
        if len(part) <= 512:
            if len(_headers) >= _MAX_HEADERS:
                _headers.clear()
            _headers[part] = known
    return known


def _parse_header(header: Mapping[str, Any]) -> tuple[str, str | None]:
    algorithm, kid, content = header.get("alg"), header.get("kid"), header.get("cty", "")
    if not isinstance(algorithm, str):
        raise Unauthenticated(_malformed("has a header without `alg`"))
    if not isinstance(kid, str) and "kid" in header:
        raise Unauthenticated(_malformed("has a header whose `kid` is not a text"))
    for name in _NOT_UNDERSTOOD:
        if name in header:
            raise Unauthenticated(f"The token's header holds `{name}`, which is not understood here.")
    if not isinstance(content, str) or _media_type(content) == "jwt":
        raise Unauthenticated("The token holds another token (`cty`), which is not understood here.")
    kind = header.get("typ", "jwt")
    if not isinstance(kind, str) or _media_type(kind) not in _TYPES:
        raise Unauthenticated(
            "The token's `typ` is neither JWT nor at+jwt: it is not made to call an API with."
        )
    return algorithm, kid


def _media_type(text: str) -> str:
    """The name of a `typ` or `cty`, which may leave out what all begin with (RFC 7515 section 4.1.9)."""
    return text.lower().removeprefix("application/")


def identity_of(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Identity:
    """The identity that an issuer's claims state, whether they were signed or come from introspection;
    there `iss`, `aud` and `exp` may be missing (RFC 7662 section 2.2), and a result counts for a while:
    without `exp` until the issuer says otherwise.
    Claims become header values, so each is validated. Raises Unauthenticated."""
    keep = issuer.keys.keep if isinstance(issuer.keys, Introspection) else None
    if keep is None or "iss" in claims:
        _check_issuer(claims, issuer)
    expires = _check_times(claims, issuer, now, None if keep is None else float(MAX_TIME))
    if keep is None or "aud" in claims:
        check_audience(claims, issuer)
    tenant = tenant_of(claims, issuer)
    subject = one_value(claims, issuer.claims.subject)
    if not _word(subject):
        path = template(issuer.claims.subject)[1]
        raise Unauthenticated(f"The token's `{path}` must be 1 to 200 visible ASCII characters.")
    scopes = scope_names(claims, issuer.claims.scopes)
    text = " ".join(scopes)
    if len(text) > MAX_SCOPES:
        raise Unauthenticated(f"The token's scopes take more than {MAX_SCOPES // 1024} KiB: ask for fewer.")
    good_until = expires + issuer.leeway
    identifier = claims.get("jti")
    return Identity(
        tenant,
        subject,
        frozenset(scopes),
        expires,
        text,
        issuer=issuer.name,
        kind="jwt",
        credential_id=identifier if isinstance(identifier, str) and _word(identifier) else "",
        issued=_number(claims, "iat") or 0.0,
        good_until=good_until if keep is None else min(good_until, now + keep),
        claims=claims,
    )


def _check_issuer(claims: Mapping[str, Any], issuer: Issuer) -> None:
    if claims.get("iss") != issuer.issuer:
        raise Unauthenticated(UNTRUSTED)


def _check_times(claims: Mapping[str, Any], issuer: Issuer, now: float, without: float | None) -> float:
    """When the token expires. without: what counts where it does not say."""
    expires = _number(claims, "exp")
    if expires is None:
        expires = without
    if expires is None:
        raise Unauthenticated("The token has no `exp`.")
    if expires + issuer.leeway <= now:
        raise Unauthenticated("The token has expired.")
    for name in ("nbf", "iat"):
        moment = _number(claims, name)
        if moment is not None and moment > now + issuer.leeway:
            raise Unauthenticated(f"The token is not valid yet (`{name}` lies in the future).")
    return expires


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_TIME:
        raise Unauthenticated(f"The token's `{name}` is not a number of seconds since 1970.")
    return float(value)


def check_audience(claims: Mapping[str, Any], issuer: Issuer) -> None:
    """That the token is for us. Raises Unauthenticated."""
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(name in issuer.audiences for name in named):
        wanted = " or ".join(f"`{name}`" for name in issuer.audiences)
        raise Unauthenticated(f"The token is for another audience: its `aud` must hold {wanted}.")


def tenant_of(claims: Mapping[str, Any], issuer: Issuer) -> TenantId:
    """The tenant that the token is of, where its issuer may speak for it. Raises Unauthenticated."""
    rule = issuer.tenants
    if rule.fixed:
        return TenantId(rule.fixed)
    path = template(issuer.claims.tenant)[1]
    try:
        tenant = TenantId(one_value(claims, issuer.claims.tenant))
    except ValueError:
        raise Unauthenticated(
            f"The token's `{path}` is not a tenant's name: 1 to 63 of a-z, 0-9 and -, the first no -."
        ) from None
    if not _may_speak_for(rule, tenant.value):
        raise Unauthenticated(f"The token's issuer may not speak for the tenant in its `{path}`.")
    return tenant


def _may_speak_for(rule: TenantRule, tenant: str) -> bool:
    return rule.any or tenant in rule.names or tenant.startswith(rule.prefixes)
