"""The live config in a file: read when it has come to rest, replaced whole.

It is watched by its stamp, which any way to save a file changes. What this process writes is known to it: the
watch does not report it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pwd
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import strict_yaml
from gateway.config.ports import ConfigRefused, Found, SourceChanged
from gateway.core.config.revision import Draft, Origin, digest_of
from gateway.core.routing.problems import Problem
from gateway.runtime import durable, files, threads
from gateway.runtime.os_errors import explain
from gateway.runtime.periodic import PeriodicTask
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
POLL = 0.05  # seconds between two checks of a file that is being changed,
_REST = 0.2  # and of one that is not: each takes a thread, and the interpreter's lock from the requests
_TRIES = 20  # attempts to read a file that changes while it is read
# Seconds after which a file that was read is read once more: some file systems count time in steps of two
# seconds, and two edits of one length within such a step leave one stamp.
_RECHECK = 2.5
# File systems without second names (FAT, CIFS, FUSE), and those of whose files nobody else may make one.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES})
_PATIENCE = 3.0  # seconds to wait for who holds the folder: meanwhile no other change is made

Changed = Callable[[], Awaitable[object]]


def read(path: Path) -> str:
    """The text of the file. Raises ConfigRefused. Blocks."""
    try:
        return files.read_text(path, strict_yaml.MAX_BYTES)
    except files.FileUnusable as error:
        raise ConfigRefused(path, [Problem((), error.reason, error.hint)], transient=error.passing) from None


class FileSource:
    """See ConfigSource. now: a monotonic clock, in seconds. The version of what is found is the digest of the
    text, "" of what cannot be read."""

    kind = "file"
    tells_wait = False
    of_revisions = False

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.name = str(path)
        self._now = now
        self._debouncer = ChangeDebouncer(None)
        self._read_digest = ""  # digest of the text read last, "" when it could not be read
        self._owner = _Owner()
        self._cut_off = False
        self._recheck_at: float | None = None

    @property
    def available(self) -> bool:
        """Whether it could be read when that was last tried."""
        return bool(self._read_digest)

    def status(self) -> dict[str, Any]:
        """cut_off: whether no edit is seen here any more. changing_for: seconds for which it has been
        changing, None while it is at rest."""
        began = self._debouncer.changing_since
        return {
            "cut_off": self._cut_off,
            "changing_for": None if began is None else round(self._now() - began, 3),
        }

    # --- reading ---

    async def read(self) -> Found:
        """The text, read while the file did not change. Raises ConfigRefused."""
        for _ in range(_TRIES):
            before = await self._stamp()
            try:
                text = await threads.run(threads.CONFIG, read, self.path)
            except ConfigRefused:
                self._mark_read(before, None)
                raise
            owner = await threads.run(threads.CONFIG, _owner, self.path)
            if await self._stamp() == before:
                self._owner = owner
                self._warn_when_cut_off(await threads.run(threads.CONFIG, is_cut_off, self.path))
                self._mark_read(before, text)
                return Found(text, self._read_digest, Origin(owner.name, "", self.kind))
            await asyncio.sleep(POLL)
        problem = Problem((), "it changes while it is read, again and again", "end what writes it")
        raise ConfigRefused(self.path, [problem])

    async def settled(self) -> bool:
        """Wait until it has not changed for QUIET seconds. False when it does not come to rest; it is then
        left to `watch`."""
        deadline = self._now() + RESTLESS
        before = await self._stamp()
        while self._now() < deadline:
            await asyncio.sleep(QUIET)
            now = await self._stamp()
            if now == before:
                return True
            before = now
        L.warning("%s changes all the time: it is read when it is left alone", self.path)
        return False

    async def _stamp(self) -> FileStamp | None:
        """In a thread: a file system that hangs must not block the event loop."""
        return await threads.run(threads.CONFIG, file_stamp, self.path)

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

    # --- watching ---

    async def confirm(self, found: Found) -> Found:
        """Its revision says it."""
        return found

    async def watch(self, changed: Changed) -> None:
        """Poll the file until cancelled."""
        await PeriodicTask(f"watching {self.path}", self._pause, lambda: self.poll(changed)).run()

    def _pause(self) -> float:
        return _REST if self._debouncer.changing_since is None else POLL

    async def poll(self, changed: Changed) -> None:
        """Check the file once: report it when it has changed and come to rest since."""
        now = self._now()
        seen = await self._stamp()
        match self._debouncer.observe(now, self._now(), seen):
            case FileState.QUIET:
                await changed()
            case FileState.RESTLESS:
                began = self._debouncer.changing_since
                L.warning(
                    "%s has been changing for %.0f s, so it was not read yet; what is live stays live",
                    *(self.path, now - (began if began is not None else now)),
                )
            case FileState.SAME if self._recheck_at is not None and now >= self._recheck_at:
                await self._recheck()
            case _:
                pass

    async def _recheck(self) -> None:
        """Find what the stamp does not show: another text under the same stamp."""
        self._recheck_at = None
        try:
            text = await threads.run(threads.CONFIG, read, self.path)
        except ConfigRefused:
            self._debouncer.invalidate()
        else:
            if digest_of(text) != self._read_digest:
                self._debouncer.invalidate()

    # --- writing ---

    async def write(self, draft: Draft, over: Found, *, keep: bool = False) -> Found:
        """See ConfigSource. The file keeps its mode, owner and links; one that is gone is made anew. What
        cannot be read is kept in any case."""
        kept = _kept_name(draft.at) if keep or not over.version else ""
        stamp, kept = await threads.run(threads.CONFIG, self._replace, draft.text, over.version, kept)
        self._mark_read(stamp, draft.text)
        return Found(draft.text, draft.digest, draft.origin, kept=kept)

    async def put_back(self, written: Found, over: Found) -> None:
        """See ConfigSource."""
        try:
            stamp = await threads.run(threads.CONFIG, self._put_back, written, over)
        except ConfigRefused:
            self._debouncer.invalidate()
            raise
        self._mark_read(stamp, over.text if over.version else None)

    def _replace(self, text: str, version: str, keep: str) -> tuple[FileStamp | None, str]:
        """keep: what follows the name of the file that is replaced. Gives the path that it has then."""
        with self._being_written(version) as target:
            owner = self._writable(target)
            kept = _keep(target, keep, owner) if keep and target.exists() else ""
            _put(target, text, owner)
            return file_stamp(self.path), kept

    def _put_back(self, written: Found, over: Found) -> FileStamp | None:
        with self._being_written(written.version) as target:
            if written.kept:
                durable.rename(Path(written.kept), target)
            elif over.version:
                _put(target, over.text, self._writable(target))
            else:
                durable.remove(target)
            return file_stamp(self.path)

    @contextmanager
    def _being_written(self, version: str) -> Iterator[Path]:
        """What is to be replaced, where it has this version and nobody else writes it meanwhile."""
        try:
            target = self.path.resolve()  # a link stays, and what it leads to is replaced
            with durable.alone(target.parent, _PATIENCE):
                if self._version() != version:
                    raise SourceChanged(f"{self.path} was changed meanwhile")
                yield target
        except OSError as error:
            raise self._unwritable(error) from None

    def _version(self) -> str:
        try:
            return digest_of(read(self.path))
        except ConfigRefused:
            return ""

    def _writable(self, target: Path) -> _Owner:
        """Whose the file is to be. Raises ConfigRefused: a rename would replace also what may not be
        written."""
        try:
            status = target.stat()
        except FileNotFoundError:
            return self._owner
        if not stat.S_ISREG(status.st_mode):
            raise self._refused("it is no regular file", "put one in its place")
        me = os.geteuid()
        if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
            hint = f"let the user with id {me} write to it (chmod), or edit it where it is kept"
            raise self._refused("it is read-only", hint)
        owner = _owner(target)
        if me != 0 and (status.st_uid != me or status.st_gid not in (os.getegid(), *os.getgroups())):
            reason = f"it belongs to {owner.name}, to whom this process cannot give what replaces it"
            raise self._refused(reason, f"run the gateway as {owner.name}, or edit it by hand")
        return owner

    def _unwritable(self, error: OSError) -> ConfigRefused:
        reason, hint = explain(error)
        if isinstance(error, durable.Held):
            problem = Problem((), f"it cannot be written: {error}", "end that process, and try again")
            return ConfigRefused(self.path, [problem], transient=True)
        if error.errno == errno.EBUSY:
            reason, hint = "it is mounted by itself", "mount its folder, not the file"
        return self._refused(f"it cannot be written: {reason}", hint)

    def _refused(self, reason: str, hint: str) -> ConfigRefused:
        return ConfigRefused(self.path, [Problem((), reason, f"{hint}; or set [config] source = store")])


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a file is. name: of the user. mode, ids (user and group): None where they are not known."""

    name: str = ""
    mode: int | None = None
    ids: tuple[int, int] | None = None


def _put(target: Path, text: str | bytes, owner: _Owner) -> None:
    mode = owner.mode if owner.mode is not None else 0o644
    with durable.replacing(target, mode=mode, owner=owner.ids) as file:
        file.write(text.encode() if isinstance(text, str) else text)


def _kept_name(at: float) -> str:
    return time.strftime(".before-%Y%m%dT%H%M%SZ", time.gmtime(at))


def _keep(target: Path, suffix: str, owner: _Owner) -> str:
    """Give a file that is about to be replaced a name beside it, with the mode and the owner that it has.
    Gives its path."""
    for more in ("", *(f"-{number}" for number in range(2, 100))):
        kept = target.with_name(f"{target.name}{suffix}{more}")
        if kept.exists():
            continue
        try:
            durable.link(target, kept)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _put(kept, target.read_bytes(), owner)
        return str(kept)
    raise OSError(f"{target}{suffix} and 98 more are there already")


def _owner(path: Path) -> _Owner:
    try:
        status = path.stat()
    except OSError:
        return _Owner()
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = f"#{status.st_uid}"
    return _Owner(name, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))
