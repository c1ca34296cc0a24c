"""The gateway's public keys: given, in a file, or at a URL. What was good last goes on when it is away."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import jwt

logger = logging.getLogger(__name__)

COOLDOWN = 10.0  # seconds between two fetches: a stranger with invented key ids causes no more
MAX_AGE = 300.0  # seconds after which a URL is asked again, beside the requests
TIMEOUT = 2.0  # seconds
_MAX_BYTES = 1024 * 1024

PublicKeys = dict[str, Any]  # by `kid`


def parse(text: str | bytes) -> PublicKeys:
    """The Ed25519 keys of a JWK set (RFC 7517, RFC 8037), by their ids; all others are somebody else's.
    Raises ValueError."""
    document = json.loads(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is not a JWK set")
    found: PublicKeys = {}
    for entry in entries:
        if not isinstance(entry, dict) or (entry.get("kty"), entry.get("crv")) != ("OKP", "Ed25519"):
            continue
        public = {name: value for name, value in entry.items() if name != "d"}
        try:
            key = jwt.PyJWK(public, "EdDSA")
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if isinstance(key.key_id, str):
            found[key.key_id] = key.key
    return found


class Given:
    """A JWK set that does not change. Raises ValueError."""

    def __init__(self, text: str) -> None:
        self._keys = parse(text)
        if not self._keys:
            raise ValueError("it holds no Ed25519 key with a `kid`")

    def get(self, kid: str) -> Any:
        """The key of this id, None without one."""
        return self._keys.get(kid)

    def refresh(self) -> None:
        """Nothing can have changed."""

    @property
    def ready(self) -> bool:
        return bool(self._keys)


class File:
    """A file on this host, which is looked at each second, and for a key id that it did not have."""

    def __init__(self, path: str, clock: Callable[[], float] = monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._looked = -1.0
        self._stamp: tuple[int, ...] = ()
        self._keys: PublicKeys = {}

    def get(self, kid: str) -> Any:
        """The key of this id, None without one."""
        if not 0 <= self._clock() - self._looked < 1:
            self.refresh()
        return self._keys.get(kid)

    def refresh(self) -> None:
        """Read it if it has changed; one that cannot be read, or is half written, leaves the good keys."""
        self._looked = self._clock()
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            with self._path.open("rb") as file:
                self._keys = parse(file.read(_MAX_BYTES))
            self._stamp = stamp
        except (OSError, ValueError) as error:
            logger.warning("The gateway's keys cannot be read from %s: %s", self._path, _reason(error))

    @property
    def ready(self) -> bool:
        return bool(self._keys)


class Url:
    """A key set that the gateway serves, fetched when a key id is not known (at most once in COOLDOWN), and
    in a thread of its own when the last one is older than MAX_AGE."""

    def __init__(self, url: str, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._tried: float | None = None
        self._keys: PublicKeys = {}

    def get(self, kid: str) -> Any:
        """The key of this id, None without one."""
        if self._keys and self._is_older_than(MAX_AGE) and not self._lock.locked():
            threading.Thread(target=self.refresh, name="gateway keys", daemon=True).start()
        return self._keys.get(kid)

    def _is_older_than(self, seconds: float) -> bool:
        return self._tried is None or self._clock() - self._tried >= seconds

    def refresh(self) -> None:
        """Fetch it, unless that was tried just now. Blocks for TIMEOUT at most; who comes meanwhile waits."""
        with self._lock:
            if not self._is_older_than(COOLDOWN):
                return
            try:
                self._keys = parse(_fetch(self._url)) or self._keys
            except (OSError, ValueError, HTTPException) as error:
                logger.warning("The gateway's keys cannot be fetched from %s: %s", self._url, _reason(error))
            self._tried = self._clock()

    @property
    def ready(self) -> bool:
        return bool(self._keys)


KeySource = Given | File | Url


def source(text: str) -> KeySource:
    """Where the setting says that the keys are. Raises ValueError, which says what the setting is, where it
    cannot be meant."""
    if text.startswith("{"):
        try:
            return Given(text)
        except ValueError as error:
            raise ValueError(f"no JWK set: {_reason(error)}") from None
    if "://" not in text:
        return File(text)
    if not _is_http(text):
        raise ValueError("no file's path, no URL (https://HOST/..., http://HOST/...) and no JWK set")
    return Url(text)


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Keys come from where the setting says, or not at all."""


# No proxy that the environment names: it would decide whose keys these are.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def _fetch(url: str) -> bytes:
    with _opener.open(url, timeout=TIMEOUT) as response:
        body = response.read(_MAX_BYTES + 1)
    if len(body) > _MAX_BYTES:
        raise ValueError("it is larger than 1 MiB")
    return bytes(body)


def _reason(error: Exception) -> str:
    return "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
