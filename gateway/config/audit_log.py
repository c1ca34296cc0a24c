"""The file of the audit, `audit.log` in the data folder.

The last line is first kept in `config.sqlite` (the anchor), then appended to the file and on its disk before
`record` returns. So a line that a crash tore is completed from there, a tail that somebody cut off is missed,
and a file that was renamed (log rotation) just begins anew with the next number: the name is opened for each
line, nothing has to be told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.config.revisions.sqlite import config_file, get_value, set_value
from gateway.core.config import audit
from gateway.core.config.audit import START, Anchor, Entry, Line
from gateway.runtime import durable, threads
from gateway.runtime.os_errors import explain

L = logging.getLogger(__name__)
FILE = "audit.log"
_LAST = "audit"  # the name of the value that is the last line
_BLOCK = 64 * 1024  # bytes


class AuditUnwritable(OSError):
    """The line is not in the audit: the text names the file, the reason and what to do."""


class AuditLog:
    """The audit at this path. database: config.sqlite. copy: a second file for the same lines, "" for none.
    now: seconds since the epoch. On the loop's thread."""

    def __init__(
        self, path: Path, database: Path, copy: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._database = config_file(database)
        self._copy = Path(copy) if copy else None
        self._now = now
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Complete what a crash left. An audit that cannot be written is logged: it is tried again."""
        await threads.run(threads.AUDIT, self._database.ensure)
        try:
            await self.ready()
        except AuditUnwritable as error:
            L.error("%s. No operator can change the config until then", error)

    async def close(self) -> None:
        """Nothing is held open."""

    async def ready(self) -> None:
        """Before something that must not happen without its line. Raises AuditUnwritable."""
        async with self._lock:
            await threads.run(threads.AUDIT, self._append, None)

    async def record(self, entry: Entry) -> None:
        """Add a line, on the disk when this returns. Raises AuditUnwritable."""
        async with self._lock:
            await threads.run(threads.AUDIT, self._append, entry)

    async def page(self, before: int, limit: int) -> list[dict[str, Any]]:
        """Lines as objects, the newest first. before: only those with smaller numbers; 0 for all."""
        return await threads.run(threads.AUDIT, self._page, before, limit)

    async def verify(self) -> list[str]:
        """What is wrong with the file; nothing when all is as it was written."""
        async with self._lock:
            return await threads.run(threads.AUDIT, self._verify)

    # --- in a thread ---

    def _append(self, entry: Entry | None) -> None:
        try:
            with durable.alone(self.path.absolute().parent):
                last = self._settle()
                if entry is None:
                    return
                line, anchor = audit.line_of(entry, self._now(), last)
                with self._database.changing() as db:
                    set_value(db, _LAST, json.dumps([*anchor, line.decode()]))
                self._write(line)
        except OSError as error:
            if error.errno is None:  # it says all already
                raise AuditUnwritable(str(error)) from None
            raise AuditUnwritable(f"{self.path}: {'; '.join(explain(error))}") from None

    def _anchor(self) -> tuple[Anchor, bytes]:
        with self._database.reading() as db:
            value = get_value(db, _LAST)
        if not value:
            return START, b""
        seq, digest, line = json.loads(value)
        return Anchor(seq, digest), line.encode()

    def _settle(self) -> Anchor:
        """Complete the last line when the file does not have all of it. Gives the anchor."""
        anchor, line = self._anchor()
        if line and not self._ends_with(line):
            torn = self._torn()
            if torn and not line.startswith(torn):
                L.error("%s ends with %d bytes that are no line of the audit", self.path, len(torn))
                self._write(b"\n" + line)
            elif torn or not self._has(anchor):
                self._write(line[len(torn) :])
        return anchor

    def _ends_with(self, line: bytes) -> bool:
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - len(line)))
                return file.read() == line
        except FileNotFoundError:
            return True  # it was renamed: its lines are there

    def _torn(self) -> bytes:
        """What is behind the last line feed."""
        content = self.path.read_bytes()
        return content[content.rfind(b"\n") + 1 :]

    def _has(self, anchor: Anchor) -> bool:
        for line in _backwards(self.path):
            fields = audit.parse(line)
            if fields is not None:
                return bool(fields["seq"] >= anchor.seq)
        return True

    def _write(self, data: bytes) -> None:
        new = durable.create_empty(self.path)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            durable.sync_folder(self.path.absolute().parent)

    def _page(self, before: int, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if not self.path.exists():
            return found
        for line in _backwards(self.path):
            fields = audit.parse(line)
            if fields is not None and (not before or fields["seq"] < before):
                found.append(fields)
                if len(found) >= limit:
                    break
        return found

    def _verify(self) -> list[str]:
        anchor, _ = self._anchor()
        if not self.path.exists():
            return [f"{self.path}: it is not there"] if anchor.seq else []
        with self.path.open("rb") as file:
            lines = (Line(self.path.name, number, line.rstrip(b"\n")) for number, line in enumerate(file, 1))
            return audit.verify(lines, anchor)


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first, read in blocks; without what is behind the last line feed."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        rest: bytes | None = None
        while at:
            size = min(_BLOCK, at)
            at -= size
            file.seek(at)
            lines = (file.read(size) + (rest or b"")).split(b"\n")
            if rest is None:
                lines.pop()
            rest = lines[0]
            yield from reversed(lines[1:])
        if rest:
            yield rest
