"""Reading files by name: only regular ones, up to a limit, and without waiting for a writer.

To open a FIFO waits for a writer, and to read a terminal or a device may wait for ever or have an effect. A
thread that waits so cannot be cancelled, and the process could not exit. Symbolic links are followed:
Kubernetes mounts ConfigMaps by them.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a directory",
}
_PIECE = 1024 * 1024  # bytes


class FileUnusable(OSError):
    """A file that cannot be read. reason: a clause with `it` for the file. hint: what to do about it.
    passing: another try may succeed although the file stays the same (no descriptors left, an error of the
    disk)."""

    def __init__(self, path: Path, reason: str, hint: str, *, passing: bool = False) -> None:
        super().__init__(f"{path}: {reason}; {hint}")
        self.reason = reason
        self.hint = hint
        self.passing = passing


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises FileUnusable. Blocks."""
    try:
        _check(path, path.stat(), limit)  # before it is opened, which alone may have an effect on a device
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags)
        try:
            _check(path, os.fstat(descriptor), limit)
            content = _read(descriptor, limit)
        finally:
            os.close(descriptor)
    except FileUnusable:
        raise
    except FileNotFoundError as error:
        link = path.is_symlink()
        hint = "it is a link to nowhere; correct the link" if link else "look at the name, or put it there"
        raise FileUnusable(path, f"it cannot be read: {error.strerror}", hint) from None
    except PermissionError as error:
        hint = f"let the user with id {os.geteuid()} read it (its mode, its folders')"
        raise FileUnusable(path, f"it cannot be read: {error.strerror}", hint) from None
    except ValueError:
        raise FileUnusable(path, "its name holds a NUL", "correct the name") from None
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
        raise FileUnusable(path, reason, "look at its disk and its folders", passing=True) from None
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def read_text(path: Path, limit: int) -> str:
    """As `read_file`, decoded from UTF-8 without a byte order mark. Raises FileUnusable. Blocks."""
    raw = read_file(path, limit)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileUnusable(path, *not_utf8(raw, error.start)) from None


def not_utf8(raw: bytes, at: int) -> tuple[str, str]:
    """The reason, which calls the text `it`, and a hint. at: offset of the first byte that is not UTF-8."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16, and not UTF-8", "save it as UTF-8"
    line = raw.count(b"\n", 0, at) + 1
    reason = f"it is not UTF-8: line {line} holds the byte 0x{raw[at]:02X}"
    return reason, "save it as UTF-8; it may be Windows-1252 or Latin-1 now"


def _check(path: Path, status: os.stat_result, limit: int) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        what = _KINDS.get(kind, "a special file")
        raise FileUnusable(path, f"it is {what}, and no regular file", "name a file, or put one in its place")
    if status.st_size > limit:
        raise _too_large(path, limit)


def _too_large(path: Path, limit: int) -> FileUnusable:
    return FileUnusable(path, f"it is larger than {limit} bytes", "is it the right file?")


def _read(descriptor: int, limit: int) -> bytes:
    """Up to one byte more than the limit: a file may grow, and those of /proc have the size 0."""
    pieces: list[bytes] = []
    left = limit + 1
    while left > 0 and (piece := os.read(descriptor, min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
