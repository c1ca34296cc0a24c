"""An issuer of tokens on the network: its metadata, keys and introspection, and all that can go wrong."""

from __future__ import annotations

import datetime
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.key_sets import public

OIDC, OAUTH = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class IssuerServer:
    """keys: what it signs with, by kid; the last one signs. answers: by path, what it says instead. asked:
    how often, by path. headers: of the key set. active: what introspection says of a token, by its text."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.keys: dict[str, ed25519.Ed25519PrivateKey] = {}
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.metadata: dict[str, Any] = {}
        self.active: dict[str, dict[str, Any]] = {}
        self.credentials: list[str] = []
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.rotate()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def rotate(self, kid: str = "", *, keep: bool = True) -> None:
        """Sign with a new key from now on. keep: the others stay published."""
        if not keep:
            self.keys.clear()
        self.keys[kid or f"key-{len(self.keys)}-{time.monotonic_ns()}"] = ed25519.Ed25519PrivateKey.generate()

    def token(self, kid: str | None = None, **claims: Any) -> str:
        """A token of its newest key. kid: another name than that key's."""
        name, key = list(self.keys.items())[-1]
        base = {"iss": self.url, "aud": "api", "tenant": "acme", "sub": "ann", "exp": int(time.time()) + 600}
        return jwt.encode({**base, **claims}, key, "EdDSA", headers={"kid": name if kid is None else kid})

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._respond)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> int:
        """Gives the port that it had, on which it may start again."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        return self._port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.asked[path] += 1
        if path in self.answers:
            return await self.answers[path](request)
        if path == "/jwks":
            keys = [{"kid": kid, "use": "sig", **public(key)} for kid, key in self.keys.items()]
            return web.json_response({"keys": keys}, headers=self.headers)
        if path == OIDC:
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.metadata)
        if path == "/introspect":
            self.credentials.append(request.headers.get("Authorization", ""))
            form = await request.post()
            return web.json_response(self.active.get(str(form["token"]), {"active": False}))
        return web.Response(status=404)


def authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A context of a server on 127.0.0.1, and the file of the authority that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "authority.pem", folder / "private.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return context, certificate
