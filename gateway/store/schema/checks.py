"""Checks of documents that may be costly: what one operation of a store asks of a worker process.

A store checks inside of its transactions, where nothing can wait. So a check that may be costly is postponed
there: the operation is undone, the check is done by a worker process, and the operation is done again with
the verdict. It is a verdict on a schema and a text, whatever has become of the document meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import process_time
from typing import Any, TypeVar

from gateway.core.errors import SchemaTooCostly, forget_traces
from gateway.runtime import process_worker
from gateway.runtime.process_pool import JobTooCostly, ProcessPool
from gateway.store.schema import validate
from gateway.store.schema.costs import Costs
from gateway.store.schema.validate import Problems, Schema, Unread, Violations

T = TypeVar("T")

ROUNDS = 20  # of an operation that is done again with more verdicts
INLINE = 10_000_000.0  # ns: what all checks of one operation may cost at once
_SECONDS = 10.0  # of processor time, for all checks of one operation
_MOST = 50  # documents that one job checks
_TOGETHER = 4 * 1024 * 1024  # characters of documents that one job checks
_TELLING = 300_000_000.0  # ns that a job may take to tell all that is wrong with a document
SECONDS = 2.0  # of processor time to check a document, and as much to tell what is wrong with it
CHECKING, TELLING = 1, 2  # the phases of a job, from its last document on
_UNTOLD: Violations = [{"pointer": "", "detail": "it does not fit, and to tell where would take too long"}]

Verdict = Violations | SchemaTooCostly  # no violations: it is valid


class Postponed(SchemaTooCostly):
    """A check that a worker process has to do. What was begun is to be undone."""


class Checks:
    """The checks of one operation, over all of its attempts. left: what they may still cost at once (ns)."""

    def __init__(self) -> None:
        self.left = INLINE
        self._verdicts: dict[tuple[bytes, str], Verdict] = {}
        self._wanted: dict[tuple[bytes, str], Schema] = {}
        self._used = 0.0  # seconds of processor time, of the workers

    @property
    def postponed(self) -> bool:
        """Whether a worker process has something to check before the next attempt."""
        return bool(self._wanted)

    def check(self, asked: Schema, data: Mapping[str, Any], text: str) -> None:
        """A document's members, without its id; text: theirs. Raises SchemaViolation, SchemaTooCostly,
        Postponed."""
        verdict = self._verdicts.get((asked.key, text)) if self._verdicts else None
        if verdict is None and self.left > 0:
            done, cost = asked.check_now(data, len(text) if text.isascii() else len(text.encode()))
            self.left -= cost
            if done:
                return
        if verdict is None:
            self._wanted[asked.key, text] = asked
            raise Postponed(_TOO_COSTLY)
        if isinstance(verdict, SchemaTooCostly):
            raise verdict
        if verdict:
            raise validate.violation(verdict)

    def require(self) -> None:
        """Raises Postponed unless all that was asked is known."""
        if self._wanted:
            raise Postponed(_TOO_COSTLY)

    async def settle(self, pool: ProcessPool, tenant: str) -> None:
        """Have checked what was postponed. Raises what ProcessPool.run raises but JobTooCostly."""
        self.left = INLINE
        wanted, self._wanted = self._wanted, {}
        group: list[tuple[bytes, str]] = []
        size = 0
        for key in wanted:
            full = size + len(key[1]) > _TOGETHER or len(group) >= _MOST
            if group and (full or group[0][0] != key[0]):
                await self._settle(pool, tenant, wanted[group[0]], group)
                group, size = [], 0
            group.append(key)
            size += len(key[1])
        if group:
            await self._settle(pool, tenant, wanted[group[0]], group)

    async def _settle(
        self, pool: ProcessPool, tenant: str, asked: Schema, group: Sequence[tuple[bytes, str]]
    ) -> None:
        texts = tuple(text.encode() for _, text in group)
        if self._used > _SECONDS:
            verdicts: Sequence[Violations | None] = [None] * len(group)
        else:
            try:
                verdicts, costs, used = await pool.run(tenant, check_texts, asked.text, texts)
                asked.learn(costs)
                self._used += used
            except JobTooCostly as error:
                self._used += pool.limits.seconds
                if len(group) > 1:
                    for key in group:
                        await self._settle(pool, tenant, asked, [key])
                    return
                verdicts = [_UNTOLD if error.phase == TELLING else None]
        for key, verdict in zip(group, verdicts, strict=True):
            self._verdicts[key] = SchemaTooCostly(_TOO_COSTLY) if verdict is None else verdict


_TOO_COSTLY = (
    "To check the document against its collection's schema takes too much time or memory. Make the document"
    " smaller, or the schema simpler: fewer alternatives (anyOf, oneOf, enum) and patterns for what there are"
    " many of."
)


async def with_checks(pool: ProcessPool, tenant: str, attempt: Callable[[Checks], Awaitable[T]]) -> T:
    """What an operation gives, done again until no check of it is postponed. Raises SchemaTooCostly, too,
    when its documents change faster than they are checked."""
    checks = Checks()
    for _ in range(ROUNDS):
        try:
            return await attempt(checks)
        except Postponed as postponed:
            forget_traces(postponed)
            await checks.settle(pool, tenant)
    raise SchemaTooCostly("The documents are changed by others faster than they can be checked. Try again.")


async def with_schemas(pool: ProcessPool, tenant: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` gives, again after a schema was read by a worker process for which it raised Unread."""
    for _ in range(ROUNDS):
        try:
            return await attempt()
        except Unread as unread:
            validate.learn_problems(unread.key, await _problems(pool, tenant, unread.text))
    raise SchemaTooCostly("The settings are changed by others faster than they can be read. Try again.")


async def _problems(pool: ProcessPool, tenant: str, text: str) -> Problems:
    try:
        return await pool.run(tenant, problems_of, text)
    except JobTooCostly as error:
        return [("", f"to compile the schema takes too much {error.what}; make it smaller, or its patterns")]


def translate(error: JobTooCostly) -> None:
    """Raises what a limit means that a job reached while it checked a document, if it did."""
    if error.phase == CHECKING:
        raise SchemaTooCostly(_TOO_COSTLY) from None
    if error.phase == TELLING:
        raise validate.violation(_UNTOLD) from None


# --- in a worker process ---


def problems_of(text: str) -> Problems:
    return validate.problems(json.loads(text))


def check_texts(text: str, documents: Sequence[bytes]) -> tuple[list[Violations], Costs, float]:
    """Of each document what is wrong; the costs of the schema; and the processor time that it took, in
    seconds."""
    began = process_time()
    asked = Schema(json.loads(text))
    costs = validate.all_costs(asked)
    asked.learn(costs)
    found = [violations(asked, costs, json.loads(document), len(document)) for document in documents]
    return found, costs, process_time() - began


def check_whole(text: str, data: Any, size: int) -> None:
    """Check one document in a job that does more with it. Raises SchemaViolation."""
    asked = Schema(json.loads(text))
    found = violations(asked, validate.all_costs(asked), data, size)
    process_worker.phase(0, SECONDS)
    if found:
        raise validate.violation(found)


def violations(asked: Schema, costs: Costs, data: Any, size: int) -> Violations:
    """What is wrong, all of it or the first, as it is not too much work to tell. size: bytes of its text."""
    process_worker.phase(CHECKING, SECONDS)
    validator = asked.validator()
    if validator.is_valid(data):
        return []
    process_worker.phase(TELLING, SECONDS)
    cost = validate.telling(costs.of(data, size, _TELLING), size)
    return validate.told(validator, data, validate.MAX_ERRORS if cost <= _TELLING else 1) or _UNTOLD
