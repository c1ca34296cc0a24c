"""Signs identities as the gateway does, with a key of the tests: for calls that do not go through it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import jwt

from gateway.auth.keys import key_set_text, new_signing_key
from gateway.auth.signer import KEYS, TYPE

KEY = new_signing_key()
AUDIENCE = "test"


def public_set(*keys: dict[str, Any]) -> str:
    public = [{name: value for name, value in key.items() if name != "d"} for key in keys]
    return json.dumps({"keys": public})


# What an application of the tests is told of the gateway, in this process and in others.
ENVIRONMENT = {
    "GATEWAY_IDENTITY_KEYS": public_set(KEY),
    "GATEWAY_IDENTITY_AUDIENCE": AUDIENCE,
    "GATEWAY_IDENTITY_ISSUER": "gateway",
}


def assertion(
    tenant: str | None = "acme",
    subject: str | None = "ann",
    scope: str | None = "read write",
    *,
    key: dict[str, Any] = KEY,
    typ: str | None = TYPE,
    **claims: Any,
) -> str:
    """The value of X-Gateway-Identity; `claims` replace, None leaves one out."""
    now = int(time.time())
    said = {
        "iss": "gateway", "aud": AUDIENCE, "iat": now, "exp": now + 60,
        "tenant": tenant, "sub": subject, "scope": scope, **claims,
    }  # fmt: skip
    payload = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(payload, jwt.PyJWK(key, "EdDSA").key, "EdDSA", {"typ": typ, "kid": key["kid"]})


def caller(tenant: str | None = "acme", *args: Any, **claims: Any) -> dict[str, str]:
    """The header with it."""
    return {"X-Gateway-Identity": assertion(tenant, *args, **claims)}


def nobody(**claims: Any) -> dict[str, str]:
    """As on a public route: the request came through, and nobody calls."""
    return caller(None, None, None, **claims)


def use_key(data: Path) -> None:
    """Have the gateway with this data folder sign with the key of the tests."""
    data.mkdir(mode=0o700, exist_ok=True)
    path = data / KEYS
    path.touch(0o600)
    path.write_bytes(key_set_text([KEY]))


def told_to_this_process() -> None:
    """For the applications that run in it."""
    os.environ.update(ENVIRONMENT)
