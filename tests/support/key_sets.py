"""Key sets as the issuers of the world publish them, made of keys of our own."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

RSA = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
P256, P384, P521 = (
    ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def public(key: Any) -> dict[str, Any]:
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    library: Any = next((kinds[kind] for kind in kinds if isinstance(key, kind)), OKPAlgorithm)
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


def curves() -> Issuer:
    """A key of each curve and one on RSA, none of which says its algorithm."""
    named: list[tuple[Any, str, str | None]] = [
        (P256, "ES256", "p256"), (P384, "ES384", "p384"), (P521, "ES512", "p521"), (ED25519, "EdDSA", "ed"),
        (RSA[0], "PS256", "rsa"), (RSA[0], "RS512", "rsa"),
    ]  # fmt: skip
    published = {kid: {"kid": kid, "use": "sig", **public(key)} for key, _, kid in named}
    return Issuer({"keys": list(published.values())}, named)


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
