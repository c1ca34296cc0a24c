"""Who calls, and under which public address: the gateway's headers, read by one middleware per framework.

`identity` is pure and knows no framework; `django`, `flask`, `fastapi` and `asab` are its adapters.
"""

from backends.identity.identity import (
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
    "Forwarded",
    "ForwardedInvalid",
    "Identity",
    "IdentityError",
    "IdentityInvalid",
    "IdentityMissing",
    "forwarded",
    "parse",
    "problem",
]
