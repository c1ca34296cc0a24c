"""The chunked coding, strictly (RFC 9112 section 7.1): extensions and trailers are dropped."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from gateway.core.errors import BackendMalformed, GatewayError
from gateway.core.http.headers import line_pattern

_size = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_MAX_LINE = 4096
_MAX_TRAILER = 16 * 1024
# What size lines may hold beyond what the data that they announce makes up for: extensions and zeros without
# end cost the reader, and no user sees them (Go's net/http bounds them in the same way).
_MAX_EXCESS = 16 * 1024
_FREE = 16  # bytes of a size line that cost nothing
# What a body may hold of framing beyond three times its data: a body of single bytes takes many times the
# processor that one of the same length in one piece does, and its sender pays a sixth of it. Half a MiB of
# them is let through: a program that passes the characters of a text one by one means no harm.
MAX_FRAMING = 1024 * 1024
# Size lines that are read in one go, a small chunk counting a quarter: about a millisecond of one core. A
# read from a socket holds up to 43,000 chunks, and other connections must not wait for them all.
MAX_WORK = 512
_TOO_SMALL = "The chunks are too small: there is more framing than data."
# Small chunks one after the other, at a fifth of what reading them one by one costs.
_small = b"|".join(b"%X\r\n[\\s\\S]{%d}\r\n" % (size, size) for size in range(1, 16))
_one_small = re.compile(_small, re.IGNORECASE).findall
_many_small = re.compile(b"(?:%s){8,1024}+" % _small, re.IGNORECASE).match


def _of_backend(what: str) -> GatewayError:
    return BackendMalformed(f"The body of the backend's response is broken. {what}")


class ChunkedReader:
    """Takes the coding apart as it comes. `done` once the last chunk and the trailers were read; then
    `surplus` is what came after.

    fault: makes the error of a sentence that says what is broken; it names the sender.
    max_framing: bytes that the framing may have beyond three times the data; None for any number. max_work:
    size lines that one `feed` may read; then it leaves off and `has_more` is true: feed it b"". None for any
    number.
    """

    __slots__ = (
        "_buffer", "_excess", "_fault", "_framing", "_in_trailer", "_left", "_max_framing", "_max_work",
        "_trailer", "done", "has_more", "surplus",
    )  # fmt: skip

    def __init__(
        self,
        fault: Callable[[str], GatewayError] = _of_backend,
        max_framing: int | None = None,
        max_work: int | None = None,
    ) -> None:
        self._fault = fault
        self._max_framing = max_framing
        self._max_work = max_work
        self._framing = 0  # bytes, less three times those of the data
        self._buffer = b""
        self._left = 0  # bytes of the chunk that are to come, with the line end after it
        self._excess = 0
        self._in_trailer = False
        self._trailer = 0
        self.done = self.has_more = False
        self.surplus = b""

    @property
    def held(self) -> int:
        """Bytes that were fed and are not read."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body in this data. Raises what `fault` makes."""
        pieces: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        work = 4 * self._max_work if self._max_work is not None else sys.maxsize
        self.has_more = False
        while at < end and not self.done:
            if work <= 0:
                self.has_more = True
                break
            if self._left > 2:
                take = min(self._left - 2, end - at)
                pieces.append(data[at : at + take])
                at += take
                self._left -= take
            elif self._left:
                if end - at < self._left:
                    break
                if data[at : at + self._left] != b"\r\n"[2 - self._left :]:
                    raise self._fault("A chunk does not end where it said.")
                at += self._left
                self._left = 0
            elif not self._in_trailer and (run := _many_small(data, at)) is not None:
                pieces.append(self._take_small(run[0]))
                work -= max(1, (run.end() - at) // 6)  # a chunk has at least six bytes
                at = run.end()
            else:
                stop = data.find(b"\r\n", at)
                if (stop if stop >= 0 else end) - at > _MAX_LINE:
                    raise self._fault("A chunk's size line, or a trailer, is too long.")
                if stop < 0:
                    break
                self._line(data[at:stop])
                at = stop + 2
                work -= 4
        if self.done:
            self.surplus, self._buffer = data[at:], b""
        else:
            self._buffer = data[at:]
        return pieces

    def _take_small(self, run: bytes) -> bytes:
        """The data of many small chunks at once."""
        chunks = _one_small(run)
        framing = 5 * len(chunks)
        if self._max_framing is not None and self._framing + framing > self._max_framing:
            sofar = self._framing  # some of them may be too much, by the order that they came in
            for chunk in chunks:
                sofar += 20 - 3 * len(chunk)
                if sofar > self._max_framing:
                    raise self._fault(_TOO_SMALL)
        data = b"".join([chunk[3:-2] for chunk in chunks])
        self._framing += framing - 3 * len(data)
        self._excess = max(0, self._excess - (_FREE - 1) * len(chunks) - 2 * len(data))
        return data

    def _line(self, line: bytes) -> None:
        if self._in_trailer:
            self._trailer += len(line) + 2
            if self._trailer > _MAX_TRAILER:
                raise self._fault("The trailers are too long.")
            if line and not line_pattern(line):
                raise self._fault("A trailer is malformed.")
            self.done = not line
            return
        found = _size(line)
        if found is None:
            raise self._fault("A chunk has no valid size.")
        size = int(found[1], 16)
        self._excess = max(0, self._excess + len(line) - _FREE - 2 * size)
        if self._excess > _MAX_EXCESS:
            raise self._fault("The chunks are too small for their size lines, which are too long.")
        self._framing += len(line) + 4 - 3 * size
        if self._max_framing is not None and self._framing > self._max_framing:
            raise self._fault(_TOO_SMALL)
        if size:
            self._left = size + 2
        else:
            self._in_trailer = True
