"""What goes wrong on the way to a backend, as errors of ours: the one map for names, dialing and exchanges.

Exceptions of the system end here: nothing of their text reaches a client, and no other module has to know
them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType

from gateway.core.errors import (
    BackendMalformed,
    BackendReset,
    BackendSaturated,
    BackendTimeout,
    BackendUnavailable,
    GatewayError,
    RequestTimeout,
)
from gateway.core.policy.circuit import Failure
from gateway.edge.backend.resolver import Unresolved

_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# What an address is held to account for, by the code of the error.
FAILURES: Mapping[str, Failure] = MappingProxyType(
    {
        BackendReset.code: "reset",
        BackendMalformed.code: "malformed",
        BackendTimeout.code: "timeout",
    }
)


class NameUnresolved(BackendUnavailable):
    """The backend's name has no address now. reason: why, for an operator."""

    def __init__(self, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class NothingListens(BackendUnavailable):
    """The connection was refused, or there is no such socket."""


class ConnectTimeout(BackendUnavailable):
    """The backend did not accept in time."""


def while_connecting(error: OSError, *, resolved: bool) -> GatewayError:
    """No connection, so nothing was sent. resolved: the address is known. BackendSaturated when this process
    has no descriptor for one: that is no fault of the backend's."""
    if isinstance(error, Unresolved):
        return NameUnresolved("The backend's name cannot be resolved.", str(error))
    if isinstance(error, TimeoutError):
        if not resolved:
            return NameUnresolved("The backend's name was not resolved in time.", "no response in time")
        return ConnectTimeout("Connecting to the backend took too long.")
    if error.errno in _NO_DESCRIPTOR:
        detail = "The gateway has no file descriptor left for a connection to the backend."
        return BackendSaturated(detail)
    detail = "The backend does not accept connections."
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return NothingListens(detail)
    return BackendUnavailable(detail)


def connection_lost(*, head_came: bool) -> BackendReset:
    """The backend ended the connection before its response was whole."""
    if head_came:
        return BackendReset("The backend's response was cut off.")
    return BackendReset("The backend closed the connection before it answered.")


def response_late(*, head_came: bool) -> BackendTimeout:
    """The backend did not send the response, or the rest of it, in time."""
    if head_came:
        return BackendTimeout("The backend's response stalled, or took too long in all.")
    return BackendTimeout("The backend's response did not begin in time.")


def body_late() -> RequestTimeout:
    """The client did not send the request's body in time; the backend takes all that there is."""
    return RequestTimeout("The body did not come within the call's total time.", close=True)
