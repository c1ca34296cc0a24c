"""Key files: reading and making them, and the tokens that `gateway token` signs with one."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from gateway.core.jwt.issuer import Issuer
from gateway.core.jwt.keys import Key, KeySet, KeySetError, parse_keys, sign
from gateway.core.jwt.verify import verify
from gateway.runtime import durable
from gateway.runtime.files import FileUnusable, read_file, read_text
from gateway.runtime.os_errors import explain

L = logging.getLogger(__name__)
CURSOR_KEY = "cursor.key"  # the file with the installation's secret, in the data folder
_SECRET_BYTES = 32
_ANEW = "a new one is made at the start, and what was signed with the old one is refused"
MAX_BYTES = 1024 * 1024  # of a key file: thousands of keys


class KeysUnusable(ValueError):
    """The key file cannot be used; the text names the file, the reason and what to do."""


def read_keys(path: Path, algorithms: Sequence[str]) -> KeySet:
    """The keys of a JWK set file. Raises KeysUnusable. Blocks."""
    try:
        text = read_text(path, MAX_BYTES)
        mode = path.stat().st_mode & 0o777
    except FileUnusable as error:
        raise KeysUnusable(f"{error}; restore the file from its backup") from None
    except OSError as error:
        raise KeysUnusable(f"{path}: it cannot be read: {error.strerror}") from None
    try:
        keys = parse_keys(text, algorithms)
    except KeySetError as error:
        raise KeysUnusable(f"{path}: {error}") from None
    if mode & 0o077 and keys.private:
        raise KeysUnusable(f"{path}: it holds signing keys and others may read it; run: chmod 600 {path}")
    return keys


def signing_key(keys: Iterable[Key], kid: str = "", now: float | None = None) -> Key:
    """The key to sign with: the one named, or of those that may sign the one that began last; of several, the
    first. now: seconds since the epoch, None for the clock's. Raises KeysUnusable."""
    now = time.time() if now is None else now
    usable = [key for key in keys if key.can_sign and not key.is_retired(now) and kid in ("", key.kid)]
    if not kid:
        usable = [key for key in usable if key.use_after <= now]
    if not usable:
        raise KeysUnusable(f"no key {kid!r} that can sign is in the key set" if kid else "no key can sign")
    return max(usable, key=lambda key: key.use_after)


def issue(
    path: Path, issuer: Issuer, tenant: str, scope: str, subject: str, ttl: float, kid: str = ""
) -> str:
    """A token signed with a key of the file, for `ttl` seconds.

    Raises KeysUnusable, and Unauthenticated when the gateway would refuse it (a bad tenant's name, ...).
    """
    keys = read_keys(path, issuer.algorithms)
    now = int(time.time())
    token = sign(new_claims(issuer, tenant, subject, scope, now, int(ttl)), signing_key(keys, kid))
    verify(token, keys, issuer, now)
    return token


def new_claims(
    issuer: Issuer, tenant: str, subject: str, scope: str, now: int, seconds: int
) -> dict[str, Any]:
    """What a token of the local issuer says, issued now (seconds since the epoch) for so many seconds."""
    return {
        "iss": issuer.issuer,
        "aud": issuer.audiences[0],
        "tenant": tenant,
        "sub": subject,
        "scope": scope,
        "jti": secrets.token_hex(16),  # so that this one can be revoked alone
        "iat": now,
        "exp": now + seconds,
    }


def ensure_signing_key(path: Path) -> bool:
    """Make a key set with one new Ed25519 key where there is none. True when one was made.

    Mode 0600 from its first moment on; two processes that start together agree on one file.
    """
    if path.exists():
        return False
    durable.make_folder(path.parent)
    return durable.create(path, key_set_text([new_signing_key()]))


def new_signing_key() -> dict[str, Any]:
    """A new Ed25519 key, private half and all, as a JWK. Its kid begins with the day."""
    jwk = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate()))
    kid = f"{time.strftime('%Y-%m-%d')}-{secrets.token_hex(4)}"
    return {"kid": kid, "alg": "EdDSA", "use": "sig", **jwk}


def key_set_text(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """A JWK set as it is written to a file."""
    return (json.dumps({"keys": entries}, indent=2) + "\n").encode()


def ensure_secret(path: Path) -> bytes:
    """32 random bytes that stay the same over restarts, kept in a file of mode 0600.

    Raises KeysUnusable when the file cannot be read, or is not what was made here.
    """
    try:
        if not path.exists():
            durable.make_folder(path.parent)
            durable.create(path, base64.b64encode(secrets.token_bytes(_SECRET_BYTES)) + b"\n")
        mode = path.stat().st_mode & 0o777
        secret = base64.b64decode(read_file(path, MAX_BYTES).strip(), validate=True)
    except FileUnusable as error:
        raise KeysUnusable(f"{error}; or remove it: {_ANEW}") from None
    except OSError as error:
        raise KeysUnusable(f"{path}: it cannot be made or read: {'; '.join(explain(error))}") from None
    except binascii.Error:
        secret = b""
    if len(secret) < _SECRET_BYTES:
        raise KeysUnusable(f"{path}: it holds no secret of {_SECRET_BYTES} bytes; remove it: {_ANEW}")
    if mode & 0o077:
        raise KeysUnusable(f"{path}: others may read or change the secret in it; remove it: {_ANEW}")
    return secret
