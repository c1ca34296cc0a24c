"""Short queries of quiet tenants on the event loop itself, as small documents are read.

A page by an index takes a few tenths of a millisecond. In a thread it has to find a processor and the
interpreter's lock beside all that writes, imports and scans, and that took a hundred times as long where
there is one core. So it is tried here, for at most MOST, and what does not end by then goes to a thread. What
a tenant's queries take here is bounded too: one that takes t costs WAIT times t of the time that passes, of
which CREDIT may be saved up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, thread_time
from typing import Any, TypeVar

from gateway.store.filter.nodes import Compare, Eq, Exists, In, Node, Size, Text, Type, conjuncts
from gateway.store.model.query import Query
from gateway.store.sqlite import errors
from gateway.store.sqlite.files.open_files import Files, TenantFile
from gateway.store.sqlite.read.statement import this_thread

T = TypeVar("T")
MOST = 0.002  # seconds of the processor: three times what a page takes when its data is in no cache
CREDIT = 0.15  # seconds: some fifteen pages, one right behind the other
WAIT = 15  # so that a tenant has about a sixteenth of the event loop's time for its queries
MAX_ITEMS = 100
MAX_BYTES = 64 * 1024  # of documents of a page
MAX_CONDITIONS = 8
MAX_VALUES = 50  # of $in
GIVEN_UP = 1.0  # seconds at most without another try, behind many that were given up one after the other
_STEPS = 500  # of SQLite's virtual machine between two readings of the clock: 0.05 ms


# What SQLite itself decides, of one document, in microseconds; patterns and deep filters are Python's.
_PLAIN = (Eq, In, Compare, Exists, Type, Size, Text)


def may_be_short(query: Query) -> bool:
    """Whether a query is worth a try. SQLite calls the progress handler between the steps of its machine, and
    one step may be a pattern against a long text."""
    if query.count or query.limit > MAX_ITEMS:
        return False
    return all(
        number < MAX_CONDITIONS and _is_plain(part) for number, part in enumerate(conjuncts(query.filter))
    )


def _is_plain(node: Node) -> bool:
    if isinstance(node, In):
        return len(node.values) <= MAX_VALUES
    if isinstance(node, Text):
        return node.kind != "regex"
    return isinstance(node, _PLAIN)


class InlineRead:
    """One query on the event loop, and how much time it has. See statement.CurrentRead."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.began = clock()
        self._until = self.began + MOST

    def should_interrupt(self) -> bool:
        """SQLite's progress handler: true ends the statement."""
        return self._clock() > self._until

    def step(self) -> None:
        """Between two steps of work in Python. Raises sqlite3.OperationalError when the time is up."""
        if self.should_interrupt():
            raise errors.interrupted()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Ends the read: large documents are read in threads."""
        raise errors.interrupted()
        yield

    def of_one(self, ask: Callable[[], Any]) -> Any:
        """Ends the read: large documents are read in threads."""
        raise errors.interrupted()


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

    def query(self, name: str, work: Callable[[sqlite3.Connection, InlineRead], T]) -> T | None:
        """What `work` gives; None where it has to be done in a thread: the tenant's file is not open, queries
        of it wait, it had one here just now, or this one takes longer. Raises what `work` raises but for
        sqlite3.Error: the thread meets that again and raises it."""
        file = self._files.get(name)
        if file is None or file.queries.locked() or self._now() < file.inline_from:
            return None
        read, given_up = InlineRead(self._clock), True
        connection = file.inline
        connection.set_progress_handler(read.should_interrupt, _STEPS)
        before = this_thread.serve(read)
        try:
            found = work(connection, read)
            given_up = False
            return found
        except sqlite3.Error as error:
            given_up = errors.primary_code(error) != sqlite3.SQLITE_BUSY
            return None
        finally:
            this_thread.serve(before)
            connection.set_progress_handler(None, 0)
            if connection.in_transaction:  # its end was held up too; reads would go on seeing what was then
                connection.rollback()
            self._pause(file, self._clock() - read.began, given_up)

    def _pause(self, file: TenantFile, used: float, given_up: bool) -> None:
        """Put off the file's next one. Twice as long each time that one is given up: a page whose data was
        in no cache may take too long once, and a tenant of long queries soon has none tried in vain."""
        in_a_row = file.inline_given_up + 1 if given_up else 0
        pause = min(GIVEN_UP, WAIT * used * 2.0 ** max(in_a_row - 1, 0))
        file.pause_inline(max(file.inline_from, self._now() - CREDIT) + pause, in_a_row)
