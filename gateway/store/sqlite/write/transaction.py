"""What an operation works with: the connection inside a transaction, and what it counts and records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import Any, ParamSpec, TypeVar

from gateway.core.errors import GatewayError
from gateway.store.model import instants
from gateway.store.model.change import Kind
from gateway.store.model.write import NO_QUOTA, Quota
from gateway.store.schema.checks import Checks
from gateway.store.sqlite.write.entries import Entries
from gateway.store.sqlite.write.state import State, States
from gateway.store.sqlite.write.writers import WriterPacing

P = ParamSpec("P")
T = TypeVar("T")

# As they are stored, by their numbers.
KINDS: tuple[Kind, ...] = ("created", "updated", "deleted", "collection_deleted")
_NUMBERS: dict[Kind, int] = {kind: number for number, kind in enumerate(KINDS)}

_CHANGE = "INSERT INTO changes (collection, kind, id, tag, at) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of a long work one transaction does. seconds: after so long the next slice begins, in the next
    transaction, so that other writes get their turn. rows: at most so many between two readings of the
    clock."""

    seconds: float = 0.05
    rows: int = 64


class Transaction:
    """One transaction of a group of operations. `now` is its instant; `changed`, whether there is a change
    for feeds; `cost`, the bytes of documents and entries that were read and written so far; `step` is
    called between the pieces of an operation that has many: others may go first."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        states: States,
        run_job: Callable[..., Any] | None,
        pacing: WriterPacing,
    ) -> None:
        self.connection = connection
        self.states = states
        self._run_job = run_job
        self._pacing = pacing
        self.step = self._pacing.step
        self.now = instants.now()
        self._began = monotonic()
        self._job_seconds = 0.0
        self.changed = False
        self.cost = 0
        self.entries = Entries(connection)
        self.quota: Quota = NO_QUOTA
        self.checks = Checks()
        self._pending: list[tuple[State, int, int]] = []  # counted by operations that may yet fail
        self._depth = 0

    def begin(self, quota: Quota, checks: Checks) -> None:
        """The next operation of the group begins: its quota, and where its schema is checked."""
        self.quota, self.checks = quota, checks

    def add_cost(self, size: int) -> None:
        """Count bytes that the operation read or wrote."""
        self.cost += size

    def run_job(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """A job on a large document (see json/large.py), done by a worker process while this transaction
        waits."""
        if self._run_job is None:
            return function(*args, **more)
        with self._pacing.waiting():
            result: T = self._run_job(self._charge, function, *args, **more)
        return result

    def _charge(self, seconds: float) -> None:
        """Called on the event loop, while the writer's thread waits."""
        self._job_seconds += seconds

    def worked(self) -> float:
        """Seconds of processor time of this thread, and of the worker processes that it waited for: not what
        others take of a busy machine. To be compared with another one only."""
        return thread_time() + self._job_seconds

    def has_time(self, pace: Pace) -> bool:
        """Whether a slice may continue. The slices of one group share its time."""
        return monotonic() - self._began < pace.seconds

    @property
    def seconds(self) -> float:
        """For how long it has been going on."""
        return monotonic() - self._began

    def attempt(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation; when it raises a GatewayError, what it did is undone. May be nested."""
        mark, entries = len(self._pending), self.entries.mark()
        self._depth += 1
        self.connection.execute("SAVEPOINT attempt")
        try:
            result = operation(self)
        except GatewayError:
            self.connection.execute("ROLLBACK TO attempt")
            self.connection.execute("RELEASE attempt")
            del self._pending[mark:]
            self.entries.undo(entries)
            raise
        finally:
            self._depth -= 1
        self.connection.execute("RELEASE attempt")
        if self._depth == 0:
            self.settle()
        return result

    def settle(self) -> None:
        """Add what was counted to the states."""
        for state, documents, size in self._pending:
            self.states.add(state, documents, size)
        self._pending.clear()
        self.entries.settle()

    def count(self, state: State, documents: int, size: int) -> None:
        """Count what is being written. Raises QuotaExceeded when it makes the tenant's data larger than its
        quota."""
        self._pending.append((state, documents, size))
        if self.quota is NO_QUOTA:
            return
        if documents > 0:
            self._require_documents(self.quota)
            if not state.stored:
                self.require_collection(state)
        if size > 0:
            self.require_bytes(0)

    def _require_documents(self, quota: Quota) -> None:
        if quota.documents is None:
            return
        if self.states.totals().documents + sum(counted[1] for counted in self._pending) > quota.documents:
            raise quota.exceeded("documents")

    def require_bytes(self, more: int) -> None:
        """Whether so many bytes fit beside what is stored and counted. Raises QuotaExceeded."""
        limit = self.quota.bytes
        if limit is None:
            return
        if self.states.totals().bytes + sum(counted[2] for counted in self._pending) + more > limit:
            raise self.quota.exceeded("bytes")

    def require_collection(self, state: State) -> None:
        """Whether a collection that is not stored yet may be. Raises QuotaExceeded."""
        limit = self.quota.collections
        if limit is None:
            return
        new = {state.name, *self.states.new}
        new.update(counted[0].name for counted in self._pending if not counted[0].stored)
        if self.states.totals().collections + len(new) > limit:
            raise self.quota.exceeded("collections")

    def record(self, state: State, kind: Kind, identifier: str = "", tag: str = "") -> None:
        """Add a change for the feeds."""
        self.connection.execute(_CHANGE, (state.name, _NUMBERS[kind], identifier, tag, self.now))
        self.changed = True


@dataclass(frozen=True, slots=True)
class Operation:
    """A write for the queue. alone: it changes a collection itself, and forgets what the writer knows of it.
    taken: it continues what was taken before; so it is first in the queue, and not refused where that is
    long."""

    run: Callable[[Transaction], Any]
    quota: Quota = NO_QUOTA
    alone: bool = False
    taken: bool = False
    checks: Checks = field(default_factory=Checks)
