"""The issuers whose tokens are taken: which of them a token is of, and whether it is.

A token's issuer is found by the exact `iss` that it claims, before any key is looked at; then only the keys,
the audiences and the tenants of that one count. Issuers live under their names in routing.yaml and outlive
its revisions: one whose config is the same keeps its keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from time import monotonic, time
from typing import Any, Protocol

from gateway.auth.credentials import NOBODY, Credentials
from gateway.auth.introspection import Introspector
from gateway.auth.key_source import Clock, FetchedKeys, FileKeys, KeySource
from gateway.core.errors import GatewayError, IssuerUnavailable, Unauthenticated
from gateway.core.jwt.issuer import Introspection, Issuer, KeyFile
from gateway.core.jwt.verify import UNTRUSTED, Token, parse, verify_token
from gateway.core.model import Identity
from gateway.core.openmetrics import Gauge, Instrument, Total
from gateway.edge.backend.origin import ALONE, Flights, Origins

PATIENCE = 2.0  # seconds that a request waits for newer keys of its token's issuer
MAX_WAITING = 100  # requests that wait so, for one issuer
Takes = Callable[[str], bool]  # whether an issuer (its name) may be asked about a token that only it can read


class Verifier(Protocol):
    """Tells whether a token is its issuer's."""

    @property
    def issuer(self) -> Issuer: ...
    def try_verify(self, text: str, token: Token | None) -> Identity | None:
        """As Issuers.try_verify. token: as parsed, None where it is no JWT."""
        ...

    async def verify(self, text: str, token: Token | None) -> Identity:
        """As Issuers.verify."""
        ...

    def begin(self) -> None:
        """See KeySource."""
        ...

    async def refresh(self, *, due: bool = False) -> None:
        """See KeySource."""
        ...

    async def close(self) -> None:
        """See KeySource."""
        ...

    def state(self) -> dict[str, Any]:
        """For /admin/auth."""
        ...


class ByKeys:
    """By the issuer's keys. waiting: requests that wait for newer ones."""

    def __init__(self, issuer: Issuer, source: KeySource, wall: Clock = time) -> None:
        self.issuer = issuer
        self.source = source
        self.waiting = 0
        self._wall = wall
        self.begin = source.begin
        self.refresh = source.refresh
        self.close = source.close
        self.state = source.state

    def try_verify(self, text: str, token: Token | None) -> Identity | None:
        assert token is not None
        try:
            return self._identity(token)
        except (Unauthenticated, IssuerUnavailable) as refusal:
            if self._fetch_for(refusal) is not None:
                return None
            raise

    async def verify(self, text: str, token: Token | None) -> Identity:
        assert token is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while True:
            try:
                return self._identity(token)
            except (Unauthenticated, IssuerUnavailable) as refusal:
                fetch, left = self._fetch_for(refusal), end - loop.time()
                if fetch is None or left <= 0.0:
                    raise
            self.waiting += 1
            try:
                await asyncio.wait([fetch], timeout=left)
            finally:
                self.waiting -= 1

    def _identity(self, token: Token) -> Identity:
        if self.source.keys is None:
            retry_after = self.source.next_in or 1.0
            raise IssuerUnavailable(
                "The keys of the token's issuer are not here yet. Try again.", retry_after=retry_after
            )
        return verify_token(token, self.source.keys, self.issuer, self._wall())

    def _fetch_for(self, refusal: GatewayError) -> asyncio.Future[None] | None:
        """The fetch after which the token may be good, None where the refusal is the last word."""
        if self.waiting >= MAX_WAITING:
            return None
        if not isinstance(refusal, Unauthenticated):
            return self.source.pending(force=False)
        return self.source.pending(force=True) if refusal.reason else None


class ByIntrospection:
    """By the issuer's word on each token."""

    def __init__(self, introspector: Introspector) -> None:
        self._introspector = introspector
        self.close = introspector.close
        self.state = introspector.state

    @property
    def issuer(self) -> Issuer:
        return self._introspector.issuer

    def try_verify(self, text: str, token: Token | None) -> Identity | None:
        self._introspector.refuse(text)
        return None

    async def verify(self, text: str, token: Token | None) -> Identity:
        return await self._introspector.identity(text)

    def begin(self) -> None:
        """There is nothing."""

    async def refresh(self, *, due: bool = False) -> None:
        """There is nothing."""


