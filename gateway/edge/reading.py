"""When a socket is read from: of a client's connection and a backend's alike, several may hold it."""

from __future__ import annotations

import asyncio

LARGE = 64 * 1024  # bytes of a read behind which there may be as many more at once


class HeldReading(asyncio.Protocol):
    """A protocol that reads nothing while anybody holds it. transport: None while there is none. Reasons are
    bits, which whoever builds on this names."""

    __slots__ = ("_held_by", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._held_by = 0

    def hold(self, why: int) -> None:
        """Read nothing for now. It counts from the next read on: what was read is fed all the same."""
        self._held_by |= why
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def let_go(self, why: int) -> None:
        """Read on, unless there is another reason not to."""
        if self._held_by & why:
            self._held_by &= ~why
            if not self._held_by and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
