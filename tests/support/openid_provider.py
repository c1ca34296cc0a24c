"""A real OpenID provider, `oidc-provider` on Node, with keys of our own. Its packages are fetched once, at
the versions of openid/package-lock.json, into a folder of the virtual environment."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.ports import free_port

_SOURCE = Path(__file__).parent / "openid"
_CALLBACK = "http://127.0.0.1/callback"
GATEWAY_SECRET = "gateway-secret-of-the-tests"  # of the client that asks about tokens
_wait = 30.0  # seconds, for each of the provider's responses


def new_key(kid: str, algorithm: str) -> dict[str, Any]:
    """A private JWK for RS256 or ES256."""
    library, private = (
        (RSAAlgorithm, rsa.generate_private_key(65537, 2048))
        if algorithm == "RS256"
        else (ECAlgorithm, ec.generate_private_key(ec.SECP256R1()))
    )
    made: dict[str, Any] = library.to_jwk(private, as_dict=True)  # type: ignore[attr-defined]
    made.pop("key_ops", None)  # RSA keys have one, which leaves out what a public half may do
    return {**made, "kid": kid, "alg": algorithm, "use": "sig"}


class Provider:
    """keys: private JWKs; the first that does an algorithm signs. The port stays the same over its lives."""

    def __init__(self, packages: Path, folder: Path, keys: Sequence[Mapping[str, Any]]) -> None:
        self._packages = packages
        self._keys_file = folder / "provider.jwks"
        self.keys = list(keys)
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Blocks until it accepts connections."""
        assert self.process is None
        self._keys_file.write_text(json.dumps({"keys": self.keys}))
        self.process = subprocess.Popen(
            ["node", "provider.mjs", str(self.port), str(self._keys_file)],
            cwd=self._packages, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"READY\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def machine_token(self, resource: str, scope: str = "orders:read") -> str:
        """By client credentials (RFC 6749 section 4.4), for a resource (RFC 8707)."""
        asked = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
        secret = ("etl", "etl-secret-of-the-tests")
        return _access_token(requests.post(f"{self.issuer}/token", asked, auth=secret, timeout=_wait))

    def page_token(self, login: str, resource: str, scope: str = "openid orders:read") -> str:
        """By an authorization code with PKCE (RFC 7636): somebody logs in by the provider's own form."""
        verifier = secrets.token_urlsafe(32)
        challenge = _b64(hashlib.sha256(verifier.encode()).digest())
        asked = {
            "client_id": "page", "response_type": "code", "redirect_uri": _CALLBACK, "scope": scope,
            "resource": resource, "code_challenge": challenge, "code_challenge_method": "S256",
            "state": "of-the-page",
        }  # fmt: skip
        with requests.Session() as browser:
            response = browser.get(f"{self.issuer}/auth", params=asked, allow_redirects=False, timeout=_wait)
            while not (target := response.headers.get("Location", "")).startswith(_CALLBACK):
                response = self._next(browser, response, target, login)
        returned = parse_qs(urlsplit(target).query)
        assert returned["state"] == ["of-the-page"] and returned["iss"] == [self.issuer], returned
        asked = {
            "grant_type": "authorization_code", "client_id": "page", "redirect_uri": _CALLBACK,
            "code": returned["code"][0], "code_verifier": verifier, "resource": resource,
        }  # fmt: skip
        return _access_token(requests.post(f"{self.issuer}/token", asked, timeout=_wait))

    def _next(
        self, browser: requests.Session, response: requests.Response, target: str, login: str
    ) -> requests.Response:
        """Follows a redirect, or fills in the form that is shown: for the login, then for the consent."""
        if target:
            return browser.get(
                target if "//" in target else self.issuer + target, allow_redirects=False, timeout=_wait
            )
        form = re.search(r'action="([^"]+)"', response.text)
        prompt = re.search(r'name="prompt" value="(\w+)"', response.text)
        assert form and prompt, response.text
        filled = {"prompt": prompt[1], "login": login, "password": "any"}
        return browser.post(form[1], filled, allow_redirects=False, timeout=_wait)

    def forge(self, key: Mapping[str, Any], **claims: Any) -> str:
        """A token as this provider makes it, signed by this key, which may be one that it has or had."""
        now = int(time.time())
        made = {
            "iss": self.issuer, "aud": "gateway", "sub": "etl", "client_id": "etl", "plan": "pro",
            "organization": {"name": "acme"}, "scope": "orders:read", "jti": secrets.token_urlsafe(12),
            "iat": now, "exp": now + 600, **claims,
        }  # fmt: skip
        header = {"kid": key["kid"], "typ": "at+jwt"}
        return jwt.encode(made, _private(json.dumps(key)), key["alg"], headers=header)


@cache
def _private(jwk: str) -> Any:
    """Reading an RSA key proves its numbers, which takes longer than to sign."""
    return jwt.PyJWK(json.loads(jwk)).key


def _access_token(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def provider_packages() -> Path:
    """The folder with the provider and its packages. Skips the test where there is no Node, or they cannot be
    fetched; fails it where the environment says OPENID_PROVIDER=required."""
    if why := _missing():
        if os.environ.get("OPENID_PROVIDER") == "required":
            pytest.fail(why)
        pytest.skip(why)
    return _folder()


def _folder() -> Path:
    wanted = b"".join(path.read_bytes() for path in sorted(_SOURCE.iterdir()))
    return Path(sys.prefix) / f"openid-provider-{hashlib.sha256(wanted).hexdigest()[:12]}"


@cache
def _missing() -> str:
    """Fetches what is not there yet, in one process at a time. Gives what keeps it from that."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "there is no node with npm on the PATH"
    folder = _folder()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "fetched").exists():
            return ""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_SOURCE, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return "npm did not fetch the OpenID provider in two minutes"
        if done.returncode:
            return f"npm could not fetch the OpenID provider: {done.stderr.strip()[:300]}"
        (folder / "fetched").touch()
        return ""


@contextmanager
def openid_provider(folder: Path, *keys: Mapping[str, Any]) -> Iterator[Provider]:
    """A provider that is not started yet, and ends with the block."""
    provider = Provider(provider_packages(), folder, keys)
    try:
        yield provider
    finally:
        provider.kill()
