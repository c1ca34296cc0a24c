"""WebSocket frames (RFC 6455 section 5): taken apart just far enough to relay them untouched.

A reader checks each frame's head, so that nothing malformed or too large is ever passed on, and gives the
bytes as they came. Extensions are never negotiated, so the reserved bits must be zero.
"""

from __future__ import annotations

from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MAX_CONTROL = 125  # bytes of a control frame's payload
MAX_CLOSE = _MAX_CONTROL + 6  # bytes of a masked close frame
SMALL = 1024  # bytes of a payload; a frame that holds less is paid for by its number, not by its bytes

# Close codes (section 7.4.1, and the IANA registry). 1005, 1006 and 1015 never stand in a frame.
GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA, POLICY = 1001, 1002, 1007, 1008
TOO_BIG, BAD_GATEWAY = 1009, 1014
_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


class FrameError(Exception):
    """The sender broke the protocol or a limit. code, reason: what to close its connection with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Part(NamedTuple):
    """Bytes as they came: one close or pong frame whole, or a run of all other frames.

    ends: they end where a frame does. first: how many of them end the frame that had begun before, 0 when
    none had, or it continues. frames: how many began in them; small: those that hold less than SMALL bytes.
    payload: of a close or pong frame, unmasked.
    """

    opcode: int
    data: bytes
    ends: bool
    first: int = 0
    frames: int = 0
    small: int = 0
    payload: bytes = b""


class FrameReader:
    """Frames from one peer. masked: whether it must mask them (a client must, a server must not).
    max_message: bytes that a message may hold, over all its fragments.

    `feed` takes bytes, `next` gives them as parts, of as many frames at a time as the caller has time for: an
    empty frame is 6 bytes, so that 256 KiB may hold 40,000 of them. waiting: `next` may give more before more
    is fed.
    """

    __slots__ = (
        "_at", "_data", "_fragmented", "_head_size", "_left", "_mask_bit", "_masked", "_max_message", "_size",
        "waiting",
    )  # fmt: skip

    def __init__(self, *, masked: bool, max_message: int) -> None:
        self._masked = masked
        self._mask_bit = 0x80 if masked else 0
        self._head_size = 6 if masked else 2
        self._max_message = max_message
        self._data = b""
        self._at = 0  # what is before it was given out
        self._left = 0  # bytes of a data frame's payload that are still to come
        self._fragmented = False  # a message has begun and its last fragment has not
        self._size = 0  # bytes of that message up to here
        self.waiting = False

    def feed(self, data: bytes) -> None:
        """Bytes came from the peer."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0
        self.waiting = True

    def take(self) -> bytes:
        """What was fed and not given out; it is forgotten here."""
        rest, self._data, self._at, self.waiting = self._data[self._at :], b"", 0, False
        return rest

    def next(self, most: int) -> Part | None:
        """The next part; None when more bytes are needed. most: frames that may begin in it, 1 or more.
        Raises FrameError, always between two frames: all that came before was given out."""
        data, start, size = self._data, self._at, len(self._data)
        at, first = start, 0
        if self._left:
            at = min(start + self._left, size)
            self._left -= at - start
            first = 0 if self._left else at - start
        frames = small = 0
        while frames < most and at + 2 <= size:
            opcode = data[at] & 0x0F
            try:
                head, length = self._head(data, at)
            except FrameError:
                if at > start:
                    break
                raise
            if not head:
                break
            end = at + head + length
            if opcode >= CLOSE:
                if end > size:
                    break
                if opcode != PING:
                    if at > start:
                        break
                    self._at = end
                    raw = data[at:end]
                    return Part(opcode, raw, True, 0, 1, 1, self._payload(raw, head))
            frames += 1
            if length < SMALL:
                small += 1
            if end > size:
                self._left = end - size
                end = size
            at = end
        if at > start:
            self._at = at
            run = data if at - start == size else data[start:at]
            return Part(CONTINUATION, run, not self._left, first, frames, small)
        self._data, self._at, self.waiting = data[at:], 0, False
        return None

    def _head(self, data: bytes, at: int) -> tuple[int, int]:
        """The lengths of a frame's head and of its payload; (0, 0) when the head is not whole yet. Two bytes
        of it are there."""
        first, second = data[at], data[at + 1]
        fault = _FAULTS[first]
        if fault is not None:
            raise FrameError(PROTOCOL_ERROR, fault)
        if second & 0x80 != self._mask_bit:
            raise FrameError(PROTOCOL_ERROR, "Frames of a client are masked, those of a server are not.")
        length, head = second & 0x7F, self._head_size
        if length > _MAX_CONTROL:
            extended = 2 if length == 126 else 8
            head += extended
            if len(data) < at + head:
                return 0, 0
            shorter, length = length, int.from_bytes(data[at + 2 : at + 2 + extended])
            if length < (126 if shorter == 126 else 0x10000) or length >> 63:
                raise FrameError(PROTOCOL_ERROR, "The length is not in its shortest form.")
        elif len(data) < at + head:
            return 0, 0
        self._check(first & 0x0F, first & 0x80 != 0, length)
        return head, length

    def _check(self, opcode: int, final: bool, length: int) -> None:
        """Whether this frame may come now, and how long its message gets."""
        if opcode >= CLOSE:
            if not final or length > _MAX_CONTROL:
                raise FrameError(PROTOCOL_ERROR, "A control frame is fragmented or too long.")
            return
        if self._fragmented != (opcode == CONTINUATION):
            raise FrameError(PROTOCOL_ERROR, "A fragment stands where none may.")
        size = self._size + length if opcode == CONTINUATION else length
        if size > self._max_message:
            raise FrameError(TOO_BIG, f"A message may hold at most {self._max_message} bytes.")
        self._size = size
        self._fragmented = not final

    def _payload(self, raw: bytes, head: int) -> bytes:
        payload = raw[head:]
        return mask(payload, raw[head - 4 : head]) if self._masked else payload


