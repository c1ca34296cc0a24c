"""A WebSocket between a client and a backend: frames pass untouched, both ways, with back-pressure.

Only lengths, opcodes and close codes are looked at (core/frames.py). Frames of our own (a ping, a close)
stand between two frames that pass. Who ends it, and what the other side is told:

- A peer closes: its close frame passes, and so does the answer to it.
- A peer breaks the protocol or a limit: it gets 1002, 1007 or 1009 itself.
- The client is gone or at fault: the backend gets 1001. The backend is: the client gets 1014 (bad gateway).
- The token expires or the tenant is disabled: both get 1008. The gateway drains: both get 1001.

A side whose frame was cut off in the middle cannot get a close frame any more: its connection is cut too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from time import monotonic

from gateway.call import Call
from gateway.core import frames
from gateway.core.errors import Draining, GatewayError
from gateway.core.frames import FrameError, FrameReader, Part
from gateway.core.model import Tenant, WebSocketRule
from gateway.edge.connection import Connection

CLOSE_TIME = 5.0  # seconds that a peer may take to answer a close frame of ours


class _Side:
    """One of the two connections: what comes from it (reader), and what is written to it.

    inside: what was written ends in the middle of a frame. close_sent, close_seen: a close frame went to
    it, came from it. broken: it broke the protocol, so of what it sends only the answer to our close frame is
    looked for. tail: the last bytes of that.
    """

    def __init__(
        self, transport: asyncio.Transport, congested: Callable[[], bool], reader: FrameReader, *, masks: bool
    ) -> None:
        self.transport = transport
        self.congested = congested
        self.reader = reader
        self.heard = monotonic()
        self.pinged = self.held = self.inside = False
        self.close_sent = self.close_seen = self.broken = self.lost = False
        self.tail = b""
        self._masks = masks
        self._ready: list[bytes] = []
        self._waiting: list[bytes] = []  # frames of ours, until the frame that passes is complete

    def relay(self, part: Part) -> int:
        """Pass a part on. Gives its length, 0 when nothing may follow the close frame."""
        if self.close_sent and not self.inside:
            return 0
        self._ready.append(part.data)
        self.inside = not part.ends
        if part.ends and self._waiting:
            self._ready += self._waiting
            self._waiting = []
        return len(part.data)

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
        self.tail = (self.tail + data)[-frames.MAX_CLOSE :]
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
            self.transport.pause_reading()
        else:
            self.heard = monotonic()
            self.transport.resume_reading()

    def cut(self) -> None:
        if not self.lost:
            self.transport.abort()


class Tunnel:
    """From the 101 to the end of both connections. `deadline`: when `look` wants to be called.

    expires: when the token does, on the monotonic clock, 0.0 for never. on_end: called once, at the end.
    """

    begun = endless = True

    def __init__(
        self,
        call: Call,
        connection: Connection,
        rule: WebSocketRule,
        expires: float,
        on_end: Callable[[Tunnel], None],
    ) -> None:
        client, limit = call.client, rule.max_message
        assert client is not None and client.transport is not None and connection.transport is not None
        self.call = call
        self._on_end = on_end
        self._idle = rule.idle
        self._expires = expires
        self._close_by = 0.0
        self._ended = False
        self._mark = os.urandom(8)  # in our pings, so that the pongs to them go no further
        self._client = _Side(
            client.transport,
            lambda: client.writing_paused,
            FrameReader(masked=True, max_message=limit),
            masks=False,
        )
        self._backend = _Side(
            connection.transport,
            lambda: connection.writable is not None,
            FrameReader(masked=False, max_message=limit),
            masks=True,
        )
        self.deadline = monotonic()

    def start(self, head: bytes, early: bytes, rest: bytes) -> None:
        """Answer the client. early, rest: what the client, the backend have sent already."""
        self.call.bytes_out += len(head)
        self._client.transport.write(head)
        self.from_client(early)
        self.feed(rest)

    # --- what comes ---

    def from_client(self, data: bytes) -> None:
        if not self._ended:
            self.call.bytes_in += self._relay(self._client, self._backend, data)

    def feed(self, data: bytes) -> None:
        """Bytes from the backend."""
        if not self._ended:
            self.call.bytes_out += self._relay(self._backend, self._client, data)

    def _relay(self, one: _Side, other: _Side, data: bytes) -> int:
        """Gives the bytes that were passed on."""
        passed = 0
        one.heard, one.pinged = monotonic(), False
        if not one.broken and not one.close_seen:
            try:
                for part in one.reader.feed(data):
                    if part.opcode == frames.CLOSE:
                        passed += self._closes(one, other, part)
                        break
                    if part.opcode != frames.PONG or part.payload != self._mark:
                        passed += other.relay(part)
            except FrameError as error:
                one.fail(error)
                self._tell(other)
        if one.broken and not one.close_seen:
            one.look_for_close(data)
        self._settle()
        return passed

    def _closes(self, one: _Side, other: _Side, part: Part) -> int:
        """A close frame: the beginning of the end, or the answer to one."""
        one.close_seen = True
        frames.check_close(part.payload)
        if other.close_sent:
            return 0
        passed = other.relay(part)
        other.close_sent = True
        # The other may still have much to read before it answers.
        self._close_by = self._close_by or monotonic() + max(CLOSE_TIME, self._idle)
        return passed

    def _tell(self, side: _Side) -> None:
        """The other side of this one is gone or at fault."""
        if side.close_seen:
            side.close(1000, "")  # it wanted to go anyway
        elif side is self._backend:
            side.close(frames.GOING_AWAY, "The client is gone.")
        else:
            side.close(frames.BAD_GATEWAY, "The backend is gone.")
        self._hurry()

    def _hurry(self) -> None:
        soon = monotonic() + CLOSE_TIME
        self._close_by = min(self._close_by, soon) if self._close_by else soon
        self.deadline = min(self.deadline, self._close_by)

    # --- what the connections say ---

    def resume(self) -> None:
        """The client takes more again: a sign of life, for who reads slowly cannot answer a ping soon."""
        self._client.heard = monotonic()
        self._settle()

    def writable(self) -> None:
        """The backend takes more again."""
        self._backend.heard = monotonic()
        self._settle()

    def client_lost(self) -> None:
        self._lost(self._client, self._backend)

    def connection_lost(self) -> None:
        """The backend's connection is gone."""
        self._lost(self._backend, self._client)

    def _lost(self, side: _Side, other: _Side) -> None:
        side.lost = True
        if not other.lost:
            if other.inside:
                other.cut()
            else:
                self._tell(other)
        self._settle()

    # --- what ends it from outside ---

    def close(self, code: int, reason: str) -> None:
        """Tell both sides."""
        self._client.close(code, reason)
        self._backend.close(code, reason)
        self._hurry()
        self._settle()

    def cut(self) -> None:
        """End it now; nobody is told."""
        self._client.cut()
        self._backend.cut()
        self._end()

    drop = cut  # what `Pools` calls it

    def leave_off(self) -> None:
        """`Tunnels.drain` tells both sides."""

    def give_up(self, error: GatewayError) -> None:
        """It has begun, so nothing can be the answer instead."""
        self.cut()

    def look(self) -> None:
        """Once in a while: is it time to end, is somebody silent?"""
        now = monotonic()
        if self._close_by and now >= self._close_by:
            self.cut()
            return
        if self._expires and now >= self._expires and not self._client.close_sent:
            self.close(frames.POLICY, "The token has expired.")
        for side, other in ((self._client, self._backend), (self._backend, self._client)):
            silent = 0.0 if side.held or self._close_by else now - side.heard
            if silent >= self._idle:
                side.close(frames.GOING_AWAY, f"No sign of life for {self._idle:g} s.")
                self._tell(other)
            elif silent >= self._idle / 2 and not side.pinged:
                side.pinged = True
                side.send(frames.PING, self._mark)
        ends = [self._expires or now + self._idle, self._close_by or now + self._idle, now + self._idle / 8]
        self.deadline = max(now, min(ends))
        self._settle()

    def _settle(self) -> None:
        """After each event: write what has gathered, hang up where all is said, hold back who is too fast."""
        for side, other in ((self._client, self._backend), (self._backend, self._client)):
            side.flush()
            if side.done:
                side.transport.close()
            goes_on = not other.lost and not (other.close_sent and not other.inside)
            side.hold(goes_on and other.congested())
        if self._close_by:
            self.deadline = min(self.deadline, self._close_by)
        if self._client.lost and self._backend.lost:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.deadline = 0.0
            self._on_end(self)


class Tunnels:
    """All that are open; they outlive a snapshot."""

    def __init__(self) -> None:
        self._open: set[Tunnel] = set()
        self._tenants: Mapping[str, Tenant] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, tunnel: Tunnel) -> None:
        """One that has started. What happened while it did counts."""
        self._open.add(tunnel)
        if self._draining:
            tunnel.call.code = Draining.code
            tunnel.close(frames.GOING_AWAY, "The gateway is shutting down.")
        self._check(tunnel)

    def discard(self, tunnel: Tunnel) -> None:
        self._open.discard(tunnel)

    def reconcile(self, tenants: Mapping[str, Tenant]) -> None:
        """Close those whose tenant is gone or disabled."""
        self._tenants = tenants
        for tunnel in list(self._open):
            self._check(tunnel)

    def _check(self, tunnel: Tunnel) -> None:
        tenant = tunnel.call.tenant
        if tenant is None:
            return
        now = self._tenants.get(tenant.id.value)
        if now is None or now.disabled:
            tunnel.close(frames.POLICY, "The tenant is disabled.")

    def drain(self) -> None:
        """Tell all to go."""
        self._draining = True
        for tunnel in list(self._open):
            tunnel.close(frames.GOING_AWAY, "The gateway is shutting down.")
