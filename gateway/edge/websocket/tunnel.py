"""A WebSocket between a client and a backend: frames pass untouched, both ways, with back-pressure.

Only lengths, opcodes and close codes are looked at (core/websocket/frames.py). Frames of our own (a ping, a
close) stand between two frames that pass. How it ends, and which close codes are sent:

- A peer closes: its close frame passes, and so does the one that responds to it.
- A peer breaks the protocol or a limit: it gets 1002, 1007 or 1009 itself.
- A client sends small frames faster than the route lets it: it gets 1008. A backend that does is held back.
- The client is gone or at fault: the backend gets 1001. The backend is: the client gets 1014 (bad gateway).
- The token expires or the tenant is disabled: both get 1008. The gateway drains: both get 1001.

What came is forwarded in turns (stream_turns.py): as many frames as there is time for, then the rest, and no
more is read meanwhile. A side whose frame was cut off in the middle cannot get a close frame any more: its
connection is cut too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from time import monotonic

from gateway.call import Call
from gateway.core.errors import Draining, GatewayError
from gateway.core.model import WebSocketRule
from gateway.core.policy.limits import Pace
from gateway.core.websocket import frames
from gateway.core.websocket.frames import FrameError, FrameReader, Part
from gateway.edge.backend.connection import USER, Connection
from gateway.edge.lifetimes import Lifetime, Lifetimes
from gateway.edge.websocket import stream_turns
from gateway.edge.websocket.stream_turns import StreamTurns

CLOSE_TIME = 5.0  # seconds that a peer may take to respond to a close frame of ours
_MOST_DISCARDED = 4 * 1024 * 1024  # bytes that a broken one may send while we wait for that


class Side:
    """One of the two connections: what comes from it (reader), and what is written to it.

    congested: whether what was written waits to be read. pace: of its small frames. masks: frames of ours to
    it are masked. pause, resume: reading from it.
    heard_at: when bytes came last, on the monotonic clock; pinged: nothing came since our ping. is_paused: it
    is not read from. waits: what came is not forwarded yet; its turn comes. inside_frame: what was written
    ends in the middle of a frame. close_sent, close_seen: a close frame went to it, came from it. broken: it
    broke the protocol, so that of what it sends only the response to our close frame is looked for; tail:
    the last bytes of that, discarded: how many of them came. lost: its connection is gone.
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
        self.heard_at = monotonic()
        self.waits = False
        self.discarded = 0
        self.pinged = self.is_paused = self.inside_frame = False
        self.close_sent = self.close_seen = self.broken = self.lost = False
        self.tail = b""
        self._masks = masks
        self._ready: list[bytes] = []
        self._waiting: list[bytes] = []  # frames of ours, until the frame that is forwarded is complete

    def forward(self, part: Part) -> int:
        """Write a part of what the other side sent. Gives the bytes that were forwarded: nothing may follow
        the close frame but the rest of the frame that it stands behind."""
        data = part.data
        if self.close_sent:
            if not self.inside_frame:
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
            self.inside_frame = not ends
        if not self.inside_frame and self._waiting:
            self._ready += self._waiting
            self._waiting = []

    def send(self, opcode: int, payload: bytes) -> None:
        """Write a control frame of ours, as soon as one may stand there."""
        frame = frames.frame(opcode, payload, os.urandom(4) if self._masks else b"")
        (self._waiting if self.inside_frame else self._ready).append(frame)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, once. Nothing follows it, but what is missing of a frame."""
        if not self.close_sent:
            self.close_sent = True
            self.send(frames.CLOSE, frames.close_payload(code, reason))

    def fail(self, error: FrameError) -> None:
        """It broke the protocol: where its frames begin is not known any more."""
        self.broken = True
        self.close(error.code, error.reason)

    def detect_close(self, data: bytes) -> None:
        """Set `close_seen` when what a broken side sent ends in a close frame, in response to ours or not."""
        self.discarded += len(data)
        self.tail = (self.tail + data[-frames.MAX_CLOSE :])[-frames.MAX_CLOSE :]
        self.close_seen = frames.ends_in_close(self.tail)

    @property
    def is_closed(self) -> bool:
        """Whether the closing handshake is over (RFC 6455 section 7.1.1)."""
        return self.close_sent and self.close_seen and not self.inside_frame

    def flush(self) -> None:
        """Write all that has gathered, at once."""
        if self._ready and not self.lost and not self.transport.is_closing():
            self.transport.write(self._ready[0] if len(self._ready) == 1 else b"".join(self._ready))
        self._ready = []

    def set_paused(self, paused: bool) -> None:
        """Read from it no more for now, or again."""
        if paused == self.is_paused or self.lost or self.transport.is_closing():
            return
        self.is_paused = paused
        if paused:
            self._pause()
        else:
            self.heard_at = monotonic()
            self._resume()

    def cut(self) -> None:
        """End its connection now."""
        if not self.lost:
            self.transport.abort()


class Tunnel:
    """From the 101 to the end of both connections.

    rule: the route's. on_end: called once, at the end. turns: shared by all tunnels. deadline: when
    `check_timeouts` wants to be called, on the monotonic clock; 0 when it has ended.
    """

    begun = endless = True

    def __init__(
        self,
        call: Call,
        connection: Connection,
        rule: WebSocketRule,
        on_end: Callable[[Tunnel], None],
        turns: StreamTurns,
    ) -> None:
        client, limit = call.client, rule.max_message
        assert client is not None and client.transport is not None and connection.transport is not None
        self.call = call
        self._on_end = on_end
        self._turns = turns
        self._holder = call.tenant.id.value if call.tenant is not None else call.peer
        self._rule = rule
        self._idle = rule.idle
        self._close_by = 0.0
        self._ended = False
        self._mark = os.urandom(8)  # in our pings, so that the pongs to them go no further
        self._client = Side(
            client.transport,
            lambda: client.writing_paused,
            FrameReader(masked=True, max_message=limit),
            Pace(rule.frames),
            masks=False,
            pause=client.transport.pause_reading,
            resume=client.transport.resume_reading,
        )
        self._backend = Side(
            connection.transport,
            lambda: connection.writable is not None,
            FrameReader(masked=False, max_message=limit),
            Pace(rule.frames),
            masks=True,
            pause=partial(connection.pause_reading, USER),
            resume=partial(connection.resume_reading, USER),
        )
        self.deadline = monotonic()

    def start(self, head: bytes, early: bytes, rest: bytes) -> None:
        """Send the client its 101. head: of that. early, rest: bytes that the client, the backend have sent
        already."""
        self.call.bytes_out += len(head)
        self._client.transport.write(head)
        self.from_client(early)
        self.feed(rest)

    # --- bytes from both sides ---

    def from_client(self, data: bytes) -> None:
        """Bytes from the client."""
        self._received(self._client, self._backend, data)

    def feed(self, data: bytes) -> None:
        """Bytes from the backend."""
        self._received(self._backend, self._client, data)

    def _received(self, one: Side, other: Side, data: bytes) -> None:
        if self._ended or not data:
            return
        one.heard_at, one.pinged = monotonic(), False
        if one.broken or one.close_seen:
            self._discard(one, data)
            return
        one.reader.feed(data)
        if not one.waits:
            most = self._turns.available(self._holder)
            if most:
                self._turns.spend(self._holder, self._forward(one, other, most))
            else:
                self._wait(one, other)
                self._settle()

    def _discard(self, one: Side, data: bytes) -> None:
        """A side that broke the protocol is read until it responds to our close frame, but not for ever."""
        self._turns.spend(self._holder, stream_turns.EACH)
        if one.broken and not one.close_seen:
            one.detect_close(data)
            if one.discarded > _MOST_DISCARDED:
                one.cut()
        self._settle()

    def _wait(self, one: Side, other: Side) -> None:
        """What it sent is forwarded when it is its turn; until then no more is read from it."""
        one.waits = True
        self._turns.wait(self._holder, partial(self._take_turn, one, other))

    def _take_turn(self, one: Side, other: Side, most: int) -> int:
        one.waits = False
        return 0 if self._ended else self._forward(one, other, most)

    def _forward(self, one: Side, other: Side, most: int) -> int:
        """Write to the other what one of them sent, for about so many units of a turn. Gives those that were
        used."""
        used, forwarded, pause = stream_turns.EACH, 0, 0.0
        try:
            while used < most and not pause and (part := one.reader.next(most)) is not None:
                used += 2 + part.frames + len(part.data) // stream_turns.BYTES
                if part.small:
                    pause = self._check_pace(one, part.small)
                if part.opcode == frames.CLOSE:
                    forwarded += self._forward_close(one, other, part)
                    one.reader.take()
                elif part.opcode != frames.PONG or part.payload != self._mark:
                    forwarded += other.forward(part)
        except FrameError as error:
            one.fail(error)
            self._close_other(other)
            rest = one.reader.take()
            if not one.close_seen:
                one.detect_close(rest)
        if one is self._client:
            self.call.bytes_in += forwarded
        else:
            self.call.bytes_out += forwarded
        if one.reader.waiting:
            if pause:
                one.waits = True
                asyncio.get_running_loop().call_later(pause, self._wait, one, other)
            else:
                self._wait(one, other)
        elif one.lost:
            self._close_after(one, other)
        self._settle()
        return used

    def _check_pace(self, one: Side, small: int) -> float:
        """Seconds for which nothing more is forwarded, because of so many small frames. Raises FrameError
        where a client sent them."""
        pause = one.pace.spend(small, monotonic())
        if pause and one is self._client:
            rate = self._rule.frames.per_second
            raise FrameError(frames.POLICY, f"More than {rate:g} small frames a second.")
        return pause

    def _forward_close(self, one: Side, other: Side, part: Part) -> int:
        """A close frame: the beginning of the end, or the response to one. Gives the bytes that were
        forwarded. Raises FrameError."""
        one.close_seen = True
        frames.check_close(part.payload)
        if other.close_sent:
            return 0
        forwarded = other.forward(part)
        other.close_sent = True
        # The other may still have much to read before it responds.
        self._close_by = self._close_by or monotonic() + max(CLOSE_TIME, self._idle)
        return forwarded

    def _close_other(self, side: Side) -> None:
        """Close this side: the other one is gone or at fault."""
        if side.close_seen:
            side.close(1000, "")  # it wanted to go anyway
        elif side is self._backend:
            side.close(frames.GOING_AWAY, "The client is gone.")
        else:
            side.close(frames.BAD_GATEWAY, "The backend is gone.")
        self._expect_close()

    def _expect_close(self) -> None:
        """All has to be over soon."""
        soon = monotonic() + CLOSE_TIME
        self._close_by = min(self._close_by, soon) if self._close_by else soon
        self.deadline = min(self.deadline, self._close_by)

    # --- what the connections say ---

    def resume(self) -> None:
        """The client takes more again: a sign of life, for a slow reader cannot respond to a ping soon."""
        self._client.heard_at = monotonic()
        self._settle()

    def writable(self) -> None:
        """The backend takes more again."""
        self._backend.heard_at = monotonic()
        self._settle()

    def client_lost(self) -> None:
        """The client's connection is gone."""
        self._connection_gone(self._client, self._backend)

    def connection_lost(self) -> None:
        """The backend's connection is gone."""
        self._connection_gone(self._backend, self._client)

    def _connection_gone(self, side: Side, other: Side) -> None:
        side.lost = True
        if side.waits and not other.lost:
            self._expect_close()  # what it sent before is forwarded first
        else:
            self._close_after(side, other)
        self._settle()

    def _close_after(self, side: Side, other: Side) -> None:
        """One side is gone, and all that it sent was forwarded."""
        if not other.lost:
            if other.inside_frame:
                other.cut()
            else:
                self._close_other(other)

    # --- what ends it from outside ---

    def close(self, code: int, reason: str) -> None:
        """Send both sides a close frame."""
        self._client.close(code, reason)
        self._backend.close(code, reason)
        self._expect_close()
        self._settle()

    def expire(self, reason: str) -> None:
        """Its token or its tenant is no longer good."""
        if not self._client.close_sent:
            self.close(frames.POLICY, reason)

    def cut(self) -> None:
        """End it now, without close frames."""
        self._client.cut()
        self._backend.cut()
        self._end()

    drop = cut  # what `Pools` calls it

    def abort(self) -> None:
        """Nothing: both sides end with the process, and the call was logged before."""

    def is_stream(self) -> bool:
        """Always."""
        return True

    def close_after(self) -> None:
        """The connection ends with the tunnel anyway."""

    def leave_off(self) -> None:
        """`Tunnels.drain` closes it."""

    def give_up(self, error: GatewayError) -> None:
        """It has begun, so no error can be the response instead."""
        self.cut()

    def check_timeouts(self) -> None:
        """At the deadline: end it when its time is over, ping or close a side that is silent."""
        now = monotonic()
        if self._close_by and now >= self._close_by:
            self.cut()
            return
        for side, other in ((self._client, self._backend), (self._backend, self._client)):
            silent = 0.0 if side.is_paused or self._close_by else now - side.heard_at
            if silent >= self._idle:
                side.close(frames.GOING_AWAY, f"No sign of life for {self._idle:g} s.")
                self._close_other(other)
            elif silent >= self._idle / 2 and not side.pinged:
                side.pinged = True
                side.send(frames.PING, self._mark)
        ends = [self._close_by or now + self._idle, now + self._idle / 8]
        self.deadline = max(now, min(ends))
        self._settle()

    def _settle(self) -> None:
        """After each event: write what has gathered, close what is over, pause a side that is too fast."""
        for side, other in ((self._client, self._backend), (self._backend, self._client)):
            side.flush()
            if side.is_closed:
                side.transport.close()
            accepts = not other.lost and not (other.close_sent and not other.inside_frame)
            side.set_paused(side.waits or (accepts and other.congested()))
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
    """All tunnels that are open; they outlive a snapshot. turns: what they may do in one turn of the loop."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        self.turns = StreamTurns()
        self._lifetimes = lifetimes
        self._open: dict[Tunnel, Lifetime] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, tunnel: Tunnel) -> None:
        """One that has started; its token may have expired, or a drain begun, while it did."""
        self._open[tunnel] = self._lifetimes.add(tunnel.call, tunnel.expire)
        if self._draining:
            tunnel.call.code = Draining.code
            tunnel.close(frames.GOING_AWAY, "The gateway is shutting down.")

    def discard(self, tunnel: Tunnel) -> None:
        """It has ended."""
        lifetime = self._open.pop(tunnel, None)
        if lifetime is not None:
            lifetime.close()

    def drain(self) -> None:
        """Close all, and each that is still to come."""
        self._draining = True
        for tunnel in list(self._open):
            tunnel.close(frames.GOING_AWAY, "The gateway is shutting down.")
