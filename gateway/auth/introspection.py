"""Tokens that only their issuer can read: it is asked about each (RFC 7662), once for all who show it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any
from urllib.parse import quote_plus

from gateway.core.errors import IssuerUnavailable, Unauthenticated
from gateway.core.http.urls import shown
from gateway.core.jwt.issuer import Introspection, Issuer, SecretReference
from gateway.core.jwt.verify import MAX_TOKEN, identity_of
from gateway.core.model import Identity
from gateway.edge.backend.origin import ALONE, TIMEOUT, Flights, OriginError, Origins
from gateway.runtime import threads
from gateway.runtime.files import FileUnusable, read_text
from gateway.runtime.periodic import Boundary

L = logging.getLogger(__name__)
KEPT = 5.0  # seconds that a refused token is refused without asking again
MAX_REFUSED = 10_000  # of them are remembered
AT_ONCE = 16  # requests to one issuer
MAX_WAITING = 1000  # tokens that wait for its word
_SHED = 1.0  # seconds after a failure in which nobody is asked
_MAX_SECRET = 64 * 1024
_MAX_WORD = 64 * 1024  # bytes that an issuer may say of a token: they are kept with it

_Outcome = Identity | Unauthenticated | IssuerUnavailable


class Introspector:
    """Asks one issuer. wall: seconds since the epoch, for what tokens say; now: the monotonic clock.
    flights: shared with other processes."""

    def __init__(
        self,
        issuer: Issuer,
        rule: Introspection,
        origins: Origins,
        wall: Callable[[], float] = time,
        now: Callable[[], float] = monotonic,
        flights: Flights = ALONE,
    ) -> None:
        self._flights = flights
        self.issuer = issuer
        self._rule = rule
        self._origins = origins
        self._wall = wall
        self._now = now
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._asking: dict[bytes, asyncio.Task[_Outcome]] = {}
        self._refused: dict[bytes, tuple[float, str]] = {}  # until when, and why; no token is kept
        self._shed_until = 0.0
        self._failing = False
        self._failure = ""
        self._failed_at = 0.0
        self._requests = self._failures = 0
        self._boundary = Boundary(f"asking issuer {issuer.name} about a token")

    def refuse(self, text: str) -> None:
        """Raises Unauthenticated for a token that was refused just now, or is none."""
        if len(text) > MAX_TOKEN:
            raise Unauthenticated(f"The token is longer than {MAX_TOKEN // 1024} KiB.")
        until, why = self._refused.get(_hash(text), (0.0, ""))
        if until > self._now():
            raise Unauthenticated(why)

    async def identity(self, text: str) -> Identity:
        """What the issuer says of a token. Raises Unauthenticated, IssuerUnavailable."""
        self.refuse(text)
        key = _hash(text)
        task = self._asking.get(key)
        if task is None:
            if self._now() < self._shed_until or len(self._asking) >= MAX_WAITING:
                raise self._away()
            task = asyncio.get_running_loop().create_task(self._settle(key, text))
            self._asking[key] = task
        await asyncio.wait([task], timeout=TIMEOUT)  # a client that leaves does not end it for the others
        outcome = task.result() if task.done() and not task.cancelled() else self._away()
        if isinstance(outcome, Identity):
            return outcome
        # A new one each time: a raised error keeps the frames of its request.
        raise Unauthenticated(outcome.detail) if isinstance(outcome, Unauthenticated) else self._away()

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def state(self) -> dict[str, Any]:
        """For /admin/auth."""
        failed = {"reason": self._failure, "at": self._failed_at, "over": not self._failing}
        return {
            "source": "introspection",
            "where": shown(self._rule.url),
            "keys": [],
            "age_seconds": None,
            "next_fetch_seconds": None,
            "last_failure": failed if self._failure else None,
            "fetches": self._requests - self._failures,
            "failures": self._failures,
        }

    def _away(self) -> IssuerUnavailable:
        return IssuerUnavailable("The token's issuer cannot be asked about it. Try again.")

    async def _settle(self, key: bytes, text: str) -> _Outcome:
        outcome: _Outcome = self._away()
        try:
            with self._boundary:
                outcome = await self._ask(key, text)
        finally:
            del self._asking[key]
        if isinstance(outcome, Unauthenticated):
            if len(self._refused) >= MAX_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[key] = self._now() + KEPT, outcome.detail
        return outcome

    async def _ask(self, key: bytes, text: str) -> _Outcome:
        async with self._seats:
            if self._now() < self._shed_until:  # it failed meanwhile, so whoever waited has left
                return self._away()
            self._requests += 1
            try:
                flight = f"token {self.issuer.name} {self._rule.url} {key.hex()}"
                claims = await self._flights.share(flight, KEPT, lambda: self._claims(text))
            except OriginError as error:
                self._fail(str(error))
                return self._away()
        if self._failing:
            L.info("Issuer %s can be asked about its tokens again", self.issuer.name)
            self._failing = False
        try:
            if claims["active"] is not True:
                return Unauthenticated("The token's issuer says that it is not, or no more, valid.")
            return identity_of(claims, self.issuer, self._wall())
        except Unauthenticated as refused:
            return Unauthenticated(refused.detail)

    async def _claims(self, text: str) -> dict[str, Any]:
        """Raises OriginError."""
        secret = await threads.run(threads.KEYS, _secret, self._rule.client_secret)
        # RFC 6749 section 2.3.1: each is form-encoded before it becomes a part of Basic.
        pair = f"{quote_plus(self._rule.client_id)}:{quote_plus(secret)}"
        basic = base64.b64encode(pair.encode()).decode()
        fields = {"token": text, "token_type_hint": "access_token"}
        response = await self._origins.post(self._rule.url, fields, {"Authorization": f"Basic {basic}"})
        if response.status == 401:
            raise OriginError("it refuses the gateway's own client_id and client_secret (status 401)")
        if response.status != 200:
            raise OriginError(f"it responded with status {response.status}")
        if len(response.body) > _MAX_WORD:
            raise OriginError(f"its response is longer than {_MAX_WORD // 1024} KiB")
        try:
            claims = json.loads(response.body)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict) or not isinstance(claims.get("active"), bool):
            raise OriginError("its response is not a JSON object with `active`")
        return claims

    def _fail(self, text: str) -> None:
        self._failures += 1
        self._failure, self._failed_at = text, time()
        self._shed_until = self._now() + _SHED
        if not self._failing:
            self._failing = True
            L.warning(
                "Issuer %s cannot be asked about its tokens: %s; until it can, those not known get 503",
                *(self.issuer.name, text),
            )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _secret(reference: SecretReference) -> str:
    """The secret as it is now. Blocks. Raises OriginError, which names the place and not the value."""
    if reference.env:
        found = os.environ.get(reference.env, "")
        place = f"the variable {reference.env} of the environment"
    else:
        place = f"the file {reference.file}"
        try:
            found = read_text(Path(reference.file), _MAX_SECRET).strip("\r\n")
        except (FileUnusable, OSError):
            found = ""
    if not found:
        raise OriginError(f"its client_secret is not there: {place} is missing, empty or cannot be read")
    return found
