"""Short queries of quiet tenants on the event loop itself, as small documents are read.

A page by an index takes a few tenths of a millisecond. In a thread it has to find a processor and the
interpreter's lock beside all that writes, imports and scans, and that took a hundred times as long where
there is one core. So it is tried here, for at most MOST, and what does not end by then goes to a thread. What
a tenant's queries take here is bounded too: behind one that took t none is tried for WAIT times t.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, thread_time
from typing import TypeVar

from gateway.store import sqlite_errors
from gateway.store.sqlite_files import Files
from gateway.store.sqlite_reads import interrupted
from gateway.store.sqlite_statement import here

T = TypeVar("T")
MOST = 0.001  # seconds of the processor
WAIT = 15  # so that a tenant has about a sixteenth of the event loop's time for its queries
GIVEN_UP = 1.0  # seconds without another try behind one that was given up
_STEPS = 500  # of SQLite's virtual machine between two looks at the clock: 0.05 ms


class Look:
    """One query, and how much time it has. See sqlite_statement.Turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.began = clock()
        self._until = self.began + MOST

    def may_not_go_on(self) -> bool:
        """SQLite's progress handler: true ends the statement."""
        return self._clock() > self._until

    def step(self) -> None:
        if self.may_not_go_on():
            raise interrupted()

    @contextmanager
    def apart(self) -> Iterator[None]:
        raise interrupted()
        yield


class Inline:
    """now: the monotonic clock, in seconds. clock: of this thread's processor time, which stands still while
    others have the interpreter's lock."""

    def __init__(
        self,
        files: Files,
        now: Callable[[], float] = monotonic,
        clock: Callable[[], float] = thread_time,
    ) -> None:
        self._files = files
        self._now = now
        self._clock = clock

    def query(self, name: str, work: Callable[[sqlite3.Connection, Look], T]) -> T | None:
        """What `work` gives; None where it has to be done in a thread: the tenant's file is not open, queries
        of it wait, it had one here just now, or this one takes longer. Raises what `work` raises but for
        sqlite3.Error: the thread meets that again and tells it."""
        file = self._files.get(name)
        if file is None or file.queries.locked() or self._now() < file.inline_from:
            return None
        look, given_up = Look(self._clock), True
        connection = file.inline
        connection.set_progress_handler(look.may_not_go_on, _STEPS)
        before, here.turn = here.turn, look
        try:
            found = work(connection, look)
            given_up = False
            return found
        except sqlite3.Error as error:
            given_up = sqlite_errors.primary_code(error) != sqlite3.SQLITE_BUSY
            return None
        finally:
            here.turn = before
            connection.set_progress_handler(None, 0)
            used = self._clock() - look.began
            file.inline_from = self._now() + (GIVEN_UP if given_up else WAIT * used)
