"""The source of the live config and its revisions, changed together: a crash in between leaves the old text
or the new one, and the next start knows whose it is and why; a caller that goes leaves a whole change."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, TypeVar

from gateway.config.ports import (
    NOTHING,
    ConfigRefused,
    ConfigSource,
    Found,
    HeadMoved,
    NoRevision,
    Remembered,
    RevisionStore,
    SourceChanged,
)
from gateway.core.config.revision import Draft, Origin, Revision, digest_of, json_with, revision_of
from gateway.core.errors import StoreUnavailable
from gateway.core.routing.problems import Problem
from gateway.runtime import threads

T = TypeVar("T")
L = logging.getLogger(__name__)
_LAST_GOOD = "last_good"  # the name under which the live text and its revision are remembered
_PAGE = 100  # revisions that are looked through at once
AWAY = (OSError, StoreUnavailable)  # what a store of revisions raises when it cannot be used


def unusable(name: str, error: Exception) -> ConfigRefused:
    """That a change cannot be made now. name: of the source."""
    return ConfigRefused(name, [Problem((), str(error), "nothing was changed")], transient=True)


class History:
    """What was live, and what is written to be live next."""

    def __init__(self, source: ConfigSource, revisions: RevisionStore, remembered: Remembered) -> None:
        self._source = source
        self._revisions = revisions
        self._remembered = remembered
        store: object = revisions
        self._all_is_here = source.kind == "file" and store is remembered

    async def first(self, seed: ConfigSource | None, checked: Callable[[str, Origin], Draft]) -> Found:
        """What the source has at the start; where it is empty, what the seed has is written to it. checked:
        the draft of a text; raises ConfigRefused for a bad one. Raises ConfigRefused, SourceChanged."""
        try:
            return await self._source.read()
        except ConfigRefused as refused:
            if not refused.empty or seed is None:
                raise
        first = await seed.read()
        origin = replace(first.origin, reason=f"the first one, from {seed.name}")
        return await self._source.write(checked(first.text, origin), NOTHING)

    async def known(self, found: Found) -> Revision | None:
        """The revision that the source has: the newest, or the intended one, which is kept now. None where
        somebody else has written it, and it is none yet. Raises AWAY."""
        if self._source.of_revisions:
            return await self._revisions.get(found.number) if found.number else None
        head = await self._revisions.head()
        digest = digest_of(found.text)
        if head is not None and head.digest == digest and head.number >= found.number:
            if head.confirm_by and found.number and self._source.tells_wait and not found.confirm_by:
                return await self._revisions.confirm(head.number)  # another process was told
            return head
        intended = await self._revisions.intended()
        if intended is None or intended.digest != digest:
            return None
        if self._source.tells_wait and found.number:
            intended = replace(intended, confirm_by=found.confirm_by)
        return await self._add(intended, head.number if head is not None else 0, found.number)

    async def of(self, draft: Draft, found: Found) -> tuple[Revision, bool]:
        """The revision that the source has, kept now if need be; and whether it is kept. Where none can be
        (a full disk), what is in the source is served all the same: in such an hour an operator mends a route
        by hand. Raises SourceChanged; AWAY where the source is nothing but the revisions."""
        try:
            return await self.known(found) or await self.keep(draft, found), True
        except AWAY as error:
            if self._source.of_revisions:
                raise
            L.error(
                "What %s has now is served, but no revision of it can be kept: %s. It is tried again",
                *(self._source.name, error),
            )
            return await self.provisional(draft), False

    async def keep(self, draft: Draft, found: Found) -> Revision:
        """A revision of what somebody else has written to the source. Raises AWAY, SourceChanged."""
        if self._source.of_revisions:  # nobody else writes to it, but there may be nothing yet
            written = await self._source.write(draft, found)
            return await self._revisions.get(written.number)
        head = await self._revisions.head()
        return await self._add(draft, head.number if head is not None else 0, found.number)

    async def digest(self, draft: Draft) -> str:
        """That of a draft, which knows it from then on: it takes a while where the text is large."""
        return await threads.run(threads.REVISIONS, lambda: draft.digest)

    async def commit(
        self, draft: Draft, over: Found, parent: int, *, keep: bool = False
    ) -> tuple[Found, Revision]:
        """Write a draft to the source, and keep it as a revision. Nothing has changed after an error, as far
        as it does not say otherwise. keep: as of ConfigSource.write. Raises ConfigRefused, SourceChanged."""
        if self._source.of_revisions:
            written = await self._source.write(draft, over)
            return written, await self._revisions.get(written.number)
        try:
            await self._revisions.intend(draft)
        except AWAY as error:
            raise self._unkept(error) from None
        try:
            numbered = over if over == NOTHING else replace(over, number=max(over.number, parent))
            written = await self._source.write(draft, numbered, keep=keep)
        except (ConfigRefused, SourceChanged) as error:
            if not (isinstance(error, ConfigRefused) and error.unknown):  # else it may be found there
                with suppress(*AWAY):
                    await self._revisions.intend(None)
            raise
        try:
            return written, await self._add(draft, parent, written.number)
        except AWAY as error:
            raise await self._put_back(written, over, error) from None

    async def _put_back(self, written: Found, over: Found, error: Exception) -> ConfigRefused:
        """After what could not be a revision. What stays in the source all the same is still intended."""
        try:
            await self._source.put_back(written, over)
        except (ConfigRefused, SourceChanged):
            hint = "but it is written, and could not be taken out again: it is served from there"
            return self._unkept(error, hint)
        with suppress(*AWAY):
            await self._revisions.intend(None)
        return self._unkept(error)

    async def _add(self, draft: Draft, parent: int, number: int) -> Revision:
        """Where others keep their revisions too, the newest may be another one by now. What is in the source
        is one all the same; if it is the newest already, another process was first to see it."""
        while True:
            try:
                return await self._revisions.add(draft, parent, number)
            except HeadMoved as moved:
                if moved.head.digest == draft.digest:
                    return moved.head
                parent = moved.head.number

    def _unkept(self, error: Exception, hint: str = "nothing was changed; try again then") -> ConfigRefused:
        problem = Problem((), f"no revision of it can be kept: {error}", hint)
        return ConfigRefused(self._source.name, [problem], transient=True)

    async def confirm(self, number: int, found: Found) -> tuple[Found, Revision]:
        """The revision, which the source has, does not go back any more, unless it is expired. Raises
        SourceChanged, ConfigRefused, NoRevision, AWAY."""
        return await self._source.confirm(found), await self._revisions.confirm(number)

    async def expire(self, number: int) -> Revision:
        """Before it is taken back: from now on it cannot be confirmed, unless it is by now. Where the source
        tells that, it is not written over once it was confirmed. Raises NoRevision, AWAY."""
        if self._source.tells_wait:
            return await self._revisions.get(number)
        return await self._revisions.expire(number)

    async def goes_back_to(self, revision: Revision) -> int:
        """The revision whose text counts when this one is not confirmed: the newest before it that did not
        wait for a confirmation. Raises AWAY; NoRevision where it was never here."""
        before = revision.number
        while page := await self._revisions.page(before, _PAGE):
            for one in page:
                if not one.confirm_by:
                    return one.number
            before = page[-1].number
        raise NoRevision(f"what was live before revision {revision.number} was never seen here")

    async def remember(self, revision: Revision, text: str) -> None:
        """For a start at which neither the source nor the store can be reached. Raises OSError."""
        if self._all_is_here:
            return
        value = await threads.run(threads.REVISIONS, json_with, text, {"revision": asdict(revision)})
        await self._remembered.set_state(_LAST_GOOD, value)

    async def last_good(self) -> tuple[Revision, str] | None:
        """What was remembered last. Raises OSError."""
        value = await self._remembered.state(_LAST_GOOD)
        if not value:
            return None
        found = json.loads(value)
        return revision_of(found["revision"]), found["text"]

    async def provisional(self, draft: Draft) -> Revision:
        """What stands for a revision while none can be kept: with the number of the last one. Raises
        OSError."""
        last = await self.last_good()
        head = last[0] if last is not None else None
        with suppress(*AWAY):
            head = await self._revisions.head() or head
        number = head.number if head is not None else 0
        return Revision(number, 0, draft.digest, len(draft.text.encode()), draft.at, draft.origin)


class WholeChanges:
    """Changes that are made whole, whatever becomes of who asked for them. On the event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def make(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives or raises. A caller that is cancelled does not end it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, unless that has gone

    async def close(self) -> None:
        """Wait for those that are under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)
