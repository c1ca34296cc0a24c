"""Key sets as the issuers of the world publish them, with keys of our own, before a running gateway: tokens
verify, and a rotation is taken while it runs and after a restart."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.app import Gateway
from gateway.auth.keys import Keys, KeysUnusable, load_keys
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.verify import TokenRule
from tests import harness
from tests.eventually import eventually_await
from tests.fakes import Backend, RawClient, always, answer

RULE = harness.RULE
RSA = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def public(key: Any) -> dict[str, Any]:
    library = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    made: dict[str, Any] = library.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return made


def certificate(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """The members that carry a certificate: x5c, x5t and x5t#S256."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    day = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(3650))
    der = made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    thumbs = {
        "x5t": b64(hashlib.sha1(der).digest()),
        "x5t#S256": b64(hashlib.sha256(der).digest()),
    }
    return {"x5c": [base64.b64encode(der).decode()], **thumbs}


@dataclass(frozen=True)
class Issuer:
    """A set, the tokens that it must let in, and how many of its keys are left out."""

    document: dict[str, Any]
    signers: list[tuple[Any, str, str | None]]  # a private key, the algorithm, the kid of the header
    left_out: int = 0
    prefix: bytes = b""

    @property
    def text(self) -> bytes:
        return self.prefix + json.dumps(self.document, indent=2).encode()


def keycloak(first: int = 0) -> Issuer:
    """A signing key and one for encryption, each with its certificate."""
    sign, encrypt = RSA[first], RSA[(first + 1) % 3]
    kids = f"{first}WJ6f0oM4yKZ1vb-8dNTeJrW3S1OQf0rY", f"{first}Eq8v2mQkYb1oZ"
    return Issuer(
        {
            "keys": [
                {"kid": kids[1], "kty": "RSA", "alg": "RSA-OAEP", "use": "enc", **public(encrypt),
                 **certificate(encrypt)},
                {"kid": kids[0], "kty": "RSA", "alg": "RS256", "use": "sig", **public(sign),
                 **certificate(sign)},
            ]
        },
        [(sign, "RS256", kids[0])],
        left_out=1,
    )  # fmt: skip


def entra() -> Issuer:
    """No alg at all; the issuer of each key beside it."""
    keys, signers = [], []
    for number, key in enumerate(RSA[:2]):
        kid = f"{number}nOFgFEaDzD-mA6Ht0oBjZ2sM"
        more = certificate(key)
        entry = {"kty": "RSA", "use": "sig", "kid": kid, "x5t": kid, "x5c": more["x5c"], **public(key)}
        keys.append(
            {**entry, "cloud_instance_name": "cloud", "issuer": "https://login.example/{tenantid}/v2.0"}
        )
        signers.append((key, "RS256", kid))
    return Issuer({"keys": keys}, list(signers))


def auth0() -> Issuer:
    entry = {
        "kty": "RSA",
        "use": "sig",
        **public(RSA[0]),
        "kid": "nL1dSwXGdn8Q",
        **certificate(RSA[0]),
        "alg": "RS256",
    }
    return Issuer({"keys": [entry]}, [(RSA[0], "RS256", "nL1dSwXGdn8Q")])


def google() -> Issuer:
    pairs = [("e863fe292fa2a2967cd7551c42a1211bcac55071", RSA[1]), ("84c3c2f1a9", RSA[2])]
    keys = [{"use": "sig", "kid": kid, "alg": "RS256", **public(key)} for kid, key in pairs]
    return Issuer({"keys": keys}, [(key, "RS256", kid) for kid, key in pairs])


def okta() -> Issuer:
    """Two current keys, and one that it marks as expired."""
    keys = [
        {"kty": "RSA", "alg": "RS256", "kid": f"okta-{number}", "use": "sig", **public(key), "status": status}
        for number, (key, status) in enumerate(zip(RSA, ("ACTIVE", "NEXT", "EXPIRED"), strict=True))
    ]
    return Issuer({"keys": keys}, [(RSA[0], "RS256", "okta-0"), (RSA[1], "RS256", "okta-1")])


def seacat() -> Issuer:
    """One key on P-256."""
    entry = {"kty": "EC", "alg": "ES256", "use": "sig", "kid": "seacat-1", **public(P256)}
    return Issuer({"keys": [entry]}, [(P256, "ES256", "seacat-1")])


def dex() -> Issuer:
    keys = [
        {"use": "sig", **public(key), "kid": f"dex{number}", "alg": "RS256"}
        for number, key in enumerate(RSA[:2])
    ]
    return Issuer({"keys": keys}, [(RSA[0], "RS256", "dex0"), (RSA[1], "RS256", "dex1")])


def by_hand() -> Issuer:
    """From a PEM file: no kid and no alg, saved by an editor that writes a byte order mark."""
    return Issuer(
        {"keys": [public(RSA[2])]},
        [(RSA[2], "RS256", None), (RSA[2], "RS256", "a-kid")],
        prefix=b"\xef\xbb\xbf",
    )


def everything() -> Issuer:
    """One of each that is not for us, a kid that is there twice, and one key for us at the end."""
    junk: list[Any] = [
        {"kid": "enc", "use": "enc", **public(RSA[0])},
        {"kid": "es384", "alg": "ES384", **public(P384)},
        {"kid": "ps256", "alg": "PS256", **public(RSA[0])},
        {"kid": "pq", "kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"},
        {"kid": "k1", "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kid": "weak", **public(rsa.generate_private_key(65537, 1024))},
        {"kid": "wrap", "key_ops": ["wrapKey"], **public(RSA[0])},
        "not an object",
    ]
    keys = [*junk, {"kid": "same", **public(RSA[1])}, {"kid": "same", **public(RSA[2])}]
    signers = [(RSA[1], "RS256", "same"), (RSA[2], "RS256", "same")]
    return Issuer({"keys": keys}, list(signers), left_out=len(junk) + 1)


ISSUERS: list[Callable[[], Issuer]] = [
    keycloak, entra, auth0, google, okta, seacat, dex, by_hand, everything,
]  # fmt: skip


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
                warnings = {r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING}
                assert len(warnings) == issuer.left_out, make.__name__
                assert all(str(path) in warning and "keys[" in warning for warning in warnings)


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
    keys = Keys(path, TokenRule("gateway", "gateway"))
    keys.load()
    kid = keycloak().document["keys"][0]["kid"]
    for made in (token(RSA[1], "RS256", kid), token(RSA[1], "RS256", None)):
        with pytest.raises(Unauthenticated):
            keys.verify(made)


def test_what_is_left_out_is_said_once_for_each_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.jwks"
    publish(path, keycloak())
    keys = Keys(path, RULE)
    keys.load()
    for _ in range(3):
        asyncio.run(keys.reload_if_changed())
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith(
        f"{path}: keys[0] (kid '0Eq8v2mQkYb1oZ') is not used: its `use` is `enc`"
    )


def test_secrets_of_keys_that_are_left_out_still_make_the_file_private(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    document = keycloak().document
    document["keys"].append({"kty": "oct", "kid": "short", "k": "c2hvcnQ"})
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    with pytest.raises(KeysUnusable, match="chmod 600"):
        load_keys(path, RULE)
    path.chmod(0o600)
    assert len(load_keys(path, RULE)) == 1


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
        load_keys(path, RULE)
