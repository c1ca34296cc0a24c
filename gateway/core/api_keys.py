"""API keys as text and as records.

A key is `gw_<id>_<secret><checksum>`, all of base62 (`PATTERN`): so a scanner of secrets recognises it, and
one that was mistyped or cut off is refused before anything is looked up.

The checksum is the CRC-32 of all before it, as in GitHub's tokens; it proves nothing, the secret of 256 bits
does. Of the secret only the SHA-256 is kept: it is random, so there is nothing to guess that a slow hash
would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

from gateway.core.errors import Unauthenticated
from gateway.core.model import SUBJECT_PATTERN, Identity, TenantId
from gateway.core.routing.names import SCOPE

PREFIX = "gw_"
PATTERN = r"gw_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}"
SECRET_BITS = 256
ID_LENGTH, _SECRET_LENGTH, _CHECK_LENGTH = 10, 43, 6  # digits; 62**43 > 2**256 and 62**6 > 2**32
FOREVER = 253402300799.0  # when a key without an expiry expires: the last second of the year 9999
DEFAULT_LIFE, DEFAULT_OVERLAP = "90d", "7d"  # of a new secret, and of those before it when it is rotated
HOUR = 3600.0  # of when a key was used, only the hour is kept

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_key = re.compile(PATTERN, re.ASCII).fullmatch
_subject = re.compile(SUBJECT_PATTERN).fullmatch
_scopes = re.compile(rf"{SCOPE}(?: {SCOPE})*").fullmatch
_MAX_SCOPES = 4096
_MAX_NAME = 200
_id_in = re.compile(rf"(?:{PREFIX})?([0-9A-Za-z]{{10}})(?:_.*)?", re.ASCII | re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class KeySecret:
    """One secret of a key; a rotation adds one. digest: its SHA-256. created, until: seconds since the epoch;
    it is good before `until`."""

    digest: bytes = field(repr=False)
    created: float
    until: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that the gateway gave out. scopes: separated by single spaces. secrets: at least one, the newest
    first. created, revoked, used: seconds since the epoch, 0.0 for never; used: to the hour. by: who made
    it. jwks: the public keys that its owner signs with, as a JWK set; "" without."""

    id: str
    tenant: str
    subject: str
    scopes: str
    name: str
    created: float
    by: str
    secrets: tuple[KeySecret, ...]
    revoked: float = 0.0
    used: float = 0.0
    jwks: str = ""

    @property
    def expires(self) -> float:
        """When its newest secret expires; FOREVER when it does not."""
        return self.secrets[0].until

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked:
            return "revoked"
        return "active" if self.expires > now else "expired"

    def until(self, issued: float) -> float:
        """When its secret that was created at `issued` ends; 0.0 when there is none, or the key is
        revoked."""
        if self.revoked:
            return 0.0
        return next((secret.until for secret in self.secrets if secret.created == issued), 0.0)


def is_api_key(text: str) -> bool:
    """Whether a credential claims to be a key of ours."""
    return text.startswith(PREFIX)


def base62(number: int, length: int) -> str:
    """The number in so many digits."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def compose(id_: str, secret: int) -> str:
    """The key with this id and this secret (a random number of SECRET_BITS)."""
    text = f"{PREFIX}{id_}_{base62(secret, _SECRET_LENGTH)}"
    return text + _checksum(text)


def _checksum(text: str) -> str:
    return base62(zlib.crc32(text.encode()), _CHECK_LENGTH)


def split(text: str) -> tuple[str, bytes]:
    """The id of a key, and the digest of its secret. Raises Unauthenticated where it is no whole key."""
    if not _key(text) or not hmac.compare_digest(text[-_CHECK_LENGTH:], _checksum(text[:-_CHECK_LENGTH])):
        raise Unauthenticated("The API key is mistyped or cut off: its checksum does not fit.")
    start = len(PREFIX) + ID_LENGTH + 1
    digest = hashlib.sha256(text[start : start + _SECRET_LENGTH].encode()).digest()
    return text[len(PREFIX) : len(PREFIX) + ID_LENGTH], digest


def id_in(text: str) -> str:
    """The id, for what an operator names a key by: the id, with or without its prefix, or a whole key. Raises
    ValueError, without the text: it may be a secret."""
    found = _id_in(text.strip())
    if found is None:
        raise ValueError("this is no id of an API key; `gateway keys list` shows them")
    return found[1]


def identity(key: ApiKey, digest: bytes, now: float) -> Identity:
    """Who calls with this secret of the key. It is good until the hour is over, so that the next use of the
    key is noticed then. Raises Unauthenticated."""
    found = None
    for secret in key.secrets:
        if hmac.compare_digest(secret.digest, digest):
            found = secret
    if found is None:
        raise unknown()
    if key.revoked:
        raise Unauthenticated("The API key was revoked.")
    if found.until <= now:
        replaced = found is not key.secrets[0]
        raise Unauthenticated(f"The API key {'was replaced by a new one' if replaced else 'has expired'}.")
    return Identity(
        TenantId(key.tenant),
        key.subject,
        frozenset(key.scopes.split()),
        found.until,
        key.scopes,
        kind="api_key",
        credential_id=key.id,
        issued=found.created,
        good_until=min(found.until, now - now % HOUR + HOUR),
    )


def check(tenant: str, subject: str, scopes: str, name: str) -> None:
    """That a key can be for these. Raises ValueError."""
    TenantId(tenant)
    if not _subject(subject):
        raise ValueError("a subject has 1 to 200 visible ASCII characters and no space")
    if scopes and not (_scopes(scopes) and len(scopes) <= _MAX_SCOPES):
        raise ValueError("scopes are names of visible ASCII characters, separated by single spaces")
    if not (name.isprintable() and len(name) <= _MAX_NAME):
        raise ValueError(f"a key's name may have {_MAX_NAME} characters, none of them a control character")


def view(key: ApiKey, now: float) -> dict[str, Any]:
    """What may be shown of a key, as JSON has it; times in seconds since the epoch, null for never. used:
    when the hour of its last use began. public_keys: the `kid` of each that its owner signs with."""
    return {
        "id": key.id,
        "state": key.state(now),
        "tenant": key.tenant,
        "subject": key.subject,
        "scopes": key.scopes.split(),
        "name": key.name,
        "created": key.created,
        "by": key.by,
        "expires": key.expires if key.expires < FOREVER else None,
        "used": key.used or None,
        "revoked": key.revoked or None,
        "public_keys": [one.get("kid") for one in json.loads(key.jwks)["keys"]] if key.jwks else [],
        "overlapping": [secret.until for secret in key.secrets[1:] if secret.until > now],
    }


def unknown() -> Unauthenticated:
    """The refusal of a key that is not here; the same for an id and for a secret."""
    return Unauthenticated("The API key is not known here.")
