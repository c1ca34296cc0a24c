"""Writes as values, their outcomes, and what they may cost: the budget of a bulk, the quota of a tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from gateway.core.errors import BodyTooLarge, GatewayError, QuotaExceeded, TenantLimit
from gateway.store.json.large import is_light
from gateway.store.model.document import UNCONDITIONAL, Document, LargeMembers, Members, Precondition
from gateway.store.model.patch import LargePatch, Patch

MAX_BULK = 1000
MAX_BULK_COST = 32 * 1024 * 1024  # bytes of documents that one bulk reads and writes; see BulkBudget
MAX_BULK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Create:
    """Create a document; the store makes its id."""

    data: Members


@dataclass(frozen=True, slots=True)
class Replace:
    """Store a document under this id, in place of the one that was there. With `If-None-Match: *` only if
    there was none."""

    id: str
    data: Members
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Update:
    """Patch a document that exists."""

    id: str
    patch: Patch
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a document that exists."""

    id: str
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Copied:
    """Store a document just as another store has it: with its version, its incarnation and its instants, over
    whatever is there. Its schema is not asked: it was accepted before. heading: the document without its
    members."""

    data: Members
    heading: Document

    @property
    def id(self) -> str:
        """The document's id."""
        return self.heading.id


Write = Create | Replace | Update | Delete | Copied


@dataclass(frozen=True, slots=True)
class Written:
    """The document after a write, and whether the write created it."""

    document: Document
    created: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one write of many. status: as of an HTTP response. id: empty when none is known. etag:
    empty when there is no document. error: code, title, detail and extensions of a problem (RFC 9457).
    untried: the bulk had used up its budget before this write; all later ones are untried too."""

    status: int
    id: str = ""
    etag: str = ""
    error: Mapping[str, Any] | None = None
    untried: bool = field(default=False, compare=False)

    @property
    def data(self) -> dict[str, Any]:
        """As a line of a response, in JSON."""
        parts = {"status": self.status, "id": self.id, "etag": self.etag, "error": self.error}
        return {name: part for name, part in parts.items() if part}


def succeeded(written: Written | None, identifier: str) -> Outcome:
    """The outcome of a write that was done; written is None for a deletion."""
    if written is None:
        return Outcome(204, identifier)
    return Outcome(201 if written.created else 200, written.document.id, written.document.etag)


def failed(error: GatewayError, identifier: str = "") -> Outcome:
    """The outcome of a write that failed with this error."""
    members = {"code": error.code, "title": error.title, "detail": error.detail, **error.extra}
    return Outcome(error.status, identifier, error=members, untried=isinstance(error, BudgetUsedUp))


def is_large(write: Write) -> bool:
    """Whether the data or the patch of a write is large (see json/large.py)."""
    content = write.patch if isinstance(write, Update) else None if isinstance(write, Delete) else write.data
    return is_large_content(content)


def is_large_content(content: Members | Patch | None) -> bool:
    """As is_large, of the members or the patch of a write."""
    return isinstance(content, LargeMembers | LargePatch) and not is_light(content.text)


def id_of(write: Write) -> str:
    """The id that a write names; empty for a Create."""
    return "" if isinstance(write, Create) else write.id


class BudgetUsedUp(TenantLimit):
    """A bulk had used up its budget before this operation."""


class BulkBudget:
    """How much one bulk may cost, since it is one transaction: other writes wait for its writer, and the
    shutdown of the process waits for both. The first operation is always done; later ones are refused when
    the budget is used up.

    Without it, a thousand patches of a document of 10 MB would read and write 20 GB.
    """

    def __init__(
        self, *, atomic: bool, seconds: float = MAX_BULK_SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._atomic = atomic
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds
        self._over = False

    def check(self, cost: int) -> None:
        """Before each operation. cost: bytes of documents (and of entries of indexes) that were read and
        written so far. Raises BudgetUsedUp (429); for an atomic bulk BodyTooLarge (413), since it would fail
        again when it is sent again."""
        self._over = self._over or cost >= MAX_BULK_COST or (cost > 0 and self._clock() >= self._end)
        if not self._over:
            return
        most = f"{MAX_BULK_COST // 2**20} MiB of documents, and works for at most {self._seconds:g} s"
        if self._atomic:
            raise BodyTooLarge(f"An atomic bulk reads and writes at most {most}. Send fewer operations.")
        detail = f"A bulk reads and writes at most {most}. Send this operation and those behind it again."
        raise BudgetUsedUp(detail, retry_after=1)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a tenant may hold; None: no limit. bytes: of the JSON of documents and settings, and of
    remembered writes. A write that would exceed it raises QuotaExceeded; one that makes the tenant's data
    smaller is always done."""

    documents: int | None = None
    bytes: int | None = None
    collections: int | None = None

    def exceeded(self, what: str) -> QuotaExceeded:
        """The error for an exceeded limit. what: `documents`, `bytes` or `collections`."""
        if what == "collections":
            return QuotaExceeded(f"The tenant may have {self.collections} collections. Delete one first.")
        if what == "documents":
            return QuotaExceeded(f"The tenant may hold {self.documents} documents. Delete some first.")
        beside = "settings of collections and writes remembered for their Idempotency-Key count too"
        return QuotaExceeded(f"The tenant may hold {self.bytes} bytes ({beside}). Delete some first.")


NO_QUOTA = Quota()
