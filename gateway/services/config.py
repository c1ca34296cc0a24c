"""The live routing config: read, parse, compile, swap, reconcile.

Any failure before the swap leaves the running snapshot untouched and is reported whole. The swap is one
assignment; a request in flight finishes on the snapshot that it began with.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.call import Snapshot, Target
from gateway.core.check import compile_data
from gateway.core.compile import Compiled
from gateway.core.model import Backend
from gateway.core.problems import Problem, Problems
from gateway.services import source
from gateway.services.watch import Stamp, goes_on, stamp

L = logging.getLogger(__name__)
POLL = 0.05  # seconds between two looks at the file; a change is taken when two looks agree

MakeTarget = Callable[[Backend | None], Target]


class ConfigRefused(Exception):
    """A routing config that cannot be used, with all its problems."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(f"{path}: {len(problems)} problem(s)")
        self.path = path
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Refusal:
    """A try to load that changed nothing. at: seconds since the epoch."""

    at: float
    digest: str
    problems: list[Problem]


def read(path: Path) -> str:
    """The text of the file. Raises ConfigRefused."""
    try:
        if path.stat().st_size > source.MAX_BYTES:
            problem = Problem((), f"it is larger than {source.MAX_BYTES} bytes", "is it the right file?")
            raise ConfigRefused(path, [problem])
        return path.read_text("utf-8")
    except OSError as error:
        problem = Problem((), f"it cannot be read: {error.strerror}", "check that it exists and its mode")
        raise ConfigRefused(path, [problem]) from None
    except UnicodeDecodeError:
        raise ConfigRefused(path, [Problem((), "it is not UTF-8", "save it as UTF-8")]) from None


def compile_text(text: str, target: MakeTarget, sockets: str) -> Compiled[Target]:
    """From text to what a snapshot is made of. Raises Problems, each with its line."""
    try:
        return compile_data(source.parse_yaml(text), target, sockets)
    except Problems as found:
        raise Problems(_in_order(source.with_lines(text, found.items))) from None


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.line)


class ConfigService:
    """Holds the live snapshot and replaces it when the file changes.

    on_applied(new, old) runs after each swap, on the loop; old is None the first time, and what it raises
    then ends the start. on_refused runs after each refusal. Later what they raise is logged: a swap stays.
    """

    def __init__(
        self,
        path: Path,
        target: MakeTarget,
        sockets: str,
        on_applied: Callable[[Snapshot, Snapshot | None], None] = lambda new, old: None,
        on_refused: Callable[[Refusal], None] = lambda refusal: None,
    ) -> None:
        self.path = path
        self._target = target
        self._sockets = sockets
        self._on_applied = on_applied
        self._on_refused = on_refused
        self._current: Snapshot | None = None
        self._seen: Stamp | None = None
        self._lock = asyncio.Lock()
        self.refusal: Refusal | None = None

    @property
    def current(self) -> Snapshot:
        assert self._current is not None, "load_first() comes first"
        return self._current

    def load_first(self) -> None:
        """Load at the start. Raises ConfigRefused: without a good config nothing begins."""
        self._seen = stamp(self.path)
        text = read(self.path)
        try:
            compiled = compile_text(text, self._target, self._sockets)
        except Problems as found:
            raise ConfigRefused(self.path, found.items) from None
        self._on_applied(self._swap(compiled, _digest(text)), None)

    async def reload(self) -> bool:
        """Load the file now, off the loop. True when the running snapshot is what the file says.

        A bug of ours on the way is logged and refuses the file: nothing ends the watch.
        """
        async with self._lock:
            with goes_on(f"loading {self.path}"):
                return await self._load()
            reason = "a bug in the gateway keeps it from being loaded"
            self._refuse("", [Problem((), reason, "undo the last edit, and report what the log says")])
            return False

    async def _load(self) -> bool:
        digest = ""
        try:
            text = await self._read()
            digest = _digest(text)
            if digest == self.current.digest:
                self.refusal = None
                return True
            compiled = await self._compile(text)
        except ConfigRefused as refused:
            self._refuse(digest, refused.problems)
            return False
        except Problems as found:
            self._refuse(digest, found.items)
            return False
        old = self.current
        new = self._swap(compiled, digest)
        with goes_on(f"what follows from revision {new.revision}"):
            self._on_applied(new, old)
        return True

    async def _read(self) -> str:
        """The text, as it was when nobody wrote it. Raises ConfigRefused."""
        while True:
            self._seen = stamp(self.path)
            text = await asyncio.to_thread(read, self.path)
            if stamp(self.path) == self._seen:
                return text
            await asyncio.sleep(POLL)

    async def _compile(self, text: str) -> Compiled[Target]:
        """As `compile_text`, while requests are served: nothing here holds the loop up for long."""
        try:
            data = await source.parse_yaml_apart(text)
            return await asyncio.to_thread(compile_data, data, self._target, self._sockets)
        except Problems as found:
            raise Problems(_in_order(await source.with_lines_apart(text, found.items))) from None

    async def watch(self) -> None:
        """Follow the file until cancelled. It is taken when it has not changed between two looks, so that
        a file that is still being written is not read."""
        before = self._seen
        while True:
            await asyncio.sleep(POLL)
            now = stamp(self.path)
            if now == before and now != self._seen:
                await self.reload()
            before = now

    def _swap(self, compiled: Compiled[Target], digest: str) -> Snapshot:
        old = self._current
        new = Snapshot(
            revision=old.revision + 1 if old else 1,
            loaded_at=time.time(),
            digest=digest,
            table=compiled.table,
            backends=compiled.backends,
            tenants=compiled.tenants,
            trusted=compiled.trusted,
            limits=compiled.limits,
        )
        self._current = new
        self.refusal = None
        L.info("Revision %d of %s is live: %d routes", new.revision, self.path, len(new.table.routes))
        return new

    def _refuse(self, digest: str, problems: list[Problem]) -> None:
        self.refusal = Refusal(time.time(), digest, problems)
        revision = self.current.revision
        L.error(
            "%s was refused; revision %d stays live:\n%s", self.path, revision, describe(self.path, problems)
        )
        with goes_on("what follows from a refused config"):
            self._on_refused(self.refusal)

    def status(self) -> dict[str, Any]:
        """What GET /admin/config shows."""
        current = self.current
        return {
            "path": str(self.path),
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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as JSON."""
    return {"path": problem.where, "line": problem.line, "reason": problem.reason, "mend": problem.mend}


def describe(path: Path, problems: list[Problem]) -> str:
    """Problems as text, one a line: file:line, path, reason, mend."""
    return "\n".join(f"  {path}:{p.line}: {p.where}: {p.reason} ({p.mend})" for p in problems)
