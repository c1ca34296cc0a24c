"""The keys of one issuer: where they come from, and how they stay those that it signs with.

A key set that cannot be had, or of which nothing can be used, changes nothing: the last good keys go on, for
as long as it takes. What is fetched is fetched before its time is over, once for all who wait, and never more
often than tokens that nobody may have signed can ask for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from gateway.auth.keys import KeysUnusable, read_keys
from gateway.core.http.urls import in_the_clear, shown
from gateway.core.jwt.issuer import Issuer, KeyUrl
from gateway.core.jwt.keys import KeySet, KeySetError, parse_keys
from gateway.edge.backend.origin import ALONE, Flights, OriginError, Origins
from gateway.runtime import threads
from gateway.runtime.periodic import Boundary
from gateway.runtime.watch import FileStamp, file_stamp

L = logging.getLogger(__name__)
COOLDOWN = 30.0  # seconds between two fetches that tokens ask for
DEFAULT, LEAST, MOST = 600.0, 60.0, 86_400.0  # seconds that fetched keys are fresh
_EARLY = 0.75, 0.15  # of that time after which they are fetched again, and what chance adds
_SHARED = 20.0  # seconds that keys may be known to another process: they were fetched for this one, too
_FIRST_RETRY, _LAST_RETRY = 1.0, 15.0  # seconds after a failure; doubled each time, and chance adds to it
_max_age = re.compile(r'(?:^|,)\s*max-age\s*=\s*"?([0-9]{1,10})"?\s*(?:,|$)', re.IGNORECASE).search
_kept_by_none = re.compile(r"(?:^|,)\s*no-(?:store|cache)\s*(?:,|$)", re.IGNORECASE).search
_OIDC, _OAUTH = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"

Clock = Callable[[], float]


class KeySource:
    """The keys of an issuer, as far as they were had. keys: None before the first. fetches: that gave keys;
    failures: the others. failing: the last one did. failure: what the last of them was, for the log and for
    operators. on_change: called when keys are gone, and when the first are here: what was let in before (with
    another config) can be judged only then. now: the monotonic clock."""

    kind = ""

    def __init__(self, issuer: Issuer, on_change: Callable[[], None], now: Clock = monotonic) -> None:
        self.issuer = issuer
        self.keys: KeySet | None = None
        self.fetches = self.failures = 0
        self.failing = False
        self.failure = ""
        self._failed_at = 0.0  # since the epoch
        self._on_change = on_change
        self._now = now
        self._had_at = 0.0
        self._said: tuple[str, ...] = ()  # of the keys that are left out
        self._task: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the keys were had last; None before the first."""
        return None if self.keys is None else self._now() - self._had_at

    @property
    def where(self) -> str:
        """Where they are, for people."""
        return ""

    @property
    def next_in(self) -> float | None:
        """Seconds until they are fetched again; None where nothing is fetched."""
        return None

    def begin(self) -> None:
        """Begin to have the first keys, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self.refresh())

    def pending(self, *, force: bool) -> asyncio.Future[None] | None:
        """What whoever lacks a key may wait for. force: begin to fetch, where that may be."""
        return self._task if self._task is not None and not self._task.done() else None

    async def refresh(self, *, due: bool = False) -> None:
        """Look whether there are other keys, without waiting for a network. due: although it is not time."""

    async def close(self) -> None:
        """Nothing is had any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _take(self, keys: KeySet, name: str) -> None:
        before, self.keys, self._had_at = self.keys, keys, self._now()
        self.failing = False
        self.fetches += 1
        said = keys.warnings + keys.notes
        if said != self._said:
            self._said = said
            for text in said:
                L.log(logging.WARNING if text in keys.warnings else logging.INFO, "%s: %s", name, text)
        if before is None or _texts(before) - _texts(keys):
            self._on_change()

    def _fail(self, text: str) -> bool:
        """Gives whether that is news."""
        news = not self.failing
        self.failing, self.failure, self._failed_at = True, text, time()
        self.failures += 1
        return news

    def state(self) -> dict[str, Any]:
        """For /admin/auth: no material of a key."""
        failed = {"reason": self.failure, "at": self._failed_at, "over": not self.failing}
        return {
            "source": self.kind,
            "where": self.where,
            "keys": [{"kid": key.kid, "algorithms": list(key.algorithms)} for key in self.keys or ()],
            "age_seconds": self.age,
            "next_fetch_seconds": self.next_in,
            "last_failure": failed if self.failure else None,
            "fetches": self.fetches,
            "failures": self.failures,
        }


