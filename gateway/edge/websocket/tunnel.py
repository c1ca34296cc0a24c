"""A WebSocket between a client and a backend: frames pass untouched, both ways, with back-pressure.

Only lengths, opcodes and close codes are looked at (core/websocket/frames.py). Frames of our own (a ping, a
close) stand between two frames that pass. Who ends it, and what the other side is told:

- A peer closes: its close frame passes, and so does the answer to it.
- A peer breaks the protocol or a limit: it gets 1002, 1007 or 1009 itself.
- A client sends small frames faster than the route lets it: it gets 1008. A backend that does is held back.
- The client is gone or at fault: the backend gets 1001. The backend is: the client gets 1014 (bad gateway).
- The token expires or the tenant is disabled: both get 1008. The gateway drains: both get 1001.

What came is passed on in turns (stream_turns.py): as many frames as there is time for, then the rest, and no
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

CLOSE_TIME = 5.0  # seconds that a peer may take to answer a close frame of ours
_UNREAD = 4 * 1024 * 1024  # bytes that a broken one may send while we wait for that answer


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


class Tunnel:
    """From the 101 to the end of both connections. `deadline`: when `look` wants to be called.

    on_end: called once, at the end. over: it may go on no longer, and why not.
    """

    begun = endless = True

    def __init__(
        self,
        call: Call,
        connection: Connection,
        rule: WebSocketRule,
        on_end: Callable[[Tunnel], None],
        taking: StreamTurns,
    ) -> None:
        client, limit = call.client, rule.max_message
        assert client is not None and client.transport is not None and connection.transport is not None
        self.call = call
        self._on_end = on_end
        self._turns = taking
        self._key = call.tenant.id.value if call.tenant is not None else call.peer
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
        """Answer the client. early, rest: what the client, the backend have sent already."""
        self.call.bytes_out += len(head)
        self._client.transport.write(head)
        self.from_client(early)
        self.feed(rest)

    # --- what comes ---

    def from_client(self, data: bytes) -> None:
        self._came(self._client, self._backend, data)

    def feed(self, data: bytes) -> None:
        """Bytes from the backend."""
        self._came(self._backend, self._client, data)

    def _came(self, one: Side, other: Side, data: bytes) -> None:
        if self._ended or not data:
            return
        one.heard, one.pinged = monotonic(), False
        if one.broken or one.close_seen:
            self._throw_away(one, data)
            return
        one.reader.feed(data)
        if not one.waits:
            most = self._turns.now(self._key)
            if most:
                self._turns.spend(self._key, self._relay(one, other, most))
            else:
                self._wait(one, other)
                self._settle()

    def _throw_away(self, one: Side, data: bytes) -> None:
        """Who broke the protocol is read until it answers our close frame, but not for ever."""
        self._turns.spend(self._key, stream_turns.EACH)
        if one.broken and not one.close_seen:
            one.look_for_close(data)
            if one.surplus > _UNREAD:
                one.cut()
        self._settle()

    def _wait(self, one: Side, other: Side) -> None:
        """What it sent is passed on when it is its turn; until then no more is read from it."""
        one.waits = True
        self._turns.wait(self._key, partial(self._go_on, one, other))

    def _go_on(self, one: Side, other: Side, most: int) -> int:
        one.waits = False
        return 0 if self._ended else self._relay(one, other, most)

    def _relay(self, one: Side, other: Side, most: int) -> int:
        """Pass on what one of them sent, for about so many units of a turn. Gives those that were used."""
        used, passed, pause = stream_turns.EACH, 0, 0.0
        try:
            while used < most and not pause and (part := one.reader.next(most)) is not None:
                used += 2 + part.frames + len(part.data) // stream_turns.BYTES
                if part.small:
                    pause = self._count(one, part.small)
                if part.opcode == frames.CLOSE:
                    passed += self._closes(one, other, part)
                    one.reader.take()
                elif part.opcode != frames.PONG or part.payload != self._mark:
                    passed += other.relay(part)
        except FrameError as error:
            one.fail(error)
            self._tell(other)
            rest = one.reader.take()
            if not one.close_seen:
                one.look_for_close(rest)
        if one is self._client:
            self.call.bytes_in += passed
        else:
            self.call.bytes_out += passed
        if one.reader.waiting:
            if pause:
                one.waits = True
                asyncio.get_running_loop().call_later(pause, self._wait, one, other)
            else:
                self._wait(one, other)
        elif one.lost:
            self._is_gone(one, other)
        self._settle()
        return used

    def _count(self, one: Side, small: int) -> float:
        """Seconds for which nothing more is passed on, because of so many small frames. Raises FrameError."""
        pause = one.pace.spend(small, monotonic())
        if pause and one is self._client:
            rate = self._rule.frames.per_second
            raise FrameError(frames.POLICY, f"More than {rate:g} small frames a second.")
        return pause

    def _closes(self, one: Side, other: Side, part: Part) -> int:
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

    def _tell(self, side: Side) -> None:
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

    def _lost(self, side: Side, other: Side) -> None:
        side.lost = True
        if side.waits and not other.lost:
            self._hurry()  # what it sent before passes first
        else:
            self._is_gone(side, other)
        self._settle()

    def _is_gone(self, side: Side, other: Side) -> None:
        """All that it sent has passed."""
        if not other.lost:
            if other.inside:
                other.cut()
            else:
                self._tell(other)

    # --- what ends it from outside ---

    def close(self, code: int, reason: str) -> None:
        """Tell both sides."""
        self._client.close(code, reason)
        self._backend.close(code, reason)
        self._hurry()
        self._settle()

    def over(self, why: str) -> None:
        """Its token or its tenant is no longer good."""
        if not self._client.close_sent:
            self.close(frames.POLICY, why)

    def cut(self) -> None:
        """End it now; nobody is told."""
        self._client.cut()
        self._backend.cut()
        self._end()

    drop = cut  # what `Pools` calls it

    def is_stream(self) -> bool:
        return True

    def close_after(self) -> None:
        """The connection ends with the tunnel anyway."""

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
        for side, other in ((self._client, self._backend), (self._backend, self._client)):
            silent = 0.0 if side.held or self._close_by else now - side.heard
            if silent >= self._idle:
                side.close(frames.GOING_AWAY, f"No sign of life for {self._idle:g} s.")
                self._tell(other)
            elif silent >= self._idle / 2 and not side.pinged:
                side.pinged = True
                side.send(frames.PING, self._mark)
        ends = [self._close_by or now + self._idle, now + self._idle / 8]
        self.deadline = max(now, min(ends))
        self._settle()

    def _settle(self) -> None:
        """After each event: write what has gathered, hang up where all is said, hold back who is too fast."""
        for side, other in ((self._client, self._backend), (self._backend, self._client)):
            side.flush()
            if side.done:
                side.transport.close()
            goes_on = not other.lost and not (other.close_sent and not other.inside)
            side.hold(side.waits or (goes_on and other.congested()))
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
    """All that are open; they outlive a snapshot. turns: what they may do in one turn of the loop."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        self.turns = StreamTurns()
        self._lifetimes = lifetimes
        self._open: dict[Tunnel, Lifetime] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, tunnel: Tunnel) -> None:
        """One that has started. What happened while it did counts."""
        self._open[tunnel] = self._lifetimes.add(tunnel.call, tunnel.over)
        if self._draining:
            tunnel.call.code = Draining.code
            tunnel.close(frames.GOING_AWAY, "The gateway is shutting down.")

    def discard(self, tunnel: Tunnel) -> None:
        lifetime = self._open.pop(tunnel, None)
        if lifetime is not None:
            lifetime.close()

    def drain(self) -> None:
        """Tell all to go."""
        self._draining = True
        for tunnel in list(self._open):
            tunnel.close(frames.GOING_AWAY, "The gateway is shutting down.")
