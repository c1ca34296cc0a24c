"""Key sets as the issuers of the world publish them, with keys of our own, before a running gateway: tokens
verify, and a rotation is taken while it runs and after a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.app import Gateway
from gateway.auth.key_source import FileKeys
from gateway.auth.keys import KeysUnusable, read_keys
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.verify import verify
from tests import harness
from tests.eventually import eventually_await
from tests.fakes import Backend, RawClient, always, answer
from tests.support.key_sets import ISSUERS, RSA, Issuer, keycloak

RULE = harness.RULE


def token(key: Any, algorithm: str, kid: str | None) -> str:
    now = int(time.time())
    claims = {"iss": "gateway", "aud": "gateway", "tenant": "acme", "sub": "alice", "exp": now + 600}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid is not None else None)


def publish(path: Path, issuer: Issuer) -> None:
    """As a job that fetches the set does: written beside, then put in place."""
    beside = path.with_suffix(".new")
    beside.write_bytes(issuer.text)
    os.replace(beside, path)


async def status(gateway: Gateway, made: str) -> int:
    client = await RawClient.connect(harness.address(gateway))
    try:
        client.send(f"GET /svc/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {made}\r\n\r\n".encode())
        return int((await client.head()).split(" ")[1])
    finally:
        client.close()


@pytest.mark.asyncio
async def test_tokens_of_each_issuer_pass_a_running_gateway_that_takes_its_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Backend(always(answer())) as backend:
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        config = harness.routing([harness.route("svc", "app")], backends=backends)
        async with harness.running(tmp_path, config) as gateway:
            path = Path(gateway.config.keys)
            own = harness.token(gateway)
            assert await status(gateway, own) == 200
            for make in ISSUERS:
                issuer = make()
                caplog.clear()
                publish(path, issuer)
                await gateway.reload()
                for signer in issuer.signers:
                    assert await status(gateway, token(*signer)) == 200, make.__name__
                stranger = token(rsa.generate_private_key(65537, 2048), "RS256", issuer.signers[0][2])
                assert await status(gateway, stranger) == 401, make.__name__
                assert await status(gateway, own) == 401
                # As a set: the watch may have taken the file, too.
                said = {r.getMessage() for r in caplog.records if "keys[" in r.getMessage()}
                assert len(said) == issuer.left_out, make.__name__
                assert all(str(path) in text for text in said)
                entries = [entry for entry in issuer.document["keys"] if isinstance(entry, dict)]
                encrypts = sum(entry.get("use") == "enc" for entry in entries)
                warnings = {r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING}
                assert len(warnings) == issuer.left_out - encrypts and warnings <= said


@pytest.mark.asyncio
async def test_a_rotation_is_seen_without_a_signal_and_a_restart_serves_what_was_there(
    tmp_path: Path,
) -> None:
    async with Backend(always(answer())) as backend:
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        config = harness.routing([harness.route("svc", "app")], backends=backends)
        path = tmp_path / "var" / "keys.jwks"
        path.parent.mkdir(mode=0o700)
        before, after = keycloak(0), keycloak(1)
        publish(path, before)
        async with harness.running(tmp_path, config) as gateway:
            assert await status(gateway, token(*before.signers[0])) == 200
            assert await status(gateway, token(*after.signers[0])) == 401
            publish(path, after)

            async def taken() -> bool:
                return await status(gateway, token(*after.signers[0])) == 200

            await eventually_await(taken)
            assert await status(gateway, token(*before.signers[0])) == 401
        async with harness.running(tmp_path, config) as gateway:
            assert await status(gateway, token(*after.signers[0])) == 200


def test_a_key_for_encryption_never_verifies_a_token(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    publish(path, keycloak())
    keys = read_keys(path, RULE.algorithms)
    kid = keycloak().document["keys"][0]["kid"]
    for made in (token(RSA[1], "RS256", kid), token(RSA[1], "RS256", None)):
        with pytest.raises(Unauthenticated):
            verify(made, keys, RULE, time.time())


@pytest.mark.parametrize(
    ("more", "level", "reason"), [({}, logging.INFO, "`enc`"), ({"use": "tls"}, logging.WARNING, "`tls`")]
)
def test_what_is_left_out_is_said_once_for_each_load_and_a_key_for_encryption_is_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, more: dict[str, str], level: int, reason: str
) -> None:
    caplog.set_level(logging.INFO)
    published = keycloak()
    published.document["keys"][0].update(more)
    path = tmp_path / "keys.jwks"
    publish(path, published)
    keys = FileKeys(RULE, path, lambda: None)
    keys.load()
    for _ in range(3):
        asyncio.run(keys.refresh())
    (record,) = [r for r in caplog.records if "is not used" in r.getMessage()]
    assert record.levelno == level
    assert record.getMessage().startswith(
        f"{path}: keys[0] (kid '0Eq8v2mQkYb1oZ') is not used: its `use` is {reason}"
    )


def test_secrets_of_keys_that_are_left_out_still_make_the_file_private(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    document = keycloak().document
    document["keys"].append({"kty": "oct", "kid": "short", "k": "c2hvcnQ"})
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    with pytest.raises(KeysUnusable, match="chmod 600"):
        read_keys(path, RULE.algorithms)
    path.chmod(0o600)
    assert len(read_keys(path, RULE.algorithms)) == 1


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "huge", "utf-16"])
def test_what_is_no_text_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys.jwks"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes(keycloak().text.decode().encode("utf-16"))
    with pytest.raises(KeysUnusable, match=str(path)):
        read_keys(path, RULE.algorithms)
