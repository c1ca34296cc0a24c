"""WebSocket frames (RFC 6455 section 5): taken apart just far enough to relay them untouched.

A reader checks each frame's head, so that nothing malformed or too large is ever passed on, and gives the
bytes as they came. Extensions are never negotiated, so the reserved bits must be zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MAX_CONTROL = 125  # bytes of a control frame's payload
MAX_CLOSE = _MAX_CONTROL + 6  # bytes of a masked close frame

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
    """Bytes of one frame, as they came. ends: it is complete with them. payload: of a control frame (which
    is always given whole), unmasked."""

    opcode: int
    data: bytes
    ends: bool
    payload: bytes = b""


class FrameReader:
    """Frames from one peer. masked: whether it must mask them (a client must, a server must not).
    max_message: bytes that a message may hold, over all its fragments."""

    __slots__ = ("_fragmented", "_left", "_masked", "_max_message", "_rest", "_size")

    def __init__(self, *, masked: bool, max_message: int) -> None:
        self._masked = masked
        self._max_message = max_message
        self._rest = b""  # the beginning of a frame's head, or of a control frame
        self._left = 0  # bytes of a data frame's payload that are still to come
        self._fragmented = False  # a message has begun and its last fragment has not
        self._size = 0  # bytes of that message up to here

    def feed(self, data: bytes) -> Iterator[Part]:
        """What can be said of these bytes. Raises FrameError, always between two frames."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield Part(CONTINUATION, piece, not self._left)
                continue
            head, length = self._head(data, at)
            opcode = data[at] & 0x0F
            control = opcode >= CLOSE
            if not head or (control and at + head + length > len(data)):
                self._rest = data[at:]
                return
            end = at + head + (length if control else 0)
            raw = data[at:end]
            at = end
            if control:
                yield Part(opcode, raw, True, self._payload(raw, head))
            else:
                self._left = length
                yield Part(opcode, raw, not length)

    def _head(self, data: bytes, at: int) -> tuple[int, int]:
        """The lengths of a frame's head and of its payload; (0, 0) when the head is not whole yet."""
        if len(data) < at + 2:
            return 0, 0
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "A reserved bit is set.")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise FrameError(PROTOCOL_ERROR, "The opcode is unknown.")
        if bool(second & 0x80) != self._masked:
            raise FrameError(PROTOCOL_ERROR, "Frames of a client are masked, those of a server are not.")
        extended = {126: 2, 127: 8}.get(length, 0)
        head = 2 + extended + (4 if self._masked else 0)
        if len(data) < at + head:
            return 0, 0
        if extended:
            shorter = length
            length = int.from_bytes(data[at + 2 : at + 2 + extended])
            if length < (126 if shorter == 126 else 0x10000) or length >> 63:
                raise FrameError(PROTOCOL_ERROR, "The length is not in its shortest form.")
        self._check(opcode, bool(first & 0x80), length)
        return head, length

    def _check(self, opcode: int, final: bool, length: int) -> None:
        """Whether this frame may come now, and how long its message gets."""
        if opcode >= CLOSE:
            if not final or length > _MAX_CONTROL:
                raise FrameError(PROTOCOL_ERROR, "A control frame is fragmented or too long.")
            return
        if self._fragmented != (opcode == CONTINUATION):
            raise FrameError(PROTOCOL_ERROR, "A fragment stands where none may.")
        self._size = self._size + length if opcode == CONTINUATION else length
        if self._size > self._max_message:
            raise FrameError(TOO_BIG, f"A message may hold at most {self._max_message} bytes.")
        self._fragmented = not final

    def _payload(self, raw: bytes, head: int) -> bytes:
        payload = raw[head:]
        return mask(payload, raw[head - 4 : head]) if self._masked else payload


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask a short payload (section 5.3)."""
    return bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))


def frame(opcode: int, payload: bytes = b"", key: bytes = b"") -> bytes:
    """A control frame of ours. key: 4 random bytes towards a server, none towards a client."""
    if not key:
        return bytes((0x80 | opcode, len(payload))) + payload
    return bytes((0x80 | opcode, 0x80 | len(payload))) + key + mask(payload, key)


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a close frame. reason: at most 123 bytes."""
    return code.to_bytes(2) + reason.encode()[: _MAX_CONTROL - 2]


def ends_in_close(data: bytes) -> bool:
    """Whether the last bytes of a stream in which nobody knows where frames begin are a close frame."""
    for size in range(_MAX_CONTROL + 1):
        for key in (0, 4):  # bytes; who breaks the protocol may be one that does not mask
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
    """Whether a close frame's payload is one (section 5.5.1). Raises FrameError."""
    if not payload:
        return
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (code in _CODES or 3000 <= code < 5000):
        raise FrameError(PROTOCOL_ERROR, "The close code is not one that may be sent.")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "The reason for closing is not UTF-8.") from None
