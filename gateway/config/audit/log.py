"""The audit of the config, `audit.log` in the data folder.

The last line is first kept in `config.sqlite` (the anchor), then appended to the file, and on its disk when
`record` returns. So a line that a crash tore is completed from there, and a tail that somebody cut off is
missed. The file is opened for each line: one that was renamed (log rotation) is followed by a new one with
the next number, and nothing has to be told. Several processes may share the folder.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.config.audit import file as audit_file
from gateway.config.audit.copy import AuditCopy
from gateway.config.revisions.file import config_file, get_value, set_value
from gateway.core.config import audit
from gateway.core.config.audit import START, Anchor, Entry
from gateway.core.config.refused_tries import RefusedTries
from gateway.runtime import durable, threads
from gateway.runtime.os_errors import explain
from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger(__name__)
FILE = audit_file.FILE
_LAST = "audit"  # the name of the value that is the last line
_OWED = 1000  # lines that wait in memory for a disk that takes them
_COUNTS = 5.0  # seconds between two looks at what was only counted


class AuditUnwritable(OSError):
    """The line is not in the audit yet: the text names the file, the reason and what to do."""


class AuditLog:
    """The audit at this path. database: config.sqlite. copy: a second file for the same lines, "" for none.
    now: seconds since the epoch. On the loop's thread."""

    def __init__(
        self, path: Path, database: Path, copy: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._database = config_file(database)
        self._copy = AuditCopy(Path(copy), path) if copy else None
        self._now = now
        self._tries = RefusedTries()
        self._owed: deque[Entry] = deque(maxlen=_OWED)
        self._counts = PeriodicTask("counting refused tries for the audit", _COUNTS, self._record_counts)
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Complete what a crash left. An audit that cannot be written is logged, and tried again with each
        line."""
        await threads.run(threads.AUDIT, self._database.ensure, "state")
        try:
            await self.ready()
        except AuditUnwritable as error:
            L.error("The audit cannot be written: %s. Operators cannot change the config meanwhile", error)
        self._counts.start()
        if self._copy is not None:
            self._copy.start()

    async def close(self) -> None:
        """Write what was only counted."""
        await self._counts.stop()
        try:
            await self._record_counts(all_of_them=True)
        except AuditUnwritable as error:
            L.error("The audit misses its last lines: %s", error)
        if self._copy is not None:
            await self._copy.close()

    async def ready(self) -> None:
        """Before something that must not happen without its line. Raises AuditUnwritable."""
        await self._append([])

    async def record(self, entry: Entry) -> None:
        """Add a line, on the disk when this returns; a refused try may only be counted, when there are many.
        After AuditUnwritable the line comes before the next one that can be written."""
        if entry.outcome == "refused" and not self._tries.admit(entry, time.monotonic()):
            return
        await self._append([entry])

    async def page(self, before: int, limit: int) -> list[dict[str, Any]]:
        """Lines as objects, the newest first. before: only those with smaller numbers; 0 for all. Files that
        a rotation has compressed are not looked at."""
        return await threads.run(threads.AUDIT_READS, self._page, before, limit)

    async def verify(self) -> list[str]:
        """What is wrong with the file and those that a rotation left in its folder; nothing when all is as it
        was written."""
        return await threads.run(threads.AUDIT_READS, self._verify)

    async def _append(self, entries: list[Entry]) -> None:
        async with self._lock:
            self._owed += [replace(entry, at=entry.at or self._now()) for entry in entries]
            await threads.run(threads.AUDIT, self._write)
        if self._copy is not None:
            self._copy.follow()

    async def _record_counts(self, *, all_of_them: bool = False) -> None:
        counted = self._tries.over(float("inf") if all_of_them else time.monotonic())
        if counted:
            await self._append(counted)

    # --- in a thread ---

    def _write(self) -> None:
        with self._alone():
            last = self._settle()
            audit_file.append(self.path, b"")  # whether it can be written at all
            while self._owed:
                line, last = audit.line_of(self._owed[0], last)
                self._set_anchor(last, line)
                self._owed.popleft()  # if it cannot be appended now, it will be
                audit_file.append(self.path, line)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process writes the audit meanwhile. Raises AuditUnwritable."""
        try:
            with durable.alone(self.path.absolute().parent):
                yield
        except OSError as error:
            if error.errno is None:  # its text says all already
                raise AuditUnwritable(str(error)) from None
            raise AuditUnwritable(f"{self.path}: {'; '.join(explain(error))}") from None

    def _anchor(self) -> tuple[Anchor, bytes]:
        with self._database.reading() as db:
            value = get_value(db, _LAST)
        if not value:
            return START, b""
        seq, digest, line = json.loads(value)
        return Anchor(seq, digest), line.encode()

    def _set_anchor(self, anchor: Anchor, line: bytes) -> None:
        with self._database.changing() as db:
            set_value(db, _LAST, json.dumps([*anchor, line.decode()]))

    def _settle(self) -> Anchor:
        """Bring the file and the anchor together. Gives the anchor."""
        anchor, line = self._anchor()
        exists = self.path.is_file() and self.path.stat().st_size > 0
        if exists and line and audit_file.ends_with(self.path, line):
            return anchor
        if exists and (rest := audit_file.torn(self.path)):
            audit_file.cut(self.path, len(rest))
            if not line.startswith(rest):
                self._tell(f"{len(rest)} bytes at the end of the file, which were no line, were removed")
        files = audit_file.parts(self.path)
        found = audit_file.last(files[-1]) if files else None
        if found is None:  # if there were others, they are in another folder now
            found = (anchor, line) if anchor.seq > 1 else (START, b"")
        last, its_line = found
        if last.seq > anchor.seq:
            self._set_anchor(last, its_line)
            self._tell(
                f"{self._database.path.name} knew the lines up to {anchor.seq} only (it was lost, or restored"
                f" from a backup): those up to {last.seq} are taken as they stand in the file"
            )
            return last
        if last.seq < anchor.seq - 1:
            self._tell(f"the lines {last.seq + 1} to {anchor.seq - 1} were removed from the end of the file")
        if last.seq < anchor.seq:
            audit_file.append(self.path, line)
        return anchor

    def _tell(self, text: str) -> None:
        """Say in the log and in the audit what was found to be wrong with it."""
        L.error("%s: %s", self.path, text)
        self._owed.appendleft(Entry("recovered", detail=text, at=self._now()))

    def _page(self, before: int, limit: int) -> list[dict[str, Any]]:
        return list(islice(audit_file.newest(self.path, before), limit))

    def _verify(self) -> list[str]:
        with self._alone():
            anchor, _ = self._anchor()
            files = audit_file.open_all(audit_file.parts(self.path, compressed=True))
        return audit.verify(audit_file.lines_of(files), anchor)