def _texts(keys: KeySet) -> set[str]:
    return {json.dumps(key.jwk, sort_keys=True, default=str) for key in keys}


class FileKeys(KeySource):
    """Those of a file, read again when it changes."""

    kind = "file"

    def __init__(
        self, issuer: Issuer, path: Path, on_change: Callable[[], None], now: Clock = monotonic
    ) -> None:
        super().__init__(issuer, on_change, now)
        self.path = path
        self._seen: FileStamp | None = None
        self._looked = False
        self._reading = asyncio.Lock()

    @property
    def where(self) -> str:
        return str(self.path)

    def load(self) -> None:
        """Read the file. Raises KeysUnusable; then the keys stay as they were. Blocks."""
        self._put(*self._read())

    async def refresh(self, *, due: bool = False) -> None:
        """Read the file again when it changed; a bad one is logged and the last good keys stay. It is read in
        a thread, and taken on the loop: so no token is verified with the old keys and kept after."""
        async with self._reading:  # a signal may ask for it, too
            stamp = await threads.run(threads.KEYS, file_stamp, self.path)
            if not self._looked or stamp != self._seen:
                self._put_and_tell(*await threads.run(threads.KEYS, self._read))

    def _put_and_tell(self, seen: FileStamp | None, keys: KeySet | KeysUnusable) -> None:
        had = self.keys is not None
        try:
            self._put(seen, keys)
        except KeysUnusable as error:
            if had:
                L.error("The last good keys stay in use: %s", error)
            else:
                L.error("There are no keys of issuer %s, whose tokens get 503: %s", self.issuer.name, error)
            return
        L.info("The keys in %s were loaded%s", self.path, " again" if had else "")

    def _read(self) -> tuple[FileStamp | None, KeySet | KeysUnusable]:
        """Blocks."""
        seen = file_stamp(self.path)
        try:
            return seen, read_keys(self.path, self.issuer.algorithms)
        except KeysUnusable as error:
            return seen, error

    def _put(self, seen: FileStamp | None, keys: KeySet | KeysUnusable) -> None:
        self._seen, self._looked, self._said = seen, True, ()
        if isinstance(keys, KeysUnusable):
            self._fail(str(keys))
            raise keys
        self._take(keys, str(self.path))


