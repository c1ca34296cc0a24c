"""The chunked coding, strictly (RFC 9112 section 7.1): extensions and trailers are dropped."""

from __future__ import annotations

import re

from gateway.core.errors import BackendMalformed
from gateway.core.lines import line_pattern

_size = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_MAX_LINE = 4096
_MAX_TRAILER = 16 * 1024


class ChunkedReader:
    """Takes the coding apart as it comes. `done` once the last chunk and the trailers were read; then
    `surplus` is what came after."""

    __slots__ = ("_buffer", "_in_trailer", "_left", "_trailer", "done", "surplus")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the chunk that are to come, with the line end after it
        self._in_trailer = False
        self._trailer = 0
        self.done = False
        self.surplus = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body in this data. Raises BackendMalformed."""
        pieces: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left > 2:
                take = min(self._left - 2, end - at)
                pieces.append(data[at : at + take])
                at += take
                self._left -= take
            elif self._left:
                if end - at < self._left:
                    break
                if data[at : at + self._left] != b"\r\n"[2 - self._left :]:
                    raise BackendMalformed("A chunk of the backend's answer does not end where it said.")
                at += self._left
                self._left = 0
            else:
                stop = data.find(b"\r\n", at)
                if (stop if stop >= 0 else end) - at > _MAX_LINE:
                    raise BackendMalformed("A chunk's size line, or a trailer, is too long.")
                if stop < 0:
                    break
                self._line(data[at:stop])
                at = stop + 2
        if self.done:
            self.surplus, self._buffer = data[at:], b""
        else:
            self._buffer = data[at:]
        return pieces

    def _line(self, line: bytes) -> None:
        if self._in_trailer:
            self._trailer += len(line) + 2
            if self._trailer > _MAX_TRAILER:
                raise BackendMalformed("The backend's trailers are too long.")
            if line and not line_pattern(line):
                raise BackendMalformed("The backend's answer ends with a malformed trailer.")
            self.done = not line
            return
        found = _size(line)
        if found is None:
            raise BackendMalformed("A chunk of the backend's answer has no valid size.")
        size = int(found[1], 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailer = True
