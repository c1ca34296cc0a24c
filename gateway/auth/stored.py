"""API keys and revocations as this process knows them: at most a second behind the store, whoever changes
it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.auth.api_keys import ApiKeys
from gateway.auth.revocations import Revocations
from gateway.auth.store import NOTHING, AuthStore, Event, State
from gateway.core.revocations import Revoked
from gateway.runtime import threads
from gateway.runtime.log_interval import LogInterval
from gateway.runtime.periodic import PeriodicTask
from gateway.runtime.sqlite_file import SQLiteUnusable

L = logging.getLogger(__name__)
AUDIT = logging.getLogger("gateway.audit")
POLL = 0.25  # seconds between two looks at the store
FLUSH = 30.0  # seconds between two batches of what was used

P = ParamSpec("P")
T = TypeVar("T")


class StoredCredentials:
    """The store, followed. start() once, close() once; on the loop's thread. available: whether the store
    could be read the last time; while not, what was known stays in force, and no change reaches this
    process."""

    available = True

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.store = AuthStore(path)
        self.api_keys = ApiKeys(lambda identity: self.revocations.covers(identity))
        self.revocations = Revocations(self.api_keys.until, now)
        self._state = NOTHING
        self._reading = asyncio.Lock()
        self._interval = LogInterval()
        self._tasks = (
            PeriodicTask("reading what was revoked", POLL, lambda: asyncio.shield(self.refresh())),
            PeriodicTask("noting which API keys were used", FLUSH, lambda: asyncio.shield(self.flush())),
        )

    async def start(self) -> None:
        """Read all of it, and follow it from now on. Raises SQLiteUnusable: nobody is served without."""
        await threads.run(threads.AUTH, self.store.ensure)
        await self._refresh()
        for task in self._tasks:
            task.start()

    async def close(self) -> None:
        """Stop, and write the last of what was used."""
        for task in self._tasks:
            await task.stop()
        await self.flush()
        async with self._reading:
            await threads.run(threads.AUTH, self.store.close)

    async def change(self, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Do this change of the store; it is in force in this process when it is done. Raises
        SQLiteUnusable, ValueError."""
        done = await threads.run(threads.AUTH, work, *args, **more)
        await self.refresh()
        return done

    async def refresh(self) -> None:
        """Take what is new in the store. When it cannot be read, what is known stays, and the log says so."""
        async with self._reading:
            try:
                await self._refresh()
            except SQLiteUnusable as error:
                self.available = False
                if self._interval.is_over():
                    L.error("What is revoked from now on is not known here, nor are new API keys: %s", error)
                return
            if not self.available:
                self.available = True
                L.warning("What is revoked, and the API keys, are read from %s again", self.store.path)

    async def _refresh(self) -> None:
        before = self._state
        found = await threads.run(threads.AUTH, self._news, before)
        if found is None:
            return
        self._state, revoked, ends_some, events = found
        self.api_keys.take(self._state.keys)
        self.revocations.take(revoked)
        if ends_some:
            self.revocations.changed()
        for event in events:
            AUDIT.info("%s %s", event.by, event.what)

    def _news(self, before: State) -> tuple[State, Revoked, bool, list[Event]] | None:
        """In a thread: what the store says, if that is something new; whether credentials may have ended by
        it; and the changes that led there, but for those before the start."""
        state = self.store.read(before)
        if state is None:
            return None
        events = self.store.events(before.position) if before is not NOTHING else []
        return state, Revoked(state.revocations), _ends_some(before, state), events

    async def flush(self) -> None:
        """Write which keys were used. What cannot be written now is written with a later use of its key."""
        used = self.api_keys.used()
        if used:
            try:
                await threads.run(threads.AUTH, partial(self.store.note_used, used))
            except SQLiteUnusable as error:
                L.warning("Which API keys were used in the last %g s is not noted: %s", FLUSH, error)


def _ends_some(before: State, now: State) -> bool:
    """Whether credentials that were good before may have ended: something was revoked, or a key changed."""
    known = {revocation.number for revocation in before.revocations}
    if any(revocation.number not in known for revocation in now.revocations):
        return True
    return any(
        (key := now.keys.get(id_)) is None or key.secrets != old.secrets or key.revoked != old.revoked
        for id_, old in before.keys.items()
    )
