"""A revision that was not confirmed: what was live before it is written again, as a revision of nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.call import Snapshot
from gateway.config.compilation import Compiler
from gateway.config.history import History
from gateway.config.ports import Found, RevisionStore
from gateway.core.config.revision import Draft, Origin, Revision

GATEWAY = "gateway"  # author and source of what nobody did


class TakenBack(NamedTuple):
    """What the source has now, what is to be live, what was, and which revision's text it is again."""

    found: Found
    compiled: Snapshot
    revision: Revision
    text: str
    was: Revision
    back_to: int


class TakingBack:
    """run: the id of this one. wall: seconds since the epoch."""

    def __init__(
        self,
        history: History,
        revisions: RevisionStore,
        compiler: Compiler,
        run: str,
        wall: Callable[[], float],
    ) -> None:
        self._history = history
        self._revisions = revisions
        self._compiler = compiler
        self._run = run
        self._wall = wall

    async def take_back(
        self, number: int, found: Found, when: str, *, keep: bool = False
    ) -> TakenBack | None:
        """Write what it goes back to over what was found. keep: see ConfigSource.write. None where it was
        confirmed meanwhile. Raises ConfigRefused, SourceChanged, Problems, NoRevision, AWAY."""
        revision = await self._revisions.get(number)
        if not revision.confirm_by:
            return None
        back_to = await self._history.goes_back_to(revision)
        text = await self._revisions.text(back_to)
        compiled = await self._compiler.compile_apart(text)
        origin = Origin(GATEWAY, f"revision {number} was not confirmed {when}", GATEWAY)
        draft = Draft(text, origin, self._wall(), back_to, run=self._run)
        if draft.digest == revision.digest:
            found, made = await self._history.confirm(number, found)
        elif (await self._history.expire(number)).confirm_by:
            found, made = await self._history.commit(draft, found, number, keep=keep)
        else:
            return None
        return TakenBack(found, compiled, made, text, revision, back_to)
