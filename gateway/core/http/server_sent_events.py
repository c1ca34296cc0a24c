"""Where an event ends in a stream of server-sent events (the HTML standard, "Server-sent events").

Pure: bytes in, positions out. Nothing is kept of the events themselves.
"""

from __future__ import annotations


class EventEnds:
    """Fed with a stream as it passes. whole: no event has begun and not ended.

    An event ends with an empty line; lines end with CR LF, LF or CR. A comment is no part of an event, so the
    stream is whole behind each line of comments too, if no event has begun.
    """

    __slots__ = ("_after_cr", "_empty", "_line", "whole")

    def __init__(self) -> None:
        self.whole = True
        self._empty = True  # no event has begun since the last one ended
        self._line = b""  # the first byte of the line that has begun, b"" at the start of one
        self._after_cr = False  # a line feed that comes next belongs to the line that has ended

    def feed(self, data: bytes) -> int:
        """How much of `data` passes until the last position in it where the stream is whole, -1 without one.

        Searches the end of the data first, so what is before the last empty line costs a search only.
        """
        if not data:
            return -1
        at = self._skip_line_feed(data)
        last = at if at and self.whole else -1
        found = max(data.rfind(b"\n\n", at), data.rfind(b"\n\r", at), data.rfind(b"\r\r", at))
        if found >= 0:
            self._empty, self._line = True, b""
            self._after_cr = data[found + 1] == _CR
            last = found + 2
            at = last + self._skip_line_feed(data[last:])
            last = at
        while at < len(data):
            at, ended = self._read_line(data, at)
            if ended and self._empty:
                last = at
        self.whole = self._empty and not self._line
        return last

    def _skip_line_feed(self, data: bytes) -> int:
        if not data:
            return 0
        skipped = int(self._after_cr and data[0] == _LF)
        self._after_cr = False
        return skipped

    def _read_line(self, data: bytes, at: int) -> tuple[int, bool]:
        """To the end of the line, or of the data; and whether the line has ended."""
        self._line = self._line or data[at : at + 1]
        feed, carriage = data.find(b"\n", at), data.find(b"\r", at)
        ends = [end for end in (feed, carriage) if end >= 0]
        if not ends:
            if self._line != b":":
                self._empty = False
            return len(data), False
        end = min(ends)
        first, self._line = self._line, b""
        if first in (b"\n", b"\r"):
            self._empty = True
        elif first != b":":
            self._empty = False
        self._after_cr = data[end] == _CR
        rest = data[end + 1 : end + 2]
        return end + 1 + (self._skip_line_feed(rest) if rest else 0), True


_LF, _CR = 10, 13
