"""Who calls, and under which public address: the gateway's headers, read by one middleware per framework.

`identity` is pure, `entry` admits or refuses a request; both know no framework. `django`, `flask`, `fastapi`
and `asab` are their adapters, `wsgi` and `asgi` those of all others.
"""

from .entry import Admitted, Refused, admit
from .identity import (
    ANONYMOUS,
    Anonymous,
    Forwarded,
    ForwardedInvalid,
    Identity,
    IdentityError,
    IdentityInvalid,
    IdentityMissing,
    forwarded,
    parse,
    problem,
)

__all__ = [
    "ANONYMOUS",
    "Admitted",
    "Anonymous",
    "Forwarded",
    "ForwardedInvalid",
    "Identity",
    "IdentityError",
    "IdentityInvalid",
    "IdentityMissing",
    "Refused",
    "admit",
    "forwarded",
    "parse",
    "problem",
]
