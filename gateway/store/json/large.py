"""Documents that are large: their JSON is read, patched and written by worker processes.

Reading ten megabytes of JSON takes a second, and all that time the interpreter is locked, whichever thread
does it. So the event loop and the threads of the store only ever hold the text of a large document, as bytes;
what must know its values is a job of the process pool, and what it gives is small again (the entries that
indexes need) or bytes.
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

from gateway.core.errors import BodyTooLarge, StoreUnavailable, Unprocessable
from gateway.runtime import threads
from gateway.runtime.process_pool import JobTooCostly, Limits, ProcessPool, no_meter
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
LIGHT_VALUES = 2048  # what takes the interpreter less than a millisecond to read, check and write
LIGHT_PATCH = Bounds(LIGHT_BYTES, LIGHT_VALUES)
# Ten megabytes of 600,000 members take 150 MiB, and three seconds.
_LIMITS = Limits(memory=256 * 1024 * 1024, seconds=20.0, wall=60.0)
_AT_ONCE = 8  # jobs of one tenant in the pool's queue; more of them wait here, and are not refused
_END = 120.0  # seconds after which a thread waits no more, whatever has become of the event loop


def is_light(text: bytes | str) -> bool:
    """Whether JSON may be worked on where the interpreter is locked: by its length, and by how many values it
    has at most. A look at it is a matter of microseconds."""
    if len(text) > LIGHT_BYTES:
        return False
    if len(text) <= LIGHT_VALUES:
        return True
    return strict.marks(text) <= LIGHT_VALUES


class Jobs:
    """Work on large documents, for all tenants. pool: None does it here, for a process that serves nobody
    else. For one event loop, whose threads may `wait`."""

    def __init__(self, pool: ProcessPool | None = None) -> None:
        self._pool = pool
        self.pool = pool or ProcessPool()  # of costly schemas always, which could end this process
        self._lanes: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """On the event loop, before a thread waits for the first job."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """End the processes that are its own."""
        if self._pool is None:
            await self.pool.close()

    async def run(self, tenant: str, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """What a function of a module gives, which takes and gives large texts as bytes. Raises what it
        raises, BodyTooLarge where it takes more time or memory than there is for one document, and what
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
            return await self._in_lane(pool, _LIMITS, charge, tenant, function, *args, **more)
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
        """As run, in a thread. charge: told the seconds of processor time that the job took elsewhere, also
        when it failed, before that is known."""
        if self._pool is None or self._loop is None:
            return function(*args, **more)
        job = self._run(self._pool, charge, tenant, function, *args, **more)
        work = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return work.result(_END)
        except (TimeoutError, CancelledError):
            work.cancel()
            raise StoreUnavailable("The work on a large document did not come to its end.") from None

    @property
    def are_apart(self) -> bool:
        """Whether worker processes do them."""
        return self._pool is not None and self._loop is not None

    def begin(
        self, tenant: str, seconds: float, function: Callable[P, T], *args: P.args, **more: P.kwargs
    ) -> Future[T]:
        """A job of so many seconds of processor time, for a thread to wait for, if they are apart. It raises
        JobTooCostly, too, and ends soon when it is cancelled."""
        assert self._pool is not None and self._loop is not None
        limits = Limits(_LIMITS.memory, seconds, _LIMITS.wall)
        job = self._in_lane(self._pool, limits, no_meter, tenant, function, *args, **more)
        return asyncio.run_coroutine_threadsafe(job, self._loop)

    async def _in_lane(
        self,
        pool: ProcessPool,
        limits: Limits,
        charge: Callable[[float], object],
        tenant: str,
        function: Callable[P, T],
        *args: P.args,
        **more: P.kwargs,
    ) -> T:
        async with self._lane(tenant):
            return await pool.run_metered(limits, charge, tenant, function, *args, **more)

    @asynccontextmanager
    async def _lane(self, tenant: str) -> AsyncGenerator[None, None]:
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = asyncio.Semaphore(_AT_ONCE)
        self._users[tenant] = self._users.get(tenant, 0) + 1
        try:
            async with lane:
                yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._lanes[tenant]


# --- jobs: these run in a worker process ---


@contextmanager
def no_collector() -> Iterator[None]:
    """Values that are read hold no cycles, and to look for some takes a third of the time of reading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@no_collector()
def members_text(raw: bytes, identifier: str | None) -> bytes:
    """A request's body as the text of a document's members. Raises as parse_members and to_text."""
    return to_text(parse_members(raw, identifier))[0].encode()


@no_collector()
def merge_patch_text(raw: bytes, identifier: str) -> bytes:
    """The body of a merge patch, checked. Raises as parse_members."""
    return strict.dumps(parse_members(raw, identifier)).encode()


def json_patch_text(raw: bytes) -> bytes:
    """The body of a JSON patch, checked. Raises as parse_json_patch."""
    parse_json_patch(raw)
    return raw


def operation_parts(raw: bytes) -> tuple[dict[str, Any], str, bytes]:
    """A line of a bulk: its members but `data`, what that is (`object`, `array` or nothing), and its text. An
    object was checked as a document's members, with the operation's id. Raises BadRequest, Unprocessable."""
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
        errors = [{**one, "pointer": "/data" + one["pointer"]} for one in error.as_errors()]
        raise Unprocessable("The data cannot be a document.", extra={"errors": errors}) from None
    if "id" in data and (given.get("op") == "create" or data["id"] != given.get("id")):
        detail = "differs from the id of the operation, or is of a document to be made"
        errors = [{"pointer": "/data/id", "detail": detail}]
        raise Unprocessable("The operation is not accepted; see errors.", extra={"errors": errors})
    data.pop("id", None)
    return given, "object", strict.dumps(data).encode()


@dataclass(frozen=True, slots=True)
class Shape:
    """What a collection must know of a document. paths: what its indexes and its ttl look at. unique: those
    of them whose values are compared whole. indexes: that hold the document, identifier: its id. schema: as
    JSON, asked of what is written."""

    paths: tuple[Path, ...] = ()
    unique: frozenset[Path] = frozenset()
    indexes: tuple[Index, ...] = ()
    identifier: str = ""
    schema: str | None = None

    @property
    def empty(self) -> bool:
        """Nobody looks into the document."""
        return not self.paths and self.schema is None


def shape(
    indexes: tuple[Index, ...],
    ttls: Iterable[TTL | None],
    wanted: str | None,
    identifier: str = "",
) -> Shape:
    """The shape by these indexes and ttls, and this schema, as JSON."""
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
    """The text of the new document, where a patch made it; and the skeletons of the old and of the new one.

    old, new: the texts of what is there and of what shall be; or, with a patch, that is the old one patched.
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
    """Refuse here what the indexes will not take, before it is sent. Raises Unprocessable."""
    budget = EntryBudget(wanted.identifier)
    for index in wanted.indexes:
        if index.unique:
            check_unique(index, data)
        if len(index.fields) == 1:
            other_entries(index.fields[0], data, budget)


def skeleton(data: Mapping[str, Any], wanted: Shape) -> dict[str, Any]:
    """Of a document's members those at these paths; of objects and arrays at the end of one only that they
    are there, and what is in an array, unless they are compared whole."""
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
