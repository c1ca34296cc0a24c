"""Costly checks of documents against a schema, which worker processes do for an operation of a store.

A store checks inside its transactions, where nothing can wait. So a check that may be costly is postponed
there: the operation is rolled back, a worker process does the check, and the operation is repeated with the
verdict. A verdict is about a schema and a text, so it stays valid when the document changes meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import process_time
from typing import Any, TypeVar

from gateway.core.errors import SchemaTooCostly
from gateway.runtime.processes import worker as process_worker
from gateway.runtime.processes.pool import JobTooCostly, ProcessPool
from gateway.store.schema import validate
from gateway.store.schema.costs import Costs
from gateway.store.schema.validate import Problems, Schema, Unread, Violations

T = TypeVar("T")

ATTEMPTS = 20  # of an operation that is repeated with more verdicts
# What SchemaTooCostly says after them.
OVERTAKEN = "The documents are changed by others faster than they can be checked. Try again."
INLINE = 10_000_000.0  # ns: what all checks of one attempt may cost inside the transaction
_SECONDS = 10.0  # of processor time, for all checks of one operation
_JOB_DOCUMENTS = 50  # that one job checks
_JOB_CHARACTERS = 4 * 1024 * 1024  # of documents that one job checks
_REPORTING = 300_000_000.0  # ns that a job may take to list all violations of a document
SECONDS = 2.0  # of processor time to check a document, and as much to list its violations
CHECKING, REPORTING = 1, 2  # the phases of a job, from its last document on
_UNREPORTED: Violations = [
    {"pointer": "", "detail": "it does not fit, and to tell where would take too long"}
]

Verdict = Violations | SchemaTooCostly  # no violations: it is valid


class Postponed(SchemaTooCostly):
    """A worker process has to do a check first. The operation is to be rolled back, and repeated."""


class Checks:
    """The checks of one operation, over all of its attempts. left: ns that they may still cost inside the
    transaction."""

    def __init__(self) -> None:
        self.left = INLINE
        self._verdicts: dict[tuple[bytes, str], Verdict] = {}
        self._wanted: dict[tuple[bytes, str], Schema] = {}
        self._used = 0.0  # seconds of processor time of the workers

    @property
    def postponed(self) -> bool:
        """Whether a worker process has something to check before the next attempt."""
        return bool(self._wanted)

    def check(self, schema: Schema, data: Mapping[str, Any], text: str) -> None:
        """Check a document's members, without its id. text: of the members. Raises SchemaViolation,
        SchemaTooCostly, Postponed."""
        verdict = self._verdicts.get((schema.key, text)) if self._verdicts else None
        if verdict is None and self.left > 0:
            done, cost = schema.check_now(data, len(text) if text.isascii() else len(text.encode()))
            self.left -= cost
            if done:
                return
        if verdict is None:
            self._wanted[schema.key, text] = schema
            raise Postponed(_TOO_COSTLY)
        if isinstance(verdict, SchemaTooCostly):
            raise verdict
        if verdict:
            raise validate.violation(verdict)

    def require(self) -> None:
        """Raises Postponed unless every check so far has its verdict."""
        if self._wanted:
            raise Postponed(_TOO_COSTLY)

    async def settle(self, pool: ProcessPool, tenant: str) -> None:
        """Have worker processes do the postponed checks. Raises what ProcessPool.run raises but
        JobTooCostly."""
        self.left = INLINE
        wanted, self._wanted = self._wanted, {}
        group: list[tuple[bytes, str]] = []
        size = 0
        for key in wanted:
            full = size + len(key[1]) > _JOB_CHARACTERS or len(group) >= _JOB_DOCUMENTS
            if group and (full or group[0][0] != key[0]):
                await self._settle(pool, tenant, wanted[group[0]], group)
                group, size = [], 0
            group.append(key)
            size += len(key[1])
        if group:
            await self._settle(pool, tenant, wanted[group[0]], group)

    async def _settle(
        self, pool: ProcessPool, tenant: str, schema: Schema, group: Sequence[tuple[bytes, str]]
    ) -> None:
        texts = tuple(text.encode() for _, text in group)
        if self._used > _SECONDS:
            verdicts: Sequence[Violations | None] = [None] * len(group)
        else:
            try:
                verdicts, costs, used = await pool.run(tenant, check_texts, schema.text, texts)
                schema.learn(costs)
                self._used += used
            except JobTooCostly as error:
                self._used += pool.limits.seconds
                if len(group) > 1:
                    for key in group:
                        await self._settle(pool, tenant, schema, [key])
                    return
                verdicts = [_UNREPORTED if error.phase == REPORTING else None]
        for key, verdict in zip(group, verdicts, strict=True):
            self._verdicts[key] = SchemaTooCostly(_TOO_COSTLY) if verdict is None else verdict


_TOO_COSTLY = (
    "To check the document against its collection's schema takes too much time or memory. Make the document"
    " smaller, or the schema simpler: fewer alternatives (anyOf, oneOf, enum) and patterns for what there are"
    " many of."
)


async def with_schemas(pool: ProcessPool, tenant: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, repeated after a worker process has read the schema for which it raised
    Unread."""
    for _ in range(ATTEMPTS):
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
    """Raises the error that a limit means which a job reached while it checked a document; nothing in any
    other phase."""
    if error.phase == CHECKING:
        raise SchemaTooCostly(_TOO_COSTLY) from None
    if error.phase == REPORTING:
        raise validate.violation(_UNREPORTED) from None


# --- jobs: functions that run in a worker process ---


def problems_of(text: str) -> Problems:
    """As validate.problems, of a schema as JSON."""
    return validate.problems(json.loads(text))


def check_texts(text: str, documents: Sequence[bytes]) -> tuple[list[Violations], Costs, float]:
    """The violations of each document; the costs of the schema; and the processor time that it took, in
    seconds. text: of the schema."""
    began = process_time()
    schema = Schema(json.loads(text))
    costs = validate.all_costs(schema)
    schema.learn(costs)
    found = [violations(schema, costs, json.loads(document), len(document)) for document in documents]
    return found, costs, process_time() - began


def check_whole(text: str, data: Any, size: int) -> None:
    """Check one document, in a job that does more with it. text: of the schema. size: bytes of the document.
    Raises SchemaViolation."""
    schema = Schema(json.loads(text))
    found = violations(schema, validate.all_costs(schema), data, size)
    process_worker.phase(0, SECONDS)
    if found:
        raise validate.violation(found)


def violations(schema: Schema, costs: Costs, data: Any, size: int) -> Violations:
    """The violations of a document: all, or only the first where listing all is too costly. size: bytes of
    its text."""
    process_worker.phase(CHECKING, SECONDS)
    validator = schema.validator()
    if validator.is_valid(data):
        return []
    process_worker.phase(REPORTING, SECONDS)
    cost = validate.reporting_cost(costs.of(data, size, _REPORTING), size)
    most = validate.MAX_ERRORS if cost <= _REPORTING else 1
    return validate.list_violations(validator, data, most) or _UNREPORTED