class Issuers:
    """All of them. now: the monotonic clock, for fetching; wall: seconds since the epoch, for tokens.
    flights: shared with other processes."""

    def __init__(
        self,
        credentials: Credentials,
        origins: Origins,
        *,
        now: Clock = monotonic,
        wall: Clock = time,
        flights: Flights = ALONE,
    ) -> None:
        self._flights = flights
        self._credentials = credentials
        self._origins = origins
        self._now = now
        self._wall = wall
        self._by_name: dict[str, Verifier] = {}
        self._by_iss: dict[str, Verifier] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._forgotten = False

    def reconcile(self, local: Issuer | None, others: Mapping[str, Issuer]) -> None:
        """Another config is live. local: the issuer of gateway.conf, None where it is switched off; it goes
        before another one with its `iss`. Needs the running loop: keys that are new are fetched at once."""
        wanted = [*([local] if local is not None else []), *others.values()]
        before, self._by_name = self._by_name, {}
        for issuer in wanted:
            old = before.get(issuer.name)
            if old is not None and old.issuer == issuer:
                self._by_name[issuer.name] = old
            elif isinstance(old, ByKeys) and _has_same_keys(old.issuer, issuer):
                self._by_name[issuer.name] = ByKeys(issuer, old.source, self._wall)
                self._forget(issuer.name)
                del before[issuer.name]
            else:
                self._by_name[issuer.name] = new = self._verifier(issuer)
                new.begin()
        for name, verifier in before.items():
            if self._by_name.get(name) is not verifier:
                self._begin(verifier.close())
                self._forget(name)
        self._by_iss = {}
        for verifier in self._by_name.values():
            self._by_iss.setdefault(verifier.issuer.issuer, verifier)

    def load(self, name: str) -> None:
        """Read the key file of an issuer now. Raises KeysUnusable. Blocks."""
        verifier = self._by_name[name]
        if isinstance(verifier, ByKeys) and isinstance(verifier.source, FileKeys):
            verifier.source.load()

    async def refresh(self, *, due: bool = False) -> bool:
        """Read files again that have changed, and begin to fetch what is due (or, with `due`, all there is);
        to be called every second. Gives whether identities were forgotten since the last time, for keys or
        issuers that are gone or new."""
        for verifier in list(self._by_name.values()):
            await verifier.refresh(due=due)
        forgotten, self._forgotten = self._forgotten, False
        return forgotten

    def try_verify(self, text: str, takes: Takes) -> Identity | None:
        """The identity of a token, where that needs no waiting; None where `verify` can tell. Raises
        Unauthenticated, IssuerUnavailable."""
        verifier, token = self._find(text, takes)
        with _Counting(self._credentials, verifier):
            return verifier.try_verify(text, token)

    async def verify(self, text: str, takes: Takes) -> Identity:
        """The identity of a token; may wait for its issuer. Raises Unauthenticated, IssuerUnavailable."""
        verifier, token = self._find(text, takes)
        with _Counting(self._credentials, verifier):
            identity = await verifier.verify(text, token)
            if self._by_name.get(verifier.issuer.name) is not verifier:  # the config changed meanwhile
                raise Unauthenticated("The token's issuer is not trusted here any more.")
            return identity

    def find(self, text: str, takes: Takes) -> tuple[Verifier, Token | None]:
        """Who verifies a token, and what it says where it can be read. Raises Unauthenticated."""
        if text.count(".") != 2:
            asked = [
                verifier
                for name, verifier in self._by_name.items()
                if isinstance(verifier, ByIntrospection) and takes(name)
            ]
            if len(asked) > 1:  # to ask them all would show each the tokens of the others
                raise Unauthenticated("The token does not say whose it is, and there are several to ask.")
            if asked:
                return asked[0], None
        token = parse(text)
        issuer = token.claims.get("iss")
        verifier = self._by_iss.get(issuer) if isinstance(issuer, str) else None
        if verifier is None:
            raise Unauthenticated(UNTRUSTED)
        return verifier, token

    def _find(self, text: str, takes: Takes) -> tuple[Verifier, Token | None]:
        try:
            return self.find(text, takes)
        except Unauthenticated:
            self._credentials.count(NOBODY, "refused")
            raise

    async def close(self) -> None:
        """Ask nobody any more."""
        for verifier in self._by_name.values():
            await verifier.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def states(self) -> list[dict[str, Any]]:
        """For /admin/auth."""
        return [
            {
                "name": name,
                "issuer": verifier.issuer.issuer,
                **verifier.state(),
                "tokens": self._credentials.counts(name),
            }
            for name, verifier in self._by_name.items()
        ]

    def instruments(self) -> Iterator[Instrument]:
        """What the metrics show of them."""
        age = "Since an issuer's keys were fetched last."
        name = "gateway_issuer_keys_age_seconds"
        yield Gauge(name, age, self._ages, ("issuer",), unit="seconds", merge="max")
        tried = "Attempts to have an issuer's keys, or its word on a token."
        yield Total("gateway_issuer_fetches", tried, self._fetches, ("issuer", "result"))

    def _ages(self) -> dict[tuple[str, ...], float]:
        """Of those that are fetched: a file is as old as it is."""
        states = {name: verifier.state() for name, verifier in self._by_name.items()}
        return {
            (name,): state["age_seconds"]
            for name, state in states.items()
            if state["next_fetch_seconds"] is not None and state["age_seconds"] is not None
        }

    def _fetches(self) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for name, verifier in self._by_name.items():
            state = verifier.state()
            found[name, "ok"], found[name, "failed"] = state["fetches"], state["failures"]
        return found

    def _verifier(self, issuer: Issuer) -> Verifier:
        if isinstance(issuer.keys, Introspection):
            asks = Introspector(issuer, issuer.keys, self._origins, self._wall, self._now, self._flights)
            return ByIntrospection(asks)

        def changed() -> None:
            self._forget(issuer.name)

        if isinstance(issuer.keys, KeyFile):
            return ByKeys(issuer, FileKeys(issuer, Path(issuer.keys.path), changed, self._now), self._wall)
        fetched = FetchedKeys(issuer, self._origins, changed, self._now, flights=self._flights)
        return ByKeys(issuer, fetched, self._wall)

    def _forget(self, name: str) -> None:
        self._credentials.forget(lambda identity: identity.issuer == name)
        self._forgotten = True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _has_same_keys(old: Issuer, new: Issuer) -> bool:
    """Whether the keys of one are those of the other, so that a change of its tenants does not need it."""
    return all(
        getattr(old, name) == getattr(new, name) for name in ("keys", "issuer", "algorithms", "allow_http")
    )


class _Counting:
    """Counts the refusals of its block, which pass."""

    __slots__ = ("_credentials", "_verifier")

    def __init__(self, credentials: Credentials, verifier: Verifier) -> None:
        self._credentials = credentials
        self._verifier = verifier

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Unauthenticated):
            self._credentials.count(self._verifier.issuer.name, "refused")
        elif isinstance(error, IssuerUnavailable):
            self._credentials.count(self._verifier.issuer.name, "unavailable")
