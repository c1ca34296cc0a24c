"""Large documents: their JSON is parsed, patched and encoded by worker processes.

Parsing ten megabytes of JSON takes a second, during which the interpreter is locked, whichever thread does
it. So the event loop and the threads of the store only hold the text of a large document, as bytes; work that
needs its values is a job of the process pool, whose result is small (the entries that indexes need) or bytes.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from gateway.core.errors import BodyTooLarge, StoreUnavailable
from gateway.runtime import threads
from gateway.runtime.processes.pool import JobTooCostly, Limits, ProcessPool, no_meter
from gateway.store.filter.nodes import Path
from gateway.store.json import strict
from gateway.store.model.collection import TTL, Index
from gateway.store.model.document import name_problem, parse_members, to_text
from gateway.store.model.indexing import EntryBudget, check_unique, other_entries
from gateway.store.model.patch import Bounds, LargePatch, Patch, apply, parse_json_patch
from gateway.store.schema import checks

P = ParamSpec("P")
T = TypeVar("T")

LIGHT_BYTES = 256 * 1024
LIGHT_VALUES = 2048  # values that the interpreter parses, checks and encodes in less than a millisecond
LIGHT_PATCH = Bounds(LIGHT_BYTES, LIGHT_VALUES)
# Ten megabytes of 600,000 members take 150 MiB, and three seconds.
_LIMITS = Limits(memory=256 * 1024 * 1024, seconds=20.0, wall_time=60.0)
_CONCURRENT = 8  # jobs of one tenant in the pool's queue; more of them wait here instead of being refused
_MAX_WAIT = 120.0  # seconds after which a thread stops waiting, whatever the event loop does


def is_light(text: bytes | str) -> bool:
    """Whether JSON may be parsed in this process: by its length, and by how many values it has at most. Takes
    microseconds."""
    if len(text) > LIGHT_BYTES:
        return False
    if len(text) <= LIGHT_VALUES:
        return True
    return strict.marks(text) <= LIGHT_VALUES


class Jobs:
    """Runs jobs on large documents, for all tenants. pool: the worker processes; None runs jobs in threads,
    for a process that serves no requests. For one event loop, and threads beside it."""

    def __init__(self, pool: ProcessPool | None = None) -> None:
        self._pool = pool
        self.pool = pool or ProcessPool()  # costly schemas always go there: they could exhaust this process
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """To be called on the event loop, before a thread waits for the first job."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """End the worker processes that this object started."""
        if self._pool is None:
            await self.pool.close()

    async def run(self, tenant: str, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """The result of a module-level function, which takes and gives large texts as bytes. Raises what it
        raises, BodyTooLarge when it takes more time or memory than one document may, and what
        ProcessPool.run raises."""
        if self._pool is None:
            return await threads.run(threads.PARSE, function, *args, **more)
        return await self._run(self._pool, no_meter, tenant, function, *args, **more)

    async def _run(
        self,
        pool: ProcessPool,
        charge: Callable[[float], object],
        tenant: str,
        function: Callable[P, T],
        *args: P.args,
        **more: P.kwargs,
    ) -> T:
        try:
            return await self._queued(pool, _LIMITS, charge, tenant, function, *args, **more)
        except JobTooCostly as error:
            checks.translate(error)
            detail = f"The document takes more {error.what} to work on than there is for one. Split it."
            raise BodyTooLarge(detail) from None

    def wait(
        self,
        tenant: str,
        charge: Callable[[float], object],
        function: Callable[P, T],
        *args: P.args,
        **more: P.kwargs,
    ) -> T:
        """As run, for a thread, which blocks. charge: called with the seconds of processor time that the job
        took in a worker process, before its result or error is known here."""
        if self._pool is None or self._loop is None:
            return function(*args, **more)
        job = self._run(self._pool, charge, tenant, function, *args, **more)
        work = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return work.result(_MAX_WAIT)
        except (TimeoutError, CancelledError):
            work.cancel()
            raise StoreUnavailable("The work on a large document did not come to its end.") from None

    @property
    def has_workers(self) -> bool:
        """Whether jobs run in worker processes."""
        return self._pool is not None and self._loop is not None

    def submit(
        self, tenant: str, seconds: float, function: Callable[P, T], *args: P.args, **more: P.kwargs
    ) -> Future[T]:
        """Start a job of at most so many seconds of processor time, for a thread to wait for; needs
        has_workers. The future may also raise JobTooCostly; the job ends soon when it is cancelled."""
        assert self._pool is not None and self._loop is not None
        limits = Limits(_LIMITS.memory, seconds, _LIMITS.wall_time)
        job = self._queued(self._pool, limits, no_meter, tenant, function, *args, **more)
        return asyncio.run_coroutine_threadsafe(job, self._loop)

    async def _queued(
        self,
        pool: ProcessPool,
        limits: Limits,
        charge: Callable[[float], object],
        tenant: str,
        function: Callable[P, T],
        *args: P.args,
        **more: P.kwargs,
    ) -> T:
        async with self._slot(tenant):
            return await pool.run_metered(limits, charge, tenant, function, *args, **more)

    @asynccontextmanager
    async def _slot(self, tenant: str) -> AsyncGenerator[None, None]:
        slots = self._slots.get(tenant)
        if slots is None:
            slots = self._slots[tenant] = asyncio.Semaphore(_CONCURRENT)
        self._users[tenant] = self._users.get(tenant, 0) + 1
        try:
            async with slots:
                yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._slots[tenant]


# --- jobs: functions that run in a worker process ---


@contextmanager
def no_collector() -> Iterator[None]:
    """Meanwhile the garbage collector is off: parsed values have no reference cycles, and looking for some
    takes a third of the time of parsing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@no_collector()
