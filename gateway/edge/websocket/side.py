"""One of the two connections of a WebSocket: what comes from it, and what is written to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic

from gateway.core.policy.limits import Pace
from gateway.core.websocket import frames
from gateway.core.websocket.frames import FrameError, FrameReader, Part


class Side:
    """One of the two connections: what comes from it (reader), and what is written to it.

    inside: what was written ends in the middle of a frame. close_sent, close_seen: a close frame went to
    it, came from it. broken: it broke the protocol, so of what it sends only the answer to our close frame is
    looked for. tail: the last bytes of that; surplus: how many of them came. waits: what came is not passed
    on yet; its turn comes. lost: its connection is gone.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        congested: Callable[[], bool],
        reader: FrameReader,
        pace: Pace,
        *,
        masks: bool,
        pause: Callable[[], object],
        resume: Callable[[], object],
    ) -> None:
        self._pause, self._resume = pause, resume
        self.transport = transport
        self.congested = congested
        self.reader = reader
        self.pace = pace
        self.heard = monotonic()
        self.waits = False
        self.surplus = 0
        self.pinged = self.held = self.inside = False
        self.close_sent = self.close_seen = self.broken = self.lost = False
        self.tail = b""
        self._masks = masks
        self._ready: list[bytes] = []
        self._waiting: list[bytes] = []  # frames of ours, until the frame that passes is complete

    def relay(self, part: Part) -> int:
        """Pass a part on. Gives the length of what passes: nothing may follow the close frame but the rest of
        the frame that it stands behind."""
        data = part.data
        if self.close_sent:
            if not self.inside:
                return 0
            data, ends = (data[: part.first], True) if part.first else (data, part.ends)
            self._put(data, ends=ends)
        elif part.first and self._waiting:
            self._put(data[: part.first], ends=True)
            self._put(data[part.first :], ends=part.ends)
        else:
            self._put(data, ends=part.ends)
        return len(data)

    def _put(self, data: bytes, *, ends: bool) -> None:
        if data:
            self._ready.append(data)
            self.inside = not ends
        if not self.inside and self._waiting:
            self._ready += self._waiting
            self._waiting = []

    def send(self, opcode: int, payload: bytes) -> None:
        """A frame of ours, as soon as one may stand there."""
        frame = frames.frame(opcode, payload, os.urandom(4) if self._masks else b"")
        (self._waiting if self.inside else self._ready).append(frame)

    def close(self, code: int, reason: str) -> None:
        """Nothing follows this, but what is missing of a frame."""
        if not self.close_sent:
            self.close_sent = True
            self.send(frames.CLOSE, frames.close_payload(code, reason))

    def fail(self, error: FrameError) -> None:
        """It broke the protocol: where its frames begin is not known any more."""
        self.broken = True
        self.close(error.code, error.reason)

    def look_for_close(self, data: bytes) -> None:
        """A broken one has answered our close frame, or sent its own, when what came ends in one."""
        self.surplus += len(data)
        self.tail = (self.tail + data[-frames.MAX_CLOSE :])[-frames.MAX_CLOSE :]
        self.close_seen = frames.ends_in_close(self.tail)

    @property
    def done(self) -> bool:
        return self.close_sent and self.close_seen and not self.inside

    def flush(self) -> None:
        if self._ready and not self.lost and not self.transport.is_closing():
            self.transport.write(self._ready[0] if len(self._ready) == 1 else b"".join(self._ready))
        self._ready = []

    def hold(self, held: bool) -> None:
        """Read from it no more for now, or again."""
        if held == self.held or self.lost or self.transport.is_closing():
            return
        self.held = held
        if held:
            self._pause()
        else:
            self.heard = monotonic()
            self._resume()

    def cut(self) -> None:
        if not self.lost:
            self.transport.abort()
