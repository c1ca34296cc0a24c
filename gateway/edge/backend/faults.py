"""What goes wrong on the way to a backend, as errors of ours: the one map for names, dialing and exchanges.

Exceptions of the system end here: nothing of their text reaches a client, and no other module has to know
them.
"""

from __future__ import annotations

import errno
import ssl
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
from gateway.edge.backend.tls import TlsUnusable, tls_words

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


class TlsFailed(BackendUnavailable):
    """The backend accepted, and TLS with it could not begin. kind: for the metrics; reason: why, for an
    operator."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__("TLS with the backend could not begin.")
        self.kind = kind
        self.reason = reason


class TlsEnded(BackendReset):
    """The backend ended TLS in place of a response. reason: what it said, for an operator."""

    def __init__(self, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class NothingListens(BackendUnavailable):
    """The connection was refused, or there is no such socket."""


class ConnectTimeout(BackendUnavailable):
    """The backend did not accept in time."""


def why(error: GatewayError) -> str:
    """What an operator is told of an error beside its kind; "" for nothing."""
    if isinstance(error, NameUnresolved):
        return "its name is not resolved"
    return f"TLS: {error.reason}" if isinstance(error, TlsFailed | TlsEnded) else ""


def while_connecting(error: OSError, *, resolved: bool, secured: bool = False) -> GatewayError:
    """No connection, so nothing was sent. resolved: the address is known. secured: it was to begin with TLS.
    BackendSaturated when this process has no descriptor for one: that is no fault of the backend's."""
    if isinstance(error, Unresolved):
        return NameUnresolved("The backend's name cannot be resolved.", str(error))
    if isinstance(error, TlsUnusable):
        return TlsFailed("files", str(error))
    if isinstance(error, ssl.SSLError):
        kind = "certificate" if isinstance(error, ssl.SSLCertVerificationError) else "handshake"
        return TlsFailed(kind, tls_words(error))
    if secured and isinstance(error, ConnectionResetError | ConnectionAbortedError):
        return TlsFailed("handshake", "it ended the connection in the handshake")
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


def connection_lost(*, head_came: bool, why: str = "") -> BackendReset:
    """The backend ended the connection before its response was whole. why: what it said of that, by TLS."""
    if head_came:
        return BackendReset("The backend's response was cut off.")
    if why:
        return TlsEnded("The backend ended TLS before it answered.", why)
    return BackendReset("The backend closed the connection before it answered.")


def response_late(*, head_came: bool) -> BackendTimeout:
    """The backend did not send the response, or the rest of it, in time."""
    if head_came:
        return BackendTimeout("The backend's response stalled, or took too long in all.")
    return BackendTimeout("The backend's response did not begin in time.")


def body_late() -> RequestTimeout:
    """The client did not send the request's body in time; the backend takes all that there is."""
    return RequestTimeout("The body did not come within the call's total time.", close=True)
