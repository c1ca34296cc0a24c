"""The live routing config: read, parse, compile, swap, reconcile.

Any failure before the swap leaves the running snapshot untouched and is reported whole. The swap is one
assignment; a request in flight finishes on the snapshot that it began with.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.call import Snapshot, Target
from gateway.config import source, strict_yaml
from gateway.config.strict_yaml import YamlDocument
from gateway.core.front_page import FrontPage
from gateway.core.model import Backend
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problem, Problems, by_line
from gateway.runtime import files, threads
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.runtime.watch import QUIET, RESTLESS, Look, Settling, Stamp, is_cut_off, stamp

L = logging.getLogger(__name__)
POLL = 0.05  # seconds between two looks at the file
_TRIES = 20  # to read a file that changes while it is read
# Seconds after which a file that was read is read once more: there are file systems that count time in steps
# of two seconds, and two edits of one length within such a step leave one stamp.
_READ_AGAIN = 2.5
_TRY_AGAIN = 5.0  # seconds after a failure that may pass by itself; each next one waits twice as long
_TRY_AGAIN_AT_MOST = 300.0

MakeTarget = Callable[[Backend | FrontPage | None], Target]
Judge = Callable[[Mapping[str, Backend]], list[Problem]]


class ConfigRefused(Exception):
    """A routing config that cannot be used, with all its problems. passing: another try may work although
    nobody edits the file."""

    def __init__(self, path: Path, problems: list[Problem], *, passing: bool = False) -> None:
        super().__init__(f"{path}: {len(problems)} problem(s)")
        self.path = path
        self.problems = problems
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Refusal:
    """A try to load that changed nothing. at: seconds since the epoch. digest: of the text, "" when it could
    not be read."""

    at: float
    digest: str
    problems: list[Problem]


def read(path: Path) -> str:
    """The text of the file. Raises ConfigRefused."""
    try:
        return files.read_text(path, strict_yaml.MAX_BYTES)
    except files.FileUnusable as error:
        raise ConfigRefused(path, [Problem((), error.reason, error.hint)], passing=error.passing) from None


def compile_text(
    text: str, target: MakeTarget, sockets: str, judge: Judge = lambda backends: []
) -> Snapshot:
    """From text to a snapshot, not live yet. judge: the problems that only this process can tell. Raises
    Problems, each with its line."""
    return _compile(strict_yaml.parse(text), target, sockets, judge)


def _compile(document: YamlDocument, target: MakeTarget, sockets: str, judge: Judge) -> Snapshot:
    try:
        snapshot = compile_data(document.data, target, sockets)
        if found := judge(snapshot.backends):
            raise Problems(found)
    except Problems as problems:
        raise Problems(by_line(map(document.locate, problems.items))) from None
    return snapshot


class ConfigService:
    """Holds the live snapshot and replaces it when the file changes.

    on_applied(new, old) runs after each swap, on the loop; old is None the first time, and what it raises
    then ends the start. on_refused runs after each refusal. Later what they raise is logged: a swap stays.
    now: a clock that never goes back, in seconds. judge: as of `compile_text`.
    """

    def __init__(
        self,
        path: Path,
        target: MakeTarget,
        sockets: str,
        on_applied: Callable[[Snapshot, Snapshot | None], None] = lambda new, old: None,
        on_refused: Callable[[Refusal], None] = lambda refusal: None,
        now: Callable[[], float] = time.monotonic,
        judge: Judge = lambda backends: [],
    ) -> None:
        self.path = path
        self._judge = judge
        self._target = target
        self._sockets = sockets
        self._on_applied = on_applied
        self._on_refused = on_refused
        self._now = now
        self._current: Snapshot | None = None
        self._text = ""
        self._settling = Settling(None)
        self._read = ""  # the digest of what was read last, "" for nothing
        self._cut_off = False
        self._again_at: float | None = None
        self._again_after = _TRY_AGAIN
        self._lock = asyncio.Lock()
        self.refusal: Refusal | None = None

    @property
    def current(self) -> Snapshot:
        assert self._current is not None, "load_first() comes first"
        return self._current

    @property
    def text(self) -> str:
        """The text that is live, to the character."""
        return self._text

    def load_first(self) -> None:
        """Load at the start. Raises ConfigRefused: without a good config nothing begins."""
        before = stamp(self.path)
        text = read(self.path)
        self._tell_cut_off(is_cut_off(self.path))
        self._took(before, text)
        try:
            compiled = compile_text(text, self._target, self._sockets, self._judge)
        except Problems as found:
            raise ConfigRefused(self.path, found.items) from None
        self._on_applied(self._swap(compiled, text), None)

    async def reload_when_quiet(self) -> bool:
        """As `reload`, once the file has been left alone for QUIET seconds: a signal may come while somebody
        writes. Left to the watch when it is never left alone."""
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
        """Load the file now, off the loop, quiet or not. True when the running snapshot is what the file
        says.

        A bug of ours on the way is logged and refuses the file: nothing ends the watch.
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
            text = await self._read_now()
            digest = digest_of(text)
            if digest == self.current.digest:
                self._undone()
                return True
            compiled = await self._compile(text)
        except ConfigRefused as refused:
            self._failed(digest, refused.problems, passing=refused.passing)
            return False
        except Problems as found:
            self._failed(digest, found.items, passing=isinstance(found, source.NotNow))
            return False
        old = self.current
        new = self._swap(compiled, text)
        with Boundary(f"what follows from revision {new.revision}"):
            self._on_applied(new, old)
        return True

    async def _stamp(self) -> Stamp | None:
        """In a thread: a file system that hangs must not take the event loop with it."""
        return await threads.run(threads.CONFIG, stamp, self.path)

    async def _read_now(self) -> str:
        """The text, as it was when nobody wrote it. Raises ConfigRefused."""
        for _ in range(_TRIES):
            before = await self._stamp()
            try:
                text = await threads.run(threads.CONFIG, read, self.path)
            except ConfigRefused:
                self._took(before, None)
                raise
            if await self._stamp() == before:
                self._tell_cut_off(await threads.run(threads.CONFIG, is_cut_off, self.path))
                self._took(before, text)
                return text
            await asyncio.sleep(POLL)
        problem = Problem((), "it changes while it is read, again and again", "end what writes it")
        raise ConfigRefused(self.path, [problem])

    def _tell_cut_off(self, cut_off: bool) -> None:
        if cut_off and not self._cut_off:
            L.warning(
                "%s was replaced outside of this container, where another file has its name now: no edit is"
                " seen here any more. Mount its folder, not the file, and restart",
                self.path,
            )
        self._cut_off = cut_off

    def _took(self, stamp: Stamp | None, text: str | None) -> None:
        self._settling.take(stamp)
        self._read = "" if text is None else digest_of(text)
        self._again_at = None if text is None else self._now() + _READ_AGAIN

    async def watch(self) -> None:
        """Follow the file until cancelled."""
        await PeriodicTask(f"watching {self.path}", POLL, self.look).run()

    async def look(self) -> None:
        """One look at the file: load it when it changed and has been left alone since (see Settling)."""
        now = self._now()
        seen = await self._stamp()
        match self._settling.look(now, self._now(), seen):
            case Look.QUIET:
                await self.reload()
            case Look.RESTLESS:
                began = self._settling.began
                L.warning(
                    "%s has been changing for %.0f s, so it was not read yet; revision %d stays live",
                    self.path,
                    now - (began if began is not None else now),
                    self.current.revision,
                )
            case Look.SAME if self._again_at is not None and now >= self._again_at:
                await self._read_again()
            case _:
                pass

    async def _read_again(self) -> None:
        """What the stamp does not tell: whether another text is there, and whether a failure is over."""
        self._again_at = None
        if not self._read:
            await self.reload()
            return
        try:
            text = await threads.run(threads.CONFIG, read, self.path)
        except ConfigRefused:
            self._settling.doubt()
        else:
            if digest_of(text) != self._read:
                self._settling.doubt()

    async def _compile(self, text: str) -> Snapshot:
        """As `compile_text`, while requests are served: nothing here holds the loop up for long."""
        document = await source.parse_apart(text)
        return await threads.run(threads.CONFIG, _compile, document, self._target, self._sockets, self._judge)

    def _swap(self, compiled: Snapshot, text: str) -> Snapshot:
        old = self._current
        new = compiled.made_live(old.revision + 1 if old else 1, time.time(), digest_of(text))
        self._current, self._text = new, text
        self.refusal = None
        L.info("Revision %d of %s is live: %d routes", new.revision, self.path, len(new.table.routes))
        return new

    def _undone(self) -> None:
        """The file says what is live. Whoever reads the log after a refusal must hear that it is over."""
        if self.refusal is not None:
            self.refusal = None
            revision = self.current.revision
            L.info("%s is as the live revision %d again: what was refused is undone", self.path, revision)

    def _failed(self, digest: str, problems: list[Problem], *, passing: bool) -> None:
        if passing:
            self._read = ""
            self._again_at = self._now() + self._again_after
            self._again_after = min(2 * self._again_after, _TRY_AGAIN_AT_MOST)
            if self.refusal is not None and self.refusal.problems == problems:
                return  # it was said
        else:
            self._again_after = _TRY_AGAIN
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
        """What GET /admin/config shows."""
        current, began = self.current, self._settling.began
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


def digest_of(text: str) -> str:
    """What tells one text from another."""
    return hashlib.sha256(text.encode()).hexdigest()


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as JSON."""
    return {"path": problem.where, "line": problem.line, "reason": problem.reason, "hint": problem.hint}


def describe(path: Path, problems: list[Problem]) -> str:
    """Problems as text, one a line: file:line, path, reason, hint."""
    lines = []
    for p in problems:
        at = f"{path}:{p.line}" if p.line else str(path)
        lines.append(f"  {at}: {p.where}: {p.reason} ({p.hint})")
    return "\n".join(lines)
