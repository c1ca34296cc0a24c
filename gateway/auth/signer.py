"""Who calls, signed for a backend: the header X-Gateway-Identity.

Its value is a JWT of LIFETIME seconds for one backend (`aud`), with a `typ` of its own: a client's token is
none, and none is a client's token. Without `tenant` and `sub` it says that nobody calls (a public route), and
that the request came through here. The backends get the public keys by a file, or by the key set that is
served.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

from jwt import PyJWK

from gateway.auth.keys import KeysUnusable, key_set_text
from gateway.auth.signing_keys import SigningKeys
from gateway.core.jwt.keys import Key, base64url
from gateway.core.model import Identity, SignedLines
from gateway.runtime import durable, threads

L = logging.getLogger(__name__)
LIFETIME = 60  # seconds, of which one is used for half
OVERLAP = 600.0  # seconds that a new key is published before it signs; backends keep a set for half of that
TYPE = "gateway-identity+jwt"
KEYS = "identity.jwks"  # the private keys, in the data folder
PUBLIC_KEYS = "identity-public.jwks"  # their public halves, beside it: for backends of this host


class Signer:
    """Signs identities. folder: where the keys are. issuer: the `iss`. now: seconds since the epoch."""

    def __init__(self, folder: Path, issuer: str, now: Callable[[], float] = time) -> None:
        self.keys = SigningKeys(folder / KEYS, ("EdDSA",))
        self.public_path = folder / PUBLIC_KEYS
        self._issuer = issuer
        self._now = now
        self._nobody: dict[str, SignedLines] = {}
        self._key: Key | None = None
        self._header = b""
        self._private: Any = None
        self._published = b""
        self._ended = 0.0  # what was to be renewed by then is not used: its key has ended before its time

    def start(self) -> None:
        """Make the keys where there are none, and publish them. Raises KeysUnusable, OSError. Blocks."""
        self.keys.ensure()
        self._use(self.keys.current(self._now()))
        with suppress(FileNotFoundError):
            self._published = self.public_path.read_bytes()  # on a full disk it could not be written again
        self._publish()

    async def refresh(self) -> None:
        """Take a changed key file, and publish what is to be published now. Raises OSError."""
        if await self.keys.reload_if_changed():
            before, now = self._key, self._now()
            try:
                self._use(self.keys.current(now))
            except KeysUnusable as error:
                L.error("The last identity key goes on: %s", error)
            else:
                if before is not None and before.kid not in {key["kid"] for key in self.keys.public(now)}:
                    self._ended = now + LIFETIME / 2
        await threads.run(threads.KEYS, self._publish)

    def _publish(self) -> None:
        text = key_set_text(self.keys.public(self._now()))
        if text != self._published:
            with durable.replacing(self.public_path) as file:
                file.write(text)
            self._published = text

    def environment(self, backend: str) -> dict[str, str]:
        """What tells a backend of this host how to check it (see backends/identity)."""
        return {
            "GATEWAY_IDENTITY_KEYS": str(self.public_path.absolute()),
            "GATEWAY_IDENTITY_AUDIENCE": backend,
            "GATEWAY_IDENTITY_ISSUER": self._issuer,
        }

    def lines(self, identity: Identity | None, backend: str) -> bytes:
        """The header line that tells a backend who calls, None for nobody. It is good for half of LIFETIME at
        least. Signed once for that time, and kept with the identity."""
        kept = self._nobody if identity is None else identity.signed
        known = kept.get(backend)
        now = self._now()
        if known is None or known.renew_at <= now or known.renew_at <= self._ended:
            line = self._line(identity, backend, now)
            known = kept[backend] = SignedLines(line, int(now) + LIFETIME / 2)
        return known.lines

    def bound(self, identity: Identity | None, backend: str, method: str, target: str) -> bytes:
        """As `lines`, for this request alone. target: path and query as the backend gets them."""
        return self._line(identity, backend, self._now(), {"htm": method, "target": target})

    def _line(
        self, identity: Identity | None, backend: str, now: float, more: Mapping[str, str] | None = None
    ) -> bytes:
        with suppress(KeysUnusable):  # the file has changed for the worse: its last key goes on
            self._use(self.keys.current(now))
        claims: dict[str, Any] = {"iss": self._issuer, "aud": backend, "iat": int(now)}
        claims["exp"] = int(now) + LIFETIME
        if identity is not None:
            claims |= {"tenant": identity.tenant.value, "sub": identity.subject}
            claims["scope"] = identity.scope_text
        message = self._header + b"." + _part({**claims, **(more or {})})
        return b"X-Gateway-Identity: %b.%b\r\n" % (message, base64url(self._private.sign(message)))

    def _use(self, key: Key) -> None:
        if key is not self._key:
            self._private = PyJWK(dict(key.jwk), "EdDSA").key
            self._header = _part({"alg": "EdDSA", "typ": TYPE, "kid": key.kid})
            self._key = key


def _part(value: Mapping[str, Any]) -> bytes:
    # `\ud800` is how a path that is not UTF-8 is written here: JSON has an escape for it, too.
    return base64url(json.dumps(value, separators=(",", ":")).encode())
