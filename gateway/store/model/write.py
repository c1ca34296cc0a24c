"""Writes as values, and what becomes of them."""

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
    """A new document; the store makes its id."""

    data: Members


@dataclass(frozen=True, slots=True)
class Replace:
    """A document under this id, over what was there. With `If-None-Match: *`: only if nothing was."""

    id: str
    data: Members
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Update:
    """A patch of a document that is there."""

    id: str
    patch: Patch
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Delete:
    id: str
    precondition: Precondition = UNCONDITIONAL


Write = Create | Replace | Update | Delete


@dataclass(frozen=True, slots=True)
class Written:
    """The document after a write, and whether the write made it."""

    document: Document
    created: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one write of many, as JSON could say it. id is empty when none is known, etag when there
    is no document. error: the problem's members (RFC 9457) code, title, detail and extensions. untried: the
    bulk had used up its budget before this write; all that come behind it are untried too."""

    status: int
    id: str = ""
    etag: str = ""
    error: Mapping[str, Any] | None = None
    untried: bool = field(default=False, compare=False)

    @property
    def data(self) -> dict[str, Any]:
        """As a line of an answer."""
        parts = {"status": self.status, "id": self.id, "etag": self.etag, "error": self.error}
        return {name: part for name, part in parts.items() if part}


def succeeded(written: Written | None, identifier: str) -> Outcome:
    """The outcome of a write that was done; None: a deletion."""
    if written is None:
        return Outcome(204, identifier)
    return Outcome(201 if written.created else 200, written.document.id, written.document.etag)


def failed(error: GatewayError, identifier: str = "") -> Outcome:
    members = {"code": error.code, "title": error.title, "detail": error.detail, **error.extra}
    return Outcome(error.status, identifier, error=members, untried=isinstance(error, BudgetUsedUp))


def is_large(write: Write) -> bool:
    """Whether what it brings is large."""
    brought = write.patch if isinstance(write, Update) else None if isinstance(write, Delete) else write.data
    return brings_much(brought)


def brings_much(brought: Members | Patch | None) -> bool:
    """The same of the members or of the patch."""
    return isinstance(brought, LargeMembers | LargePatch) and not is_light(brought.text)


def id_of(write: Write) -> str:
    return "" if isinstance(write, Create) else write.id


class BudgetUsedUp(TenantLimit):
    """A bulk had cost what one may before this operation of it."""


class BulkBudget:
    """What one bulk may cost, for it is one transaction: others wait for its writer, and the end of the
    process for both. The first operation is always done; those that come when the budget is used up are
    refused.

    A thousand patches of a document of 10 MB would else read and write 20 GB.
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
        written so far. Raises BudgetUsedUp (429), for a bulk that is atomic BodyTooLarge (413): sent again it
        would fail again."""
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
    """How much a tenant may hold, None: without a limit. bytes: of the documents' and the settings' JSON and
    of remembered writes. A write that would pass it raises QuotaExceeded; one that makes the tenant's data
    smaller is always done."""

    documents: int | None = None
    bytes: int | None = None
    collections: int | None = None

    def exceeded(self, what: str) -> QuotaExceeded:
        """What is raised when this limit is passed."""
        if what == "collections":
            return QuotaExceeded(f"The tenant may have {self.collections} collections. Delete one first.")
        if what == "documents":
            return QuotaExceeded(f"The tenant may hold {self.documents} documents. Delete some first.")
        beside = "settings of collections and writes remembered for their Idempotency-Key count too"
        return QuotaExceeded(f"The tenant may hold {self.bytes} bytes ({beside}). Delete some first.")


NO_QUOTA = Quota()