class FetchedKeys(KeySource):
    """Those at a URL, or at the one that the issuer's metadata name. chance: random, 0 to 1. flights: shared
    with other processes."""

    def __init__(
        self,
        issuer: Issuer,
        origins: Origins,
        on_change: Callable[[], None],
        now: Clock = monotonic,
        chance: Callable[[], float] = random.random,
        flights: Flights = ALONE,
    ) -> None:
        self._flights = flights
        super().__init__(issuer, on_change, now)
        self.kind = "jwks_uri" if isinstance(issuer.keys, KeyUrl) else "discovery"
        self._url = issuer.keys.url if isinstance(issuer.keys, KeyUrl) else ""
        self._origins = origins
        self._chance = chance
        self._due_at = now()
        self._forced_at: float | None = None
        self._retry = _FIRST_RETRY
        self._boundary = Boundary(f"fetching the keys of issuer {issuer.name}")

    @property
    def where(self) -> str:
        return shown(self._url or self.issuer.issuer)

    @property
    def next_in(self) -> float | None:
        return max(0.0, self._due_at - self._now())

    def begin(self) -> None:
        self._begin(background=True)

    def pending(self, *, force: bool) -> asyncio.Future[None] | None:
        task = super().pending(force=force)
        if task is not None or not force or self.keys is None:  # without any, retries have their own times
            return task
        now = self._now()
        if self._forced_at is not None and now - self._forced_at < COOLDOWN:
            return None
        self._forced_at = now
        return self._begin(background=False)

    async def refresh(self, *, due: bool = False) -> None:
        """Begin to fetch, where it is time."""
        if (due or self._now() >= self._due_at) and self.pending(force=False) is None:
            self.begin()

    def _begin(self, *, background: bool) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._fetch(background))
        return self._task

    async def _fetch(self, background: bool) -> None:
        # Set before, so that a bug does not make it fetch without end.
        self._due_at = self._now() + self._retry * (1.0 + self._chance())
        self._retry = min(_LAST_RETRY, 2.0 * self._retry)
        with self._boundary:
            try:
                keys, fresh = await self._read(background)
            except (OriginError, KeySetError) as error:
                if self._fail(str(error)):
                    self._tell_failure()
                return
            self._due_at = self._now() + fresh * (_EARLY[0] + _EARLY[1] * self._chance())
            self._retry = _FIRST_RETRY
            if self.failing or self.keys is None:
                L.info("The keys of issuer %s are here, from %s", self.issuer.name, self.where)
            self._take(keys, f"issuer {self.issuer.name}")

    def _tell_failure(self) -> None:
        follows = "the last good ones go on" if self.keys is not None else "until then its tokens get 503"
        L.warning(
            "The keys of issuer %s cannot be fetched from %s: %s; it is tried again, and %s",
            *(self.issuer.name, self.where, self.failure, follows),
        )

    async def _read(self, background: bool) -> tuple[KeySet, float]:
        """The keys, and for how many seconds they are fresh. Raises OriginError, KeySetError."""
        issuer = self.issuer
        named = issuer.keys.url if isinstance(issuer.keys, KeyUrl) else "discovery"
        flight = f"keys {issuer.name} {issuer.issuer} {named}"
        max_age = _SHARED if background else 0.0
        self._url, text, cached = await self._flights.share(flight, max_age, lambda: self._get(background))
        keys = await threads.run(threads.KEYS, parse_keys, text, issuer.algorithms, published=True)
        return keys, _fresh(cached)

    async def _get(self, background: bool) -> tuple[str, str, str]:
        """Their URL, their text and its Cache-Control. Raises OriginError."""
        # A token that waits has no time for the metadata again, while what they said is known.
        url = self._url
        if self.kind == "discovery" and (background or not url):
            url = self._url = await _jwks_uri(self.issuer, self._origins)
        response = await self._origins.get(url)
        if response.status != 200:
            raise OriginError(f"it responded with status {response.status}")
        return url, response.body.decode("utf-8", "replace"), response.headers.get("Cache-Control", "")


def _fresh(cache_control: str) -> float:
    """For how many seconds a response is fresh (RFC 9111 section 5.2.2), within bounds."""
    if _kept_by_none(cache_control):
        return LEAST
    found = _max_age(cache_control)
    return min(MOST, max(LEAST, float(found[1]))) if found else DEFAULT


async def _jwks_uri(issuer: Issuer, origins: Origins) -> str:
    """What the metadata name (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3). Raises
    OriginError."""
    base = issuer.issuer.removesuffix("/")
    parts = urlsplit(base)
    found = await origins.get(base + _OIDC)
    if 400 <= found.status < 500:
        found = await origins.get(urlunsplit((parts.scheme, parts.netloc, _OAUTH + parts.path, "", "")))
    if found.status != 200:
        raise OriginError(f"its metadata have status {found.status}")
    try:
        metadata = json.loads(found.body)
        named, url = metadata["issuer"], metadata["jwks_uri"]
        # A server on the network names no address of this host for us to ask.
        clear = in_the_clear(url + "") or (parts.scheme == "https" and urlsplit(url).scheme != "https")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise OriginError("its metadata are not a JSON object with `issuer` and `jwks_uri`") from None
    if named != issuer.issuer:
        raise OriginError(f"its metadata are of the issuer {str(named)[:200]!a}, letter for letter")
    if clear and not issuer.allow_http:
        raise OriginError("the `jwks_uri` of its metadata is not https")
    return str(url)
