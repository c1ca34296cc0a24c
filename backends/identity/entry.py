"""The one way in, the same for every framework: an identity, or a problem to answer with."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from functools import cache

from . import log
from .assertion import HEADER, Assertions, Incoming, KeyUnknown
from .identity import (
    ANONYMOUS,
    Forwarded,
    ForwardedInvalid,
    Identity,
    IdentityError,
    IdentityMissing,
    forwarded,
    is_anonymous,
    parse,
    problem,
    request_id,
)
from .settings import Settings

logger = logging.getLogger(__name__)

# Answers without an identity, so that a supervisor can ask whether the process is up.
PUBLIC_PATHS = frozenset({"/healthz"})
PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who calls (ANONYMOUS for nobody, on a public route), and the public address of the request."""

    identity: Identity
    public: Forwarded


@dataclass(frozen=True, slots=True)
class Refused:
    """What to answer instead: a status, and a detail for the caller that echoes nothing."""

    status: int
    detail: str

    @property
    def body(self) -> bytes:
        """The answer's body, of PROBLEM_TYPE."""
        return json.dumps(problem(self.status, self.detail)).encode()

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers. A 401 says how to identify oneself (RFC 9110 section 15.5.2)."""
        more = {401: {"WWW-Authenticate": 'Bearer realm="gateway"'}, 503: {"Retry-After": "5"}}
        return {"Content-Type": PROBLEM_TYPE, **more.get(self.status, {})}


def needs_identity(error: IdentityMissing) -> Refused:
    """What to answer when an application asked ANONYMOUS who it is."""
    return Refused(401, str(error))


class Entrance:
    """Lets requests in, by these settings. Raises SettingsInvalid."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assertions = Assertions(settings) if settings.keys else None
        if not settings.keys and not settings.trust_headers:
            logger.warning(
                "GATEWAY_IDENTITY_KEYS is not set, so everyone gets 401: set it and GATEWAY_IDENTITY_AUDIENCE"
            )

    def admit(self, request: Incoming) -> Admitted | Refused:
        """Who calls, or why the request is refused. The lines logged from here on carry the request's id.
        Blocks while the gateway's keys are read or fetched."""
        try:
            return self._admit(request)
        except KeyUnknown:
            self._refresh()
        return self._admit_with_these_keys(request)

    async def admit_async(self, request: Incoming) -> Admitted | Refused:
        """As `admit`; the keys come in a thread."""
        try:
            return self._admit(request)
        except KeyUnknown:
            await asyncio.to_thread(self._refresh)
        return self._admit_with_these_keys(request)

    def _refresh(self) -> None:
        assert self._assertions is not None
        self._assertions.keys.refresh()

    def _admit_with_these_keys(self, request: Incoming) -> Admitted | Refused:
        assert self._assertions is not None
        try:
            return self._admit(request)
        except KeyUnknown:
            if self._assertions.keys.ready:
                return Refused(401, f"The header {HEADER} is not signed with a key of the gateway.")
            return Refused(503, "The gateway's keys are not here yet; the log says why. Try again.")

    def _admit(self, request: Incoming) -> Admitted | Refused:
        log.request_id.set(request_id(request.headers))
        try:
            return Admitted(self._identity(request), forwarded(request.headers))
        except IdentityError as error:
            return Refused(401, str(error))
        except ForwardedInvalid as error:
            return Refused(400, str(error))

    def _identity(self, request: Incoming) -> Identity:
        """This is the one place where a request is believed. Raises IdentityError, KeyUnknown."""
        signed = bool(request.headers(HEADER))
        if self._assertions is not None and (signed or not self._settings.trust_headers):
            return self._assertions.verify(request)
        if self._settings.trusts(request.peer):
            return ANONYMOUS if is_anonymous(request.headers) else parse(request.headers)
        if self._settings.trust_headers:
            raise IdentityMissing(
                "This application believes only this host (GATEWAY_IDENTITY_TRUST_HEADERS): call the gateway."
            )
        raise IdentityMissing(
            "This application was told no keys of a gateway, so it believes nobody: set "
            "GATEWAY_IDENTITY_KEYS and GATEWAY_IDENTITY_AUDIENCE."
        )


@cache
def entrance(settings: Settings | None = None) -> Entrance:
    """The one with these settings, or those of the environment. Raises SettingsInvalid."""
    return Entrance(settings or Settings.from_environment())