def _fault(first: int) -> str | None:
    """What is wrong with a frame's first byte."""
    if first & 0x70:
        return "A reserved bit is set."
    known = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
    return None if first & 0x0F in known else "The opcode is unknown."


_FAULTS = tuple(map(_fault, range(256)))


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask a short payload (section 5.3). key: 4 bytes."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def frame(opcode: int, payload: bytes = b"", key: bytes = b"") -> bytes:
    """A control frame of ours. key: 4 random bytes towards a server, none towards a client."""
    if not key:
        return bytes((0x80 | opcode, len(payload))) + payload
    return bytes((0x80 | opcode, 0x80 | len(payload))) + key + mask(payload, key)


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a close frame. reason: at most 123 bytes."""
    return code.to_bytes(2) + reason.encode()[: _MAX_CONTROL - 2]


def ends_in_close(data: bytes) -> bool:
    """Whether a stream of which it is not known where its frames begin ends in a close frame. data: its last
    bytes, at most MAX_CLOSE."""
    for size in range(_MAX_CONTROL + 1):
        for key in (0, 4):  # bytes; a peer that breaks the protocol may be one that does not mask
            at = len(data) - 2 - key - size
            if at < 0 or data[at] != 0x80 | CLOSE or data[at + 1] != (0x80 if key else 0) | size:
                continue
            payload = data[at + 2 + key :]
            try:
                check_close(mask(payload, data[at + 2 : at + 6]) if key else payload)
            except FrameError:
                continue
            return True
    return False


def check_close(payload: bytes) -> None:
    """Check the payload of a close frame (section 5.5.1). Raises FrameError."""
    if not payload:
        return
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (code in _CODES or 3000 <= code < 5000):
        raise FrameError(PROTOCOL_ERROR, "The close code is not one that may be sent.")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "The reason for closing is not UTF-8.") from None
