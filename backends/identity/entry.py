"""The one way in, the same for every framework: an identity, or a problem to answer with."""

from __future__ import annotations

import json
from dataclasses import dataclass

from backends.identity import log
from backends.identity.identity import (
    Forwarded,
    ForwardedInvalid,
    Headers,
    Identity,
    IdentityError,
    forwarded,
    parse,
    problem,
    request_id,
)

# Answers without an identity, so that a supervisor can ask whether the process is up.
PUBLIC_PATHS = frozenset({"/healthz"})
PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who calls, and the public address of the request."""

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


def admit(headers: Headers) -> Admitted | Refused:
    """Who calls, or why the request is refused. The lines logged from here on carry the request's id."""
    log.request_id.set(request_id(headers))
    try:
        return Admitted(parse(headers), forwarded(headers))
    except IdentityError as error:
        return Refused(401, str(error))
    except ForwardedInvalid as error:
        return Refused(400, str(error))
