"""Lingering close: the end of a connection while its client may still be sending (RFC 9112 section 9.6).

The kernel responds with a reset to bytes for a closed socket, and a client that is reset may never read the
response that came before. So our side is ended first, and what comes is read and discarded.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

# As long as nginx waits: a client that sends all of its body before it reads gets the refusal of 10 MiB over
# a link of 3 Mbit/s. It holds a socket meanwhile, for less time than an idle connection may.
TIME = 30.0  # seconds in all
SILENCE = 5.0  # seconds without a byte
DRAIN_TIME = 0.5  # seconds in all while the gateway drains
# Several times what a route takes by default; reading that much takes 40 ms of one core (measured).
MOST = 64 * 1024 * 1024  # bytes


class Lingering:
    """Ends our side of a connection. What comes is discarded until the client ends its own (the transport
    closes itself then), or a time or the number of bytes is over."""

    __slots__ = ("_began", "_left", "_received_at", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._began = self._received_at = monotonic()
        self._left = MOST
        with contextlib.suppress(OSError):  # the client has reset it; the next read says so
            transport.write_eof()

    def discard(self, data: bytes) -> None:
        """Bytes came from the client. Those beyond the limit close the connection."""
        self._received_at = monotonic()
        self._left -= len(data)
        if self._left < 0:
            self._transport.close()

    def check_timeouts(self, now: float, *, draining: bool = False) -> None:
        """Close the connection if its time is over. now: on the monotonic clock, in seconds."""
        time = DRAIN_TIME if draining else TIME
        if now - self._began >= time or now - self._received_at >= SILENCE:
            self._transport.close()
