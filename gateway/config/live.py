"""The live routing config: read, parse, compile, swap, reconcile.

Any failure before the swap leaves the running snapshot untouched and is reported whole. The swap is one
assignment; a request in flight finishes on the snapshot that it began with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.call import Authentication, Snapshot, Target
from gateway.config import source, strict_yaml
from gateway.config.ports import ConfigRefused
from gateway.config.strict_yaml import YamlDocument
from gateway.core.config.revision import digest_of
from gateway.core.model import Backend
from gateway.core.routing.compile import TargetOf, compile_data
from gateway.core.routing.problems import Problem, Problems, by_line
from gateway.runtime import files, threads
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.runtime.watch import (
    QUIET,
    RESTLESS,
    ChangeDebouncer,
    FileStamp,
    FileState,
    file_stamp,
    is_cut_off,
)

L = logging.getLogger(__name__)
POLL = 0.05  # seconds between two checks of the file
_TRIES = 20  # attempts to read a file that changes while it is read
# Seconds after which a file that was read is read once more: some file systems count time in steps of two
# seconds, and two edits of one length within such a step leave one stamp.
_RECHECK = 2.5
_RETRY = 5.0  # seconds after a transient failure; each next one waits twice as long
_MAX_RETRY = 300.0

MakeTarget = Callable[[TargetOf], Target]
BackendCheck = Callable[[Mapping[str, Backend]], list[Problem]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reload that failed, and left the live snapshot as it was. at: seconds since the epoch. digest: of the
    text, "" when it could not be read."""

    at: float
    digest: str
    problems: list[Problem]


def read(path: Path) -> str:
    """The text of the file. Raises ConfigRefused."""
    try:
        return files.read_text(path, strict_yaml.MAX_BYTES)
    except files.FileUnusable as error:
        raise ConfigRefused(path, [Problem((), error.reason, error.hint)], transient=error.passing) from None


def compile_text(
    text: str,
    target: MakeTarget,
    sockets: str,
    check_backends: BackendCheck = lambda backends: [],
    authentication: Authentication | None = None,
    folder: str = "",
    local: str = "",
) -> Snapshot:
    """From text to a snapshot, not live yet. check_backends: finds the problems that depend on this process.
    All else as for `compile_data`. Raises Problems, each with its line."""
    document = strict_yaml.parse(text)
    return _compile_document(document, target, sockets, check_backends, authentication, folder, local)


def _compile_document(
    document: YamlDocument,
    target: MakeTarget,
    sockets: str,
    check_backends: BackendCheck,
    authentication: Authentication | None,
    folder: str,
    local: str,
) -> Snapshot:
    try:
        snapshot = compile_data(document.data, target, sockets, authentication, folder, local)
        if found := check_backends(snapshot.backends):
            raise Problems(found)
    except Problems as problems:
        raise Problems(by_line(map(document.locate, problems.items))) from None
    return snapshot


