"""The files of an audit: `audit.log`, and those that a rotation has renamed.

Lines are found from the end, or by bisection: their numbers grow. All of it blocks.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from gateway.core.config import audit
from gateway.core.config.audit import Anchor, Line
from gateway.runtime import durable

FILE = "audit.log"
# As logrotate names them, by number or by date.
_ROTATED = re.compile(r"\.\d+|-\d{8}(?:-\d+)?")
_BLOCK = 64 * 1024  # bytes
_LOOK_BACK = 200  # lines
_REST = 32  # lines, half a millisecond of work


class Opened(NamedTuple):
    """A file, and how much of it counts; 0 for all."""

    name: str
    file: BinaryIO
    size: int


def parts(path: Path, *, compressed: bool = False) -> list[Path]:
    """The files of the audit at this path that are in its folder, the oldest first, the empty ones not."""
    found = []
    for file in path.parent.glob(f"{path.name}*"):
        suffix = file.name.removeprefix(path.name)
        is_one = not suffix or _ROTATED.fullmatch(suffix.removesuffix(".gz") if compressed else suffix)
        if is_one and file.is_file() and (first := _first(file)):
            found.append((first, file))
    return [file for _, file in sorted(found)]


def lines_of(files: Iterable[Opened]) -> Iterator[Line]:
    """All lines of the files. Closes them."""
    for name, file, size in files:
        with file:
            for number, content in enumerate(file, 1):
                yield Line(name, number, content.rstrip(b"\n"))
                if not number % _REST:
                    time.sleep(0)  # the event loop wants the interpreter's lock
                if size and file.tell() >= size:
                    break


def open_all(paths: Iterable[Path]) -> list[Opened]:
    """Open files, the first lines first; those that are compressed (gzip) too. What is appended later is not
    read."""
    opened = []
    for _, path in sorted((_first(path), path) for path in paths):
        file = _opened(path)
        opened.append(Opened(path.name, file, 0 if path.suffix == ".gz" else path.stat().st_size))
    return opened


def backwards(path: Path, before: int = 0) -> Iterator[bytes]:
    """The lines of a file with numbers below `before` (0: all), and those that have none, the last one first;
    without what is behind the last line feed. They are read in blocks."""
    with path.open("rb") as file:
        at = _around(file, before)[1] if before else file.seek(0, os.SEEK_END)
        rest: bytes | None = None
        while at:
            size = min(_BLOCK, at)
            at -= size
            file.seek(at)
            begin, *lines = (file.read(size) + (rest or b"")).split(b"\n")
            if rest is None:
                if not lines:
                    continue
                lines.pop()
            rest = begin
            yield from reversed(lines)
        if rest:
            yield rest


def newest(path: Path, before: int = 0) -> Iterator[dict[str, Any]]:
    """The lines as objects, of all files of the audit at this path, the newest first."""
    lines = chain.from_iterable(backwards(file, before) for file in reversed(parts(path)))
    for number, line in enumerate(lines, 1):
        if not number % _REST:
            time.sleep(0)
        if (fields := audit.parse(line)) is not None and (not before or fields["seq"] < before):
            yield fields


def after(path: Path, seq: int) -> Iterator[bytes]:
    """The lines with larger numbers, with their line feeds, of all files of the audit at this path."""
    for part in parts(path):
        with part.open("rb") as file:
            file.seek(_around(file, seq + 1)[0])
            for line in file:
                fields = audit.parse(line)
                if fields is not None and fields["seq"] > seq and line.endswith(b"\n"):
                    yield line


def last(path: Path) -> tuple[Anchor, bytes] | None:
    """What the last line of a file says that it is, and the line with its line feed; None when there is
    none."""
    for line in backwards(path) if path.is_file() else ():
        if (fields := audit.parse(line)) is not None:
            return Anchor(fields["seq"], fields["hash"]), line + b"\n"
    return None


def last_revision(path: Path) -> int:
    """The largest number of a revision in the audit at this path, as far as its last lines tell; 0 for none.
    Those without one do not count: there may be any number of them."""
    found, left = 0, _LOOK_BACK
    for fields in newest(path):
        found = max(found, fields.get("to") or 0, fields.get("from") or 0)
        left -= bool(found)
        if not left:
            break
    return found


def torn(path: Path) -> bytes:
    """What is behind the last line feed of a file."""
    with path.open("rb") as file:
        at, found = file.seek(0, os.SEEK_END), b""
        while at and b"\n" not in found:
            size = min(_BLOCK, at)
            at -= size
            file.seek(at)
            found = file.read(size) + found
    return found[found.rfind(b"\n") + 1 :]


def ends_with(path: Path, line: bytes) -> bool:
    """Whether a file ends with these bytes, at the beginning of a line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(line) - 1))
        return (b"\n" + file.read()).endswith(b"\n" + line)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file (made with mode 0600), on the disk when this returns; after an error it is as
    it was, as far as the system allows. Raises OSError."""
    durable.create_empty(path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path}: it is no regular file; name a file")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, status.st_size)
            raise
    finally:
        os.close(descriptor)


def cut(path: Path, size: int) -> None:
    """Remove so many bytes from the end of a file."""
    with path.open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - size)
        os.fsync(file.fileno())


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _first(path: Path) -> int:
    """The number of a file's first line that has one; 0 when it has none."""
    with _opened(path) as file:
        for _, line in zip(range(_LOOK_BACK), file, strict=False):
            if (fields := audit.parse(line)) is not None:
                return int(fields["seq"])
    return 0


def _around(file: BinaryIO, seq: int) -> tuple[int, int]:
    """Two offsets of lines, about a block apart: all lines before the first have smaller numbers than `seq`,
    that at the second and those after it do not. file: open for reading."""
    low, high = 0, file.seek(0, os.SEEK_END)
    bound = high  # no line begins from here to `high`
    while bound - low > _BLOCK:
        middle = (low + bound) // 2
        file.seek(middle)
        file.readline()
        start = file.tell()
        if start >= high:
            bound = middle
            continue
        fields = None
        while fields is None and file.tell() < high:
            fields = audit.parse(file.readline())
        if fields is not None and fields["seq"] < seq:
            low = start
        else:
            high, bound = start, middle
    return low, high
