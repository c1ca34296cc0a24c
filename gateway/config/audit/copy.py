"""A second file with the lines of the audit, such as on another disk. It follows; nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from gateway.config.audit import file as audit_file
from gateway.core.config import audit
from gateway.runtime import threads
from gateway.runtime.os_errors import explain
from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger(__name__)
_FOLLOWS = 0.5  # seconds
_RETRY = 60.0  # seconds after a failure
_LAST = 2.0  # seconds for it at the end
_AT_ONCE = 1024 * 1024  # bytes


class AuditCopy:
    """The copy at `path` of the audit at `original`. It goes on after the last line that it has, so also
    after a failure or a restart; one that was renamed (log rotation) goes on in a new file. On the loop's
    thread."""

    def __init__(self, path: Path, original: Path) -> None:
        self.path = path
        self._original = original
        self._last = 0  # the number of the last line that was copied
        self._behind = True
        self._waits = 0.0  # seconds until it is tried again
        self._failing = False
        self._task = PeriodicTask(f"copying the audit to {path}", _FOLLOWS, self._follow)

    def start(self) -> None:
        """Copy what is missing, and follow."""
        self._task.start()

    def follow(self) -> None:
        """There may be new lines."""
        self._behind = True

    async def close(self) -> None:
        """Copy the last ones; a disk that hangs is not waited for."""
        await self._task.stop()
        if self._behind and not self._failing:
            try:
                async with asyncio.timeout(_LAST):
                    await self._copy()
            except TimeoutError:
                L.error("The copy of the audit in %s misses its last lines: its disk hangs", self.path)

    async def _follow(self) -> None:
        self._waits = max(0.0, self._waits - _FOLLOWS)
        if self._behind and not self._waits:
            await self._copy()

    async def _copy(self) -> None:
        self._behind = False
        try:
            await threads.run(threads.AUDIT_COPY, self._copy_lines)
        except OSError as error:
            self._behind, self._waits = True, _RETRY
            if not self._failing:
                self._failing = True
                reason = "; ".join(explain(error)) if error.strerror else error
                text = "The audit is not copied to %s: %s. It is tried again each minute, and catches up then"
                L.error(text, self.path, reason)
            return
        if self._failing:
            self._failing = False
            L.warning("The audit is copied to %s again, and complete there", self.path)

    # --- in a thread ---

    def _copy_lines(self) -> None:
        if self.path.is_file() and (rest := audit_file.torn(self.path)):
            audit_file.cut(self.path, len(rest))
        found = audit_file.last(self.path)
        if found is not None:
            self._last = found[0].seq
        gathered: list[bytes] = []
        size = 0
        for line in audit_file.after(self._original, self._last):
            gathered.append(line)
            size += len(line)
            if size >= _AT_ONCE:
                self._append(gathered)
                gathered, size = [], 0
        self._append(gathered)

    def _append(self, lines: list[bytes]) -> None:
        """The last of them is noted at once: the file may be renamed at any moment, and be asked no more."""
        audit_file.append(self.path, b"".join(lines))
        fields = audit.parse(lines[-1]) if lines else None
        if fields is not None:
            self._last = fields["seq"]
