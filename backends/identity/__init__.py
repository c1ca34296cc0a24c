"""Who calls, and under which public address: what the gateway signs and says, read by one middleware per
framework.

`identity` is pure, `assertion` verifies, `entry` admits or refuses a request; none knows a framework.
`django`, `flask`, `fastapi` and `asab` are their adapters, `wsgi` and `asgi` those of all others.
"""

from .assertion import Incoming
from .entry import Admitted, Entrance, Refused
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
from .settings import Settings, SettingsInvalid

__all__ = [
    "ANONYMOUS",
    "Admitted",
    "Anonymous",
    "Entrance",
    "Forwarded",
    "ForwardedInvalid",
    "Identity",
    "IdentityError",
    "IdentityInvalid",
    "IdentityMissing",
    "Incoming",
    "Refused",
    "Settings",
    "SettingsInvalid",
    "forwarded",
    "parse",
    "problem",
]
