"""What the live config asks of where it comes from, and of where its revisions are kept.

Commands that only ask a running gateway import it too: nothing here imports what serves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gateway.core.config.audit import Entry
from gateway.core.config.revision import Draft, Origin, Pending, Revision
from gateway.core.routing.problems import Problem


class ConfigRefused(Exception):
    """A routing config that cannot be used, with all its problems. path: of its file, or the name of its
    source. transient: another try may work without an edit. empty: nothing is there yet, as before the
    first config; `ConfigSource.write` over NOTHING makes it. unknown: it may be written all the same."""

    def __init__(
        self,
        path: Path | str,
        problems: list[Problem],
        *,
        transient: bool = False,
        empty: bool = False,
        unknown: bool = False,
    ) -> None:
        super().__init__(f"{path}: {len(problems)} problem(s)")
        self.path = path
        self.problems = problems
        self.transient = transient
        self.empty = empty
        self.unknown = unknown


class HeadMoved(Exception):
    """Another revision became the newest meanwhile. head: it."""

    def __init__(self, head: Revision) -> None:
        super().__init__(f"revision {head.number} is the newest")
        self.head = head


class Stale(HeadMoved):
    """A change was made for another revision than the live one. head: the live one."""


class Waits(Exception):
    """The live revision waits for its confirmation: until that is given, or it has gone back, nothing else is
    made live. head: it."""

    def __init__(self, pending: Pending, head: Revision) -> None:
        super().__init__(f"revision {head.number} of {head.origin.author} waits for its confirmation")
        self.pending = pending
        self.head = head


class WaitsNot(Exception):
    """There is nothing to confirm: the live revision never went back by itself, or its time is over."""


class SourceChanged(Exception):
    """Somebody changed the source since it was read: what was to be written is not."""


class NoRevision(Exception):
    """There is no such revision, or it is not kept any more."""


KEPT = 1000  # revisions that a store keeps, beside those that are pinned


class RevisionStore(Protocol):
    """The revisions. Nothing blocks the event loop. Raises StoreUnavailable where it cannot be reached, and
    OSError (with the file's name) where the disk does not take it."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def head(self) -> Revision | None:
        """The newest one; None before the first."""
        ...

    async def add(self, draft: Draft, parent: int, number: int = 0) -> Revision:
        """Keep it, on disk when this returns; its number is above all that ever were. The oldest beyond
        1,000 that are not pinned go, but for what a confirmation goes back to. parent: the newest one's
        number as its author knew it, 0 for none. number: what it is elsewhere (see Found), taken when it is
        above all that ever were here; 0: the next one. Raises HeadMoved when the parent is not the newest any
        more."""
        ...

    async def get(self, number: int) -> Revision:
        """Raises NoRevision."""
        ...

    async def text(self, number: int) -> str:
        """Its text, to the byte. Raises NoRevision."""
        ...

    async def page(self, before: int, limit: int) -> list[Revision]:
        """The newest first. before: only those with smaller numbers; 0 for all."""
        ...

    async def pin(self, number: int, *, pinned: bool) -> Revision:
        """Raises NoRevision."""
        ...

    async def confirm(self, number: int) -> Revision:
        """It does not go back any more. One that is expired or does not wait stays as it is. Gives what it is
        now. Raises NoRevision."""
        ...

    async def expire(self, number: int) -> Revision:
        """It cannot be confirmed any more, unless it is already. Gives what it is now, of which two processes
        that confirm it and take it back at once are told the same. Raises NoRevision."""
        ...

    async def intend(self, draft: Draft | None) -> None:
        """Before a source of its own is written: what is to be a revision once it is there, so that who
        and why are not lost with the process. None: nothing any more; `add` says that too."""
        ...

    async def intended(self) -> Draft | None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A config as its source has it. version: the source's own, for `write`. origin: who wrote it, as far as
    the source tells. number: of the revision that it is elsewhere, so that all processes give it the same
    one; 0 when the source has no numbers. at, restores, confirm_by, run: as of a Draft, 0 or "" when the
    source does not tell. kept: of what was written: where the text that it replaced is now, "" for
    nowhere."""

    text: str
    version: str
    origin: Origin
    number: int = 0
    at: float = 0.0
    restores: int = 0
    confirm_by: float = 0.0
    run: str = ""
    kept: str = ""


NOTHING = Found("", "", Origin("", "", ""))  # what `write` goes over where no config is yet


class ConfigSource(Protocol):
    """Where the live config comes from. Exactly one is the truth.

    kind: `file`, `store`, `zookeeper`, `mongodb`. name: for messages: a path, or a URL without secrets.
    of_revisions: whether it is the store of the revisions itself, the newest of which is what it has.
    tells_wait: whether it says itself until when what it has is to be confirmed, to all processes.
    available: whether it could be reached when it was last asked.
    """

    kind: str
    name: str
    of_revisions: bool
    tells_wait: bool

    @property
    def available(self) -> bool: ...
    def status(self) -> Mapping[str, Any]:
        """What else is to be told of it, for GET /admin/config."""
        ...

    async def read(self) -> Found:
        """What is there now. Raises ConfigRefused (transient: when trying again may help; empty: when there
        is nothing)."""
        ...

    async def settled(self) -> bool:
        """Wait until nobody is about to change it any more, as far as that can be told: a file may be written
        in pieces. False when that takes too long."""
        ...

    async def write(self, draft: Draft, over: Found, *, keep: bool = False) -> Found:
        """Replace what was read, whole or not at all, on disk when this returns. over: NOTHING to make the
        first one, which of two processes one does, and for what could not be read; where the source keeps
        numbers, the new one's is above this one's. keep: what is replaced is no revision: where somebody
        edits it by hand, it is kept beside. Raises SourceChanged, ConfigRefused."""
        ...

    async def put_back(self, written: Found, over: Found) -> None:
        """Undo `write`, to the byte, also over what could not be read. Raises SourceChanged, ConfigRefused:
        what was written is there then, and `watch` tells of it."""
        ...

    async def confirm(self, found: Found) -> Found:
        """Where it tells that this waits: it does not any more. Raises SourceChanged, ConfigRefused."""
        ...

    async def watch(self, changed: Callable[[], Awaitable[object]]) -> None:
        """Have it called, within a second, whenever what `read` gives may have changed. Until cancelled."""
        ...


class ThisRun(Protocol):
    """This run of a gateway on its data folder, among others. id: over all hosts and starts."""

    id: str

    def is_ours(self, id: str) -> bool:
        """Whether that run is, or was, on this data folder."""
        ...

    def has_ended(self, id: str) -> bool:
        """Whether it was on this data folder, and its process is gone. Of those elsewhere nobody knows."""
        ...


class Audit(Protocol):
    """Where it is written who changed what."""

    async def ready(self) -> None:
        """Before something that must not happen without its line. Raises OSError."""
        ...

    async def record(self, entry: Entry) -> None:
        """On disk when this returns. Raises OSError."""
        ...

    async def page(self, before: int, limit: int) -> list[dict[str, Any]]:
        """Lines as objects, the newest first. before: only those with smaller numbers; 0 for all."""
        ...

    async def verify(self) -> list[str]:
        """What is wrong with it; nothing when all is as it was written."""
        ...


class Remembered(Protocol):
    """What this data folder remembers, whatever the source and the store of the revisions are: texts by name,
    "" for nothing. Raises OSError."""

    async def state(self, name: str) -> str: ...
    async def set_state(self, name: str, value: str) -> None:
        """On disk when this returns."""
        ...
