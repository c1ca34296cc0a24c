"""What the live config tells the audit, and what it makes up at the start because a crash lost it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.config.history import unusable
from gateway.config.ports import (
    Audit,
    ConfigRefused,
    HeadMoved,
    NoRevision,
    Remembered,
    RevisionStore,
    ThisRun,
)
from gateway.config.refusal import summary
from gateway.config.source import Texts
from gateway.core.config.audit import Entry
from gateway.core.config.revision import Origin, Revision
from gateway.core.errors import StoreUnavailable
from gateway.core.routing.problems import Problem, Problems

L = logging.getLogger(__name__)
_AUDITED = "audited"  # the name under which the number of the last revision in the audit is remembered
_LOOK_BACK = 200  # lines of the audit
_PAGE = 100  # revisions


class Journal:
    """Writes the lines of the live config, each with what has changed by meaning. now: seconds since the
    epoch. texts: where those of an apply were read already."""

    def __init__(
        self,
        audit: Audit,
        remembered: Remembered,
        now: Callable[[], float],
        revisions: RevisionStore,
        texts: Texts,
    ) -> None:
        self._audit = audit
        self._remembered = remembered
        self._now = now
        self._revisions = revisions
        self._texts = texts

    async def ready(self, name: str) -> None:
        """Before a change, which must not happen without its line. name: of the source. Raises
        ConfigRefused."""
        try:
            await self._audit.ready()
        except OSError as error:
            raise unusable(name, error) from None

    async def done(self, action: str, origin: Origin, before: int, after: int, detail: str = "") -> None:
        """A change. before, after: numbers of revisions."""
        entry = _entry(action, origin, before, self._now(), after=after, detail=detail)
        await self._write(replace(entry, diff=await self._differences(before, after)), before, after)

    async def _write(self, entry: Entry, before: int, after: int) -> None:
        try:
            await self._audit.record(entry)
            if after > before:
                await self._remembered.set_state(_AUDITED, str(after))
        except OSError as error:
            L.error(
                "Revision %d is live, but its line in the audit could not be written: %s. It comes before the"
                " next one that can be, or is made up at the next start",
                *(after, error),
            )

    async def taken_back(
        self, origin: Origin, unconfirmed: Revision, back_to: int, made: Revision, detail: str
    ) -> None:
        """A revision that was not confirmed. back_to: whose text is live again, as the revision `made`."""
        author = unconfirmed.origin.author or "nobody known"
        L.warning(
            "Revision %d by %s went back to %d, which is live as revision %d: %s",
            *(unconfirmed.number, author, back_to, made.number, origin.reason),
        )
        await self.done("unconfirmed", origin, unconfirmed.number, made.number, detail)

    async def _differences(self, before: int, after: int) -> tuple[dict[str, Any], ...]:
        """As JSON; nothing where a text is not there any more, or cannot be parsed."""
        if before == after or not before:
            return ()
        try:
            one, other = await self._revisions.text(before), await self._revisions.text(after)
            return tuple((await self._texts.compare(one, other)).views)
        except (NoRevision, Problems, OSError, StoreUnavailable):
            return ()

    async def refused(self, origin: Origin, before: int, error: Exception) -> None:
        """A change that was not made."""
        entry = _entry("refused", origin, before, self._now(), outcome="refused", detail=reason_of(error))
        try:
            await self._audit.record(entry)
        except OSError as unwritable:
            L.error("What was refused is not in the audit: %s", unwritable)

    async def recover(self, run: ThisRun | None) -> None:
        """Make up the lines that the end of a process lost: those of the revisions after the last one that is
        in the audit. Of a store that others share, only what was made live on this data folder: the others
        have their own audit. Without what differs: nobody waits for that at a start. Raises OSError,
        StoreUnavailable."""
        audited = int(await self._remembered.state(_AUDITED) or 0)
        for line in await self._audit.page(0, _LOOK_BACK):
            if line["outcome"] == "done":
                audited = max(audited, line["to"] or 0)
        missing: list[Revision] = []
        newest = before = 0
        while page := await self._revisions.page(before, _PAGE):
            newest = newest or page[0].number
            missing += [one for one in page if one.number > audited and (run is None or run.is_ours(one.run))]
            before = page[-1].number
            if before <= audited + 1:
                break
        for revision in reversed(missing):
            detail = "the line was lost with a process, and made up of the revision at a start"
            before, after = revision.parent, revision.number
            entry = _entry("recovered", revision.origin, before, self._now(), after=after, detail=detail)
            await self._write(entry, before, after)
        if not missing and newest > audited:
            await self._remembered.set_state(_AUDITED, str(newest))


def _entry(
    action: str,
    origin: Origin,
    before: int,
    at: float,
    *,
    after: int = 0,
    outcome: str = "done",
    detail: str = "",
) -> Entry:
    return Entry(
        action=action,
        outcome=outcome,
        author=origin.author,
        role=origin.role,
        address=origin.address,
        reason=origin.reason,
        source=origin.source,
        from_revision=before,
        to_revision=after,
        detail=detail,
        at=at,
    )


def reason_of(error: Exception) -> str:
    problems: list[Problem] = []
    if isinstance(error, Problems):
        problems = error.items
    elif isinstance(error, ConfigRefused):
        problems = error.problems
    if problems:
        return summary(problems)
    if isinstance(error, HeadMoved):
        return f"it was made for a revision before {error.head.number}, which is live"
    return str(error)