def members_text(raw: bytes, identifier: str | None) -> bytes:
    """The members in a request's body as text. identifier: see parse_members. Raises as parse_members and
    to_text."""
    return to_text(parse_members(raw, identifier))[0].encode()


@no_collector()
def merge_patch_text(raw: bytes, identifier: str) -> bytes:
    """The body of a merge patch, checked, as text. Raises as parse_members."""
    return strict.dumps(parse_members(raw, identifier)).encode()


def json_patch_text(raw: bytes) -> bytes:
    """The body of a JSON patch, checked, as it came. Raises as parse_json_patch."""
    parse_json_patch(raw)
    return raw


def operation_parts(raw: bytes) -> tuple[dict[str, Any], str, bytes]:
    """A line of a bulk: its members but `data`, the type of that (`object`, `array` or empty), and its text.
    An object was checked as a document's members, with the operation's id. Raises BadRequest,
    Unprocessable."""
    given = strict.read(raw, "line", "The operation is not accepted.")
    if not isinstance(given, dict):
        return {}, "", b""
    data = given.pop("data", None)
    if isinstance(data, list):
        text = strict.dumps(data).encode()
        parse_json_patch(text)
        return given, "array", text
    if not isinstance(data, dict):
        return given, "", b""
    try:
        strict.check(data, name_problem)
    except strict.JsonProblems as error:
        problems = [("/data" + pointer, sentence) for pointer, sentence in error.problems]
        raise strict.refusal("The data cannot be a document.", problems) from None
    if "id" in data and (given.get("op") == "create" or data["id"] != given.get("id")):
        detail = "differs from the id of the operation, or is of a document to be made"
        raise strict.refusal("The operation is not accepted; see errors.", [("/data/id", detail)])
    data.pop("id", None)
    return given, "object", strict.dumps(data).encode()


@dataclass(frozen=True, slots=True)
class Shape:
    """What a collection needs to know of a document. paths: those that its indexes and its ttl use. unique:
    those of them whose values are compared whole. indexes: that the document is in. identifier: its id.
    schema: the collection's, as JSON; what is written is checked against it."""

    paths: tuple[Path, ...] = ()
    unique: frozenset[Path] = frozenset()
    indexes: tuple[Index, ...] = ()
    identifier: str = ""
    schema: str | None = None

    @property
    def empty(self) -> bool:
        """Whether the collection needs nothing of the document."""
        return not self.paths and self.schema is None


def shape(
    indexes: tuple[Index, ...],
    ttls: Iterable[TTL | None],
    wanted: str | None,
    identifier: str = "",
) -> Shape:
    """The shape for these indexes and ttls. wanted: the schema, as JSON. identifier: of the document."""
    paths: dict[Path, None] = {}
    unique: set[Path] = set()
    for index in indexes:
        paths |= dict.fromkeys(index.fields)
        unique |= set(index.fields) if index.unique else set()
    for ttl in ttls:
        if ttl is not None and ttl.field is not None:
            paths[ttl.field] = None
    return Shape(tuple(paths), frozenset(unique), indexes, identifier, wanted)


@no_collector()
def change(
    old: bytes | None, new: bytes | None, wanted: Shape, patch: Patch | None = None, patch_text: bytes = b""
) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """A write of a large document: the text of the new document, empty unless a patch made it; and the
    skeletons of the old and of the new one.

    old, new: their texts, None where there is none; with a patch, the new document is the old one patched.
    patch_text: of a LargePatch. Raises what patches and schemas raise.
    """
    before: dict[str, Any] | None = None if old is None else json.loads(old)
    kept = {} if before is None else skeleton(before, wanted)
    if new is None and patch is None:
        return b"", kept, {}
    if patch is not None:
        assert before is not None
        whole = LargePatch(patch.array, patch_text) if isinstance(patch, LargePatch) else patch
        after = apply(whole, before, wanted.identifier, own=True)
        text = to_text(after)[0].encode()
    else:
        assert new is not None
        after, text = json.loads(new), new
    if wanted.schema is not None:
        checks.check_whole(wanted.schema, after, len(text))
    _check_entries(after, wanted)
    return (b"" if patch is None else text), kept, skeleton(after, wanted)


def _check_entries(data: Mapping[str, Any], wanted: Shape) -> None:
    """Check what the indexes will check, before the result is sent. Raises Unprocessable."""
    budget = EntryBudget(wanted.identifier)
    for index in wanted.indexes:
        if index.unique:
            check_unique(index, data)
        if len(index.fields) == 1:
            other_entries(index.fields[0], data, budget)


def skeleton(data: Mapping[str, Any], wanted: Shape) -> dict[str, Any]:
    """The members of a document at the paths of a shape. An object at the end of a path is left empty, and so
    are the objects and arrays in an array there, unless the value is compared whole."""
    root = _Node()
    for path in wanted.paths:
        node = root
        for name in path:
            node = node.below.setdefault(name, _Node())
        node.ends = True
        node.whole |= path in wanted.unique
    return _cut_object(data, root)


@dataclass(slots=True)
class _Node:
    below: dict[str, _Node] = field(default_factory=dict)
    ends: bool = False
    whole: bool = False


def _cut_object(data: Mapping[str, Any], node: _Node) -> dict[str, Any]:
    return {name: _cut(data[name], below) for name, below in node.below.items() if name in data}


def _cut(value: Any, node: _Node) -> Any:
    if node.whole:
        return value
    if isinstance(value, dict):
        return _cut_object(value, node)
    if isinstance(value, list):
        return [_cut_item(item, node) for item in value if node.ends or isinstance(item, dict)]
    return value


def _cut_item(item: Any, node: _Node) -> Any:
    """An element of an array: paths lead through it only where it is an object."""
    if isinstance(item, dict):
        return _cut_object(item, node)
    return [] if isinstance(item, list) else item
