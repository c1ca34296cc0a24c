"""The one way in, the same for every framework: an identity, or a problem to answer with."""

from __future__ import annotations

import json
from dataclasses import dataclass

from . import log
from .identity import (
    ANONYMOUS,
    Forwarded,
    ForwardedInvalid,
    Headers,
    Identity,
    IdentityError,
    IdentityMissing,
    forwarded,
    is_anonymous,
    parse,
    problem,
    request_id,
)

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
        challenge = {"WWW-Authenticate": 'Bearer realm="gateway"'} if self.status == 401 else {}
        return {"Content-Type": PROBLEM_TYPE, **challenge}


def needs_identity(error: IdentityMissing) -> Refused:
    """What to answer when an application asked ANONYMOUS who it is."""
    return Refused(401, str(error))


def admit(headers: Headers) -> Admitted | Refused:
    """Who calls, or why the request is refused. The lines logged from here on carry the request's id."""
    log.request_id.set(request_id(headers))
    try:
        who = ANONYMOUS if is_anonymous(headers) else parse(headers)
        return Admitted(who, forwarded(headers))
    except IdentityError as error:
        return Refused(401, str(error))
    except ForwardedInvalid as error:
        return Refused(400, str(error))
