"""The live routing config: read from its source, checked, swapped; written by operators, and taken back.

Any failure before the swap leaves the running snapshot untouched and is reported whole. The swap is one
assignment; a request in flight finishes on the snapshot that it began with. Whatever is live is a revision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from gateway.call import Snapshot
from gateway.config.audit.journal import Journal, reason_of
from gateway.config.compilation import Compiler
from gateway.config.following import ALONE, Following
from gateway.config.history import AWAY, History, WholeChanges, unusable
from gateway.config.ports import (
    NOTHING,
    Audit,
    ConfigRefused,
    ConfigSource,
    Found,
    NoRevision,
    Remembered,
    RevisionStore,
    SourceChanged,
    Stale,
    ThisRun,
    Waits,
    WaitsNot,
)
from gateway.config.refusal import BUG, RESTLESS, Refusal, Retry, describe
from gateway.config.revisions.taking_back import TakenBack, TakingBack
from gateway.config.revisions.wait import Wait
from gateway.config.source import TransientProblems, plain
from gateway.core.config.revision import CONFIRMED, Draft, Origin, Pending, Revision, digest_of
from gateway.core.routing.problems import Problem, Problems
from gateway.runtime.periodic import Boundary, PeriodicTask

L = logging.getLogger(__name__)
TICK = 0.1  # seconds between two looks whether something is due
_TRIES = 5  # attempts to write a source that others change meanwhile


class LiveConfig:
    """Holds the live snapshot, and replaces it when its source changes or an operator says so. On the loop.

    remembered: what the data folder knows. run: this one; None where nobody asks. seed: what the first
    config is made of where the source has none. now: a monotonic clock, wall: the other one, since the epoch;
    both in seconds.

    current: the live snapshot, from `load_first` on. A request reads it once, and keeps it to its end. head,
    text: its revision, and its text to the character. texts: those read last. refusal: what the source said
    last, when that was refused. synced: whether the source was read since the start; until then the last good
    config of this data folder is live. kept: the last revision that replaced a refused text, and where it is.
    behind: the worker processes that have not taken the live one in time, as texts.
    """

    current: Snapshot
    head: Revision

    def __init__(
        self,
        source: ConfigSource,
        revisions: RevisionStore,
        audit: Audit,
        remembered: Remembered,
        compiler: Compiler,
        following: Following = ALONE,
        *,
        seed: ConfigSource | None = None,
        run: ThisRun | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.source, self.revisions, self.audit = source, revisions, audit
        self.text = ""
        self.refusal: Refusal | None = None
        self.synced = False
        self.kept = 0, ""
        self.behind: Sequence[str] = ()
        self._seed = seed
        self._run = run
        self._wait = Wait(run, now, wall)
        self._run_id = run.id if run is not None else ""
        self._history = History(source, revisions, remembered)
        self._journal = Journal(audit, remembered, wall, revisions, compiler.texts)
        self._compiler, self.texts = compiler, compiler.texts
        self._taking_back = TakingBack(self._history, revisions, compiler, self._run_id, wall)
        self._following = following
        self._now, self._wall = now, wall
        self._found = NOTHING  # what the source was seen to have last
        self._provisional = False  # whether the live text has no number yet
        self._retry = Retry(now)
        self._lock = asyncio.Lock()
        self._whole = WholeChanges()

    @property
    def pending(self) -> Pending | None:
        """Set while the live revision goes back unless it is confirmed."""
        return self._wait.pending

    # --- the start ---

    async def load_first(self) -> None:
        """Load at the start. Raises ConfigRefused: the gateway does not start without a good config."""
        for _ in range(_TRIES):
            with suppress(SourceChanged):  # by another process, meanwhile
                return await self._load_first()
        raise ConfigRefused(self.source.name, [RESTLESS])

    async def _load_first(self) -> None:
        try:
            self._found = await self._history.first(self._seed, self._first_draft)
        except ConfigRefused as refused:
            last = await self._history.last_good() if refused.transient else None
            if last is None:
                raise
            L.error(
                "%s\nUntil it can be read, revision %d is served, the last good one here; not ready",
                *(describe(self.source.name, refused.problems), last[0].number),
            )
            self._retry.later()
            revision, text = last
            compiled = self._compile(text)
        else:
            self.synced = True
            try:
                compiled, revision, text = await self._first(self._found)
            except AWAY as error:
                if self.source.of_revisions and isinstance(error, OSError):
                    raise
                L.error("The live config has no number until a revision of it can be kept: %s", error)
                self._retry.later()
                compiled, text = self._compile(self._found.text), self._found.text
                revision = await self._history.provisional(self._draft_of(self._found))
                self._provisional = True
        await self._go_live(compiled, revision, text)

    def _first_draft(self, text: str, origin: Origin) -> Draft:
        self._compile(text)
        return Draft(text, origin, self._wall(), run=self._run_id)

    async def _first(self, found: Found) -> tuple[Snapshot, Revision, str]:
        """What is live first, its revision and its text. Raises AWAY, SourceChanged, ConfigRefused."""
        revision = await self._history.known(found)
        await self._journal.recover(self._run)
        if revision is None:
            compiled = self._compile(found.text)
            revision = await self._history.keep(self._draft_of(found), found)
            await self._journal.done("applied", revision.origin, revision.parent, revision.number)
            return compiled, revision, found.text
        if (number := revision.number) and revision.confirm_by and self._wait.was_left(revision):
            try:
                if taken := await self._taking_back.take_back(number, found, "before the gateway ended"):
                    return await self._took_back(taken)
                revision = await self.revisions.get(number)
            except (ConfigRefused, Problems, NoRevision) as error:  # the tick tries again
                L.error("Revision %d is not confirmed, and live: %s", number, reason_of(error))
        await self.revisions.intend(None)  # it was not written
        return self._compile(found.text), revision, found.text

    def _compile(self, text: str) -> Snapshot:
        """At the start, when there is nobody who waits. Raises ConfigRefused."""
        try:
            return self._compiler.compile(text)
        except Problems as found:
            raise ConfigRefused(self.source.name, found.items) from None

    def _draft_of(self, found: Found) -> Draft:
        more = found.restores, found.confirm_by, found.run or self._run_id
        return Draft(found.text, found.origin, found.at or self._wall(), *more)

    # --- what the source says ---

    async def watch(self) -> None:
        """Follow the source until cancelled."""
        await self.source.watch(self.reload)

    async def watch_time(self) -> None:
        """Do what is due, until cancelled."""
        await PeriodicTask("what is due of the live config", TICK, self.tick).run()

    async def tick(self) -> None:
        """Try again what failed for a while, and take back what was not confirmed in time."""
        if self._retry.due:
            await self.reload()
        if self._wait.is_over:
            async with self._lock:
                if self._wait.is_over and self.pending is not None:
                    await self._undo(self.pending)

    async def reload_when_quiet(self) -> bool:
        """As `reload`, once the source is at rest: a signal may come while it is being written. Left to
        `watch` when it does not come to rest."""
        return await self.source.settled() and await self.reload()

    async def reload(self) -> bool:
        """Load what the source has now, off the loop. True when the live snapshot is that.

        An unexpected exception is logged and refuses it; the watch continues.
        """
        async with self._lock:
            return await self._reload()

    async def _reload(self) -> bool:
        with Boundary(f"loading {self.source.name}"):
            return await self._load()
        await self._refuse("", [BUG])
        return False

    async def _load(self) -> bool:
        digest = ""
        self._retry.begins()
        try:
            self._found = NOTHING
            self._found = found = await self.source.read()
            digest = digest_of(found.text)
            if digest == self.current.digest:
                await self._unchanged(found)
            else:
                compiled = await self._compiler.compile_apart(found.text)
                await self._adopt(compiled, found)
        except ConfigRefused as refused:
            await self._failed(digest, refused.problems, transient=refused.transient)
            return False
        except Problems as problems:
            await self._failed(digest, problems.items, transient=isinstance(problems, TransientProblems))
            return False
        except (*AWAY, SourceChanged, NoRevision) as error:
            problem = Problem((), f"no revision of it can be kept: {error}", "it is tried again")
            await self._failed(digest, [problem], transient=True)
            return False
        self.synced = True
        self._retry.ended()
        if self._provisional:
            self._retry.later()
        return True

    async def _adopt(self, compiled: Snapshot, found: Found) -> None:
        """Somebody else has changed the source."""
        revision, kept = await self._history.of(self._draft_of(found), found)
        self._provisional = not kept
        waited, before = self.pending, self.head.number
        await self._go_live(compiled, revision, found.text)
        detail = ""
        if waited is not None and self.pending is None and revision.restores != waited.back_to:
            detail = f"revision {waited.number}, which waited for a confirmation, does not go back any more"
            L.warning("Revision %d came, so %s", revision.number, detail)
        await self._journal.done("applied", revision.origin, before, revision.number, detail)

    async def _unchanged(self, found: Found) -> None:
        """The source has the live text. After a refusal the log says that it is over. Its revision may be
        another one, or confirmed, by another process. Raises AWAY."""
        revision = await self._history.known(found)
        if revision is None and self._provisional:
            revision = await self._history.keep(self._draft_of(found), found)
        if revision is not None and revision.number == self.head.number:
            await self._became(revision)
        elif revision is not None:
            before, was_provisional = self.head.number, self._provisional
            await self._go_live(self.current, revision, found.text)
            if was_provisional:
                detail = "no revision of it could be kept before"
                await self._journal.done("applied", revision.origin, before, revision.number, detail)
        self._provisional = False
        if self.refusal is not None:
            self.refusal = None
            text = "%s is as the live revision %d again: what was refused is undone"
            L.info(text, self.source.name, self.head.number)

    # --- what operators do ---

    async def check(self, text: str) -> list[Problem]:
        """What is wrong with a text; nothing when it could be applied. It changes nothing."""
        return await self._compiler.check_apart(plain(text))

    async def apply(self, draft: Draft, expected: int) -> Revision:
        """Make a text live, and its source's. expected: the number of the live revision, as its author knew
        it. The live text makes no revision: gives the live one.

        Raises Stale; Waits; Problems; ConfigRefused when it cannot be written. Nothing has changed then. A
        caller that is cancelled does not end it.
        """
        draft = replace(draft, text=plain(draft.text), run=self._run_id)
        return await self._whole.make(self._apply("applied", draft, expected))

    async def roll_back(
        self, number: int, origin: Origin, expected: int, confirm_by: float = 0.0
    ) -> Revision:
        """As `apply`, with the text of a revision, to the byte; while one waits for its confirmation, of that
        which it goes back to. Raises NoRevision too."""
        text = await self.revisions.text(number)
        draft = Draft(text, origin, self._wall(), number, confirm_by, self._run_id)
        return await self._whole.make(self._apply("rolled_back", draft, expected))

    async def confirm(self, origin: Origin, number: int) -> Revision:
        """The live revision does not go back any more; nothing when that was said before. number: the live
        one's, as the caller knew it. Raises Stale, WaitsNot, ConfigRefused."""
        return await self._whole.make(self._confirm(origin, number))

    async def close(self) -> None:
        """Wait for the changes that are under way."""
        await self._whole.close()

    async def _apply(self, action: str, draft: Draft, expected: int) -> Revision:
        async with self._lock:
            try:
                if expected != self.head.number or self._provisional:
                    await self._reload()  # another process may have made it
                if expected != self.head.number:
                    raise Stale(self.head)
                await self._require_no_wait(action, draft)
                compiled = await self._compiler.compile_apart(draft.text)
                await self._journal.ready(self.source.name)
                return await self._replace(action, draft, compiled)
            except (Problems, ConfigRefused, Waits) as error:  # who is stale may try again, and says it then
                await self._journal.refused(draft.origin, self.head.number, error)
                raise

    async def _require_no_wait(self, action: str, draft: Draft) -> None:
        """Else whoever makes a small edit would make another's change stay. Raises Waits."""
        if self.pending is not None:
            await self._look_again()
        waits = self.pending
        if waits is not None and (action, draft.restores) != ("rolled_back", waits.back_to):
            raise Waits(waits, self.head)

    async def _look_again(self) -> None:
        """Another process may have been told that what waits is confirmed, or taken it back."""
        if self.source.tells_wait:
            await self._reload()
            return
        with suppress(NoRevision, *AWAY):
            await self._became(await self.revisions.get(self.head.number))

    async def _confirm(self, origin: Origin, number: int) -> Revision:
        async with self._lock:
            for _ in range(_TRIES):
                if number != self.head.number:
                    raise Stale(self.head)
                if self.head.confirmation == CONFIRMED:
                    return self.head
                if self.pending is None:
                    raise WaitsNot(f"revision {number} does not go back by itself")
                await self._journal.ready(self.source.name)
                try:
                    self._found, revision = await self._history.confirm(number, self._found)
                except AWAY as error:
                    raise unusable(self.source.name, error) from None
                except SourceChanged:
                    await self._reload()
                    continue
                if revision.confirm_by:
                    raise WaitsNot(f"the time of revision {number} is over: it goes back")
                await self._became(revision)
                await self._journal.done("confirmed", origin, number, number)
                return revision
            raise ConfigRefused(self.source.name, [RESTLESS], transient=True)

    async def _replace(self, action: str, draft: Draft, compiled: Snapshot) -> Revision:
        """Write the draft over what the source has, and make it live. A text in the source that was refused
        goes: what is live counts. Raises Stale, ConfigRefused."""
        before = self.head.number
        for _ in range(_TRIES):
            try:
                if await self._history.digest(draft) == self.head.digest:
                    revision = self.head
                    if digest_of(self._found.text) != draft.digest:
                        keep = self.refusal is not None
                        self._found = await self.source.write(draft, self._found, keep=keep)
                        self.refusal = None
                else:
                    keep = self.refusal is not None  # it is no revision: kept, as it was edited by hand
                    self._found, revision = await self._history.commit(draft, self._found, before, keep=keep)
            except SourceChanged:
                if not await self.source.settled():
                    break
                await self._reload()
                if self.head.number != before:
                    raise Stale(self.head) from None
                continue
            if revision.number != before:
                await self._go_live(compiled, revision, draft.text)
            await self._journal.done(action, draft.origin, before, revision.number, self._note_kept(revision))
            return revision
        raise ConfigRefused(self.source.name, [RESTLESS], transient=True)

    def _note_kept(self, revision: Revision) -> str:
        """Say where the refused text is that a revision has replaced. Gives it for the audit."""
        kept = self._found.kept
        if not kept:
            return ""
        self.kept = revision.number, kept
        L.warning("What %s had, and was refused, is replaced; it is kept in %s", self.source.name, kept)
        return f"the refused text that it replaced is kept in {kept}"

    # --- what was not confirmed ---

    async def _undo(self, pending: Pending) -> None:
        """Take it back. What fails is tried again: the promise is that it goes."""
        self._wait.later()
        try:
            if self.source.tells_wait:
                await self._look_again()
                if self.pending != pending:
                    return
            number, keep = pending.number, self.refusal is not None
            if taken := await self._taking_back.take_back(number, self._found, "in time", keep=keep):
                await self._go_live(*await self._took_back(taken))
            else:  # another process has confirmed it
                await self._became(await self.revisions.get(pending.number))
        except SourceChanged:  # what somebody did later stands, if it is not refused
            if await self.source.settled():
                self._wait.soon()
                await self._reload()
        except (ConfigRefused, Problems, NoRevision, *AWAY) as error:
            self._wait.failed(pending.number, reason_of(error))

    async def _took_back(self, taken: TakenBack) -> tuple[Snapshot, Revision, str]:
        self._found, compiled, made, text, was, back_to = taken
        await self._journal.taken_back(made.origin, was, back_to, made, self._note_kept(made))
        return compiled, made, text

    # --- the swap ---

    async def _go_live(self, compiled: Snapshot, revision: Revision, text: str) -> None:
        old = self.current if hasattr(self, "current") else None
        new = compiled.made_live(revision.number, self._wall(), revision.digest)
        self.current, self.head, self.text, self.refusal = new, revision, text, None
        L.info("Revision %d of %s is live: %d routes", new.revision, self.source.name, len(new.table.routes))
        if old is None:
            self._following.applied(new, None)
        else:
            with Boundary(f"what follows from revision {new.revision}"):
                self._following.applied(new, old)
                self.behind = await self._following.spread(new, text)
        await self._wait_for_confirmation(revision, at_start=old is None)
        try:
            await self._history.remember(revision, text)
        except OSError as error:
            L.error("The live config is not kept for a start without its source: %s", error)

    async def _became(self, revision: Revision) -> None:
        """What is known of the live revision: it may be confirmed by now."""
        self.head = revision
        await self._wait_for_confirmation(revision, at_start=False)

    async def _wait_for_confirmation(self, revision: Revision, *, at_start: bool) -> None:
        if not revision.confirm_by:
            self._wait.ends()
            return
        back_to = revision.parent
        with suppress(NoRevision, *AWAY):
            back_to = await self._history.goes_back_to(revision)
        self._wait.begins(revision, back_to, at_start=at_start)

    # --- what was refused ---

    async def _failed(self, digest: str, problems: list[Problem], *, transient: bool) -> None:
        if transient:
            self._retry.later()
            if self.refusal is not None and self.refusal.problems == problems:
                return  # already logged
        else:
            self._retry.ended()
        await self._refuse(digest, problems)

    async def _refuse(self, digest: str, problems: list[Problem]) -> None:
        self.refusal = Refusal(self._wall(), digest, problems)
        place, number = self.source.name, self.current.revision
        L.error("%s was refused; revision %d stays live:\n%s", place, number, describe(place, problems))
        with Boundary("what follows from a refused config"):
            self._following.refused(self.refusal)
        origin = self._found.origin if digest else Origin("", "", self.source.kind)
        await self._journal.refused(origin, number, Problems(problems))

    # --- what is shown ---

    def status(self) -> dict[str, Any]:
        """The JSON of GET /admin/config."""
        return {
            "path": self.source.name,
            "source": self.source.kind,
            "available": self.source.available,
            "synced": self.synced,
            **self.source.status(),
            **self.current.view(),
            "pending": None if self.pending is None else asdict(self.pending),
            "refused": None if self.refusal is None else self.refusal.view(),
        }
