"""The live config in the store of its revisions: the newest one is the truth, also when another process made
it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from gateway.config.ports import (
    ConfigRefused,
    Found,
    HeadMoved,
    NoRevision,
    RevisionStore,
    SourceChanged,
)
from gateway.core.config.revision import Draft, Revision
from gateway.core.errors import StoreUnavailable
from gateway.core.routing.problems import Problem
from gateway.runtime.periodic import PeriodicTask

POLL = 0.25  # seconds between two looks at the newest revision


class StoreSource:
    """See ConfigSource. The version of what is found is its number."""

    tells_wait = False
    of_revisions = True

    def __init__(self, revisions: RevisionStore, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self.available = True
        self._revisions = revisions
        self._seen: Revision | None = None

    def status(self) -> dict[str, Any]:
        """Nothing more is to be told."""
        return {}

    async def read(self) -> Found:
        """See ConfigSource."""
        try:
            self._seen = head = await self._head()
            if head is None:
                problem = Problem((), "no revision is in it", "apply one")
                raise ConfigRefused(self.name, [problem], empty=True)
            text = await self._revisions.text(head.number)
        except (OSError, StoreUnavailable, NoRevision) as error:
            raise self._away(error) from None
        return Found(text, str(head.number), head.origin, head.number, head.at, head.restores)

    async def settled(self) -> bool:
        """It is always at rest."""
        return True

    async def write(self, draft: Draft, over: Found, *, keep: bool = False) -> Found:
        """See ConfigSource."""
        try:
            self._seen = made = await self._revisions.add(draft, int(over.version or 0))
        except HeadMoved as moved:
            raise SourceChanged(str(moved)) from None
        except (OSError, StoreUnavailable) as error:
            raise self._away(error) from None
        return Found(draft.text, str(made.number), draft.origin, made.number)

    async def put_back(self, written: Found, over: Found) -> None:
        """What is written is a revision: nothing is left to fail after it."""

    async def confirm(self, found: Found) -> Found:
        """Its revision says it."""
        return found

    async def watch(self, changed: Callable[[], Awaitable[object]]) -> None:
        """Look at the newest revision until cancelled."""
        await PeriodicTask(f"watching {self.name}", POLL, lambda: self.poll(changed)).run()

    async def poll(self, changed: Callable[[], Awaitable[object]]) -> None:
        """Look once. That a revision was confirmed counts as a change too, and that it is
        pinned does not."""
        seen = self._seen
        try:
            head = await self._head()
        except (OSError, StoreUnavailable):
            return
        if head is not None and (seen is None or replace(head, pinned=seen.pinned) != seen):
            await changed()

    async def _head(self) -> Revision | None:
        self.available = False
        head = await self._revisions.head()
        self.available = True
        return head

    def _away(self, error: Exception) -> ConfigRefused:
        hint = "it is tried again; what is live stays live"
        return ConfigRefused(self.name, [Problem((), f"it cannot be used: {error}", hint)], transient=True)
