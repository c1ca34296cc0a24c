"""A client that does not read what waits for it."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios


class Unread:
    """Watches what waits for one client, here and in the kernel. Slow is who takes a byte."""

    __slots__ = ("_since", "_waits")

    def __init__(self) -> None:
        self._since = 0.0
        self._waits = 0  # bytes, when that was looked at last

    def look(self, transport: asyncio.Transport, now: float, limit: float) -> bool:
        """Whether the client took nothing for `limit` seconds of what waits, be it little or the end of all:
        a transport that was closed stays until the last byte has left. now: on the monotonic clock."""
        here = transport.get_write_buffer_size()
        if not here:
            self._since = 0.0
            return False
        waits = here + unsent(transport)
        if waits != self._waits or not self._since:
            self._waits, self._since = waits, now
            return False
        return now - self._since >= limit


def waiting(transport: asyncio.Transport) -> int:
    """Bytes from the other end that the kernel holds and nobody has read yet (tcp(7), SIOCINQ)."""
    return _count(transport, termios.FIONREAD)


def unsent(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the other end has not taken (tcp(7), SIOCOUTQ)."""
    return _count(transport, termios.TIOCOUTQ)


def _count(transport: asyncio.Transport, request: int) -> int:
    """What the kernel answers an ioctl(2) of the socket; 0 where it knows none."""
    number = bytearray(4)
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), request, number)
    except OSError:
        return 0
    return int.from_bytes(number, sys.byteorder)