class LiveConfig:
    """Holds the live snapshot and replaces it when the file changes.

    on_applied(new, old) runs after each swap, on the loop; old is None the first time, and what it raises
    then ends the start. on_refused runs after each refusal. Later their exceptions are logged: a swap stays.
    now: a monotonic clock, in seconds. check_backends, authentication, local: as for `compile_text`.
    current: the live snapshot, from `load_first` on. A request reads it once, and keeps it to its end.
    """

    current: Snapshot

    def __init__(
        self,
        path: Path,
        target: MakeTarget,
        sockets: str,
        on_applied: Callable[[Snapshot, Snapshot | None], None] = lambda new, old: None,
        on_refused: Callable[[Refusal], None] = lambda refusal: None,
        now: Callable[[], float] = time.monotonic,
        check_backends: BackendCheck = lambda backends: [],
        authentication: Authentication | None = None,
        local: str = "",
    ) -> None:
        self.path = path
        self._compile_with = target, sockets, check_backends, authentication, str(path.parent), local
        self._on_applied = on_applied
        self._on_refused = on_refused
        self._now = now
        self._text = ""
        self._debouncer = ChangeDebouncer(None)
        self._read_digest = ""  # digest of the text read last, "" when it could not be read
        self._cut_off = False
        self._recheck_at: float | None = None
        self._retry_after = _RETRY
        self._lock = asyncio.Lock()
        self.refusal: Refusal | None = None

    @property
    def text(self) -> str:
        """The live config's text, to the character."""
        return self._text

    def load_first(self) -> None:
        """Load at the start. Raises ConfigRefused: the gateway does not start without a good config."""
        before = file_stamp(self.path)
        text = read(self.path)
        self._warn_when_cut_off(is_cut_off(self.path))
        self._mark_read(before, text)
        try:
            compiled = compile_text(text, *self._compile_with)
        except Problems as found:
            raise ConfigRefused(self.path, found.items) from None
        self._on_applied(self._swap(None, compiled, text), None)

    async def reload_when_quiet(self) -> bool:
        """As `reload`, once the file has not changed for QUIET seconds: a signal may come while it is being
        written. Left to `watch` when it does not come to rest."""
        deadline = self._now() + RESTLESS
        before = await self._stamp()
        while self._now() < deadline:
            await asyncio.sleep(QUIET)
            now = await self._stamp()
            if now == before:
                return await self.reload()
            before = now
        L.warning("%s changes all the time: it is read when it is left alone", self.path)
        return False

    async def reload(self) -> bool:
        """Load the file now, off the loop, even while it changes. True when the live snapshot is that of the
        file.

        An unexpected exception is logged and refuses the file; the watch continues.
        """
        async with self._lock:
            with Boundary(f"loading {self.path}"):
                return await self._load()
            reason = "a bug in the gateway keeps it from being loaded"
            self._refuse("", [Problem((), reason, "undo the last edit, and report what the log says")])
            return False

    async def _load(self) -> bool:
        digest = ""
        try:
            text = await self._read_unchanged()
            digest = digest_of(text)
            if digest == self.current.digest:
                self._unchanged()
                return True
            compiled = await self._compile(text)
        except ConfigRefused as refused:
            self._failed(digest, refused.problems, transient=refused.transient)
            return False
        except Problems as found:
            self._failed(digest, found.items, transient=isinstance(found, source.TransientProblems))
            return False
        old = self.current
        new = self._swap(old, compiled, text)
        with Boundary(f"what follows from revision {new.revision}"):
            self._on_applied(new, old)
        return True

    async def _stamp(self) -> FileStamp | None:
        """In a thread: a file system that hangs must not block the event loop."""
        return await threads.run(threads.CONFIG, file_stamp, self.path)

    async def _read_unchanged(self) -> str:
        """The text, read while the file did not change. Raises ConfigRefused."""
        for _ in range(_TRIES):
            before = await self._stamp()
            try:
                text = await threads.run(threads.CONFIG, read, self.path)
            except ConfigRefused:
                self._mark_read(before, None)
                raise
            if await self._stamp() == before:
                self._warn_when_cut_off(await threads.run(threads.CONFIG, is_cut_off, self.path))
                self._mark_read(before, text)
                return text
            await asyncio.sleep(POLL)
        problem = Problem((), "it changes while it is read, again and again", "end what writes it")
        raise ConfigRefused(self.path, [problem])

    def _warn_when_cut_off(self, cut_off: bool) -> None:
        if cut_off and not self._cut_off:
            L.warning(
                "%s was replaced outside of this container, where another file has its name now: no edit is"
                " seen here any more. Mount its folder, not the file, and restart",
                self.path,
            )
        self._cut_off = cut_off

    def _mark_read(self, stamp: FileStamp | None, text: str | None) -> None:
        self._debouncer.mark_read(stamp)
        self._read_digest = "" if text is None else digest_of(text)
        self._recheck_at = None if text is None else self._now() + _RECHECK

    async def watch(self) -> None:
        """Poll the file until cancelled."""
        await PeriodicTask(f"watching {self.path}", POLL, self.poll).run()

    async def poll(self) -> None:
        """Check the file once: load it when it has changed and come to rest since."""
        now = self._now()
        seen = await self._stamp()
        match self._debouncer.observe(now, self._now(), seen):
            case FileState.QUIET:
                await self.reload()
            case FileState.RESTLESS:
                began = self._debouncer.changing_since
                L.warning(
                    "%s has been changing for %.0f s, so it was not read yet; revision %d stays live",
                    self.path,
                    now - (began if began is not None else now),
                    self.current.revision,
                )
            case FileState.SAME if self._recheck_at is not None and now >= self._recheck_at:
                await self._recheck()
            case _:
                pass

    async def _recheck(self) -> None:
        """Find what the stamp does not show: another text under the same stamp, or the end of a failure."""
        self._recheck_at = None
        if not self._read_digest:
            await self.reload()
            return
        try:
            text = await threads.run(threads.CONFIG, read, self.path)
        except ConfigRefused:
            self._debouncer.invalidate()
        else:
            if digest_of(text) != self._read_digest:
                self._debouncer.invalidate()

    async def _compile(self, text: str) -> Snapshot:
        """As `compile_text`, without blocking the loop for long."""
        document = await source.parse_apart(text)
        return await threads.run(threads.CONFIG, _compile_document, document, *self._compile_with)

    def _swap(self, old: Snapshot | None, compiled: Snapshot, text: str) -> Snapshot:
        new = compiled.made_live(old.revision + 1 if old else 1, time.time(), digest_of(text))
        self.current, self._text = new, text
        self.refusal = None
        L.info("Revision %d of %s is live: %d routes", new.revision, self.path, len(new.table.routes))
        return new

    def _unchanged(self) -> None:
        """The file is as the live revision. After a refusal the log says that it is over."""
        if self.refusal is not None:
            self.refusal = None
            revision = self.current.revision
            L.info("%s is as the live revision %d again: what was refused is undone", self.path, revision)

    def _failed(self, digest: str, problems: list[Problem], *, transient: bool) -> None:
        if transient:
            self._read_digest = ""
            self._recheck_at = self._now() + self._retry_after
            self._retry_after = min(2 * self._retry_after, _MAX_RETRY)
            if self.refusal is not None and self.refusal.problems == problems:
                return  # already logged
        else:
            self._retry_after = _RETRY
        self._refuse(digest, problems)

    def _refuse(self, digest: str, problems: list[Problem]) -> None:
        self.refusal = Refusal(time.time(), digest, problems)
        revision = self.current.revision
        L.error(
            "%s was refused; revision %d stays live:\n%s", self.path, revision, describe(self.path, problems)
        )
        with Boundary("what follows from a refused config"):
            self._on_refused(self.refusal)

    def status(self) -> dict[str, Any]:
        """The JSON of GET /admin/config."""
        current, began = self.current, self._debouncer.changing_since
        return {
            "path": str(self.path),
            "cut_off": self._cut_off,
            "changing_for": None if began is None else round(self._now() - began, 3),
            "revision": current.revision,
            "loaded_at": current.loaded_at,
            "digest": current.digest,
            "routes": len(current.table.routes),
            "backends": len(current.backends),
            "tenants": len(current.tenants),
            "refused": None
            if self.refusal is None
            else {
                "at": self.refusal.at,
                "digest": self.refusal.digest,
                "problems": [as_dict(problem) for problem in self.refusal.problems],
            },
        }


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as the admin API and `gateway check --json` show it."""
    return {"path": problem.where, "line": problem.line, "reason": problem.reason, "hint": problem.hint}


def describe(path: Path, problems: list[Problem]) -> str:
    """Problems for the log, one a line: file:line, path, reason, hint."""
    lines = []
    for p in problems:
        at = f"{path}:{p.line}" if p.line else str(path)
        lines.append(f"  {at}: {p.where}: {p.reason} ({p.hint})")
    return "\n".join(lines)
