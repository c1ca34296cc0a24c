"""Writes as values, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.errors import BadRequest, GatewayError
from gateway.store.document import UNCONDITIONAL, Document, Precondition
from gateway.store.patch import Patch

MAX_BULK = 1000
IDEMPOTENCY_SECONDS = 24 * 3600.0
MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Create:
    """A new document; the store makes its id."""

    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replace:
    """A document under this id, over what was there. With `If-None-Match: *`: only if nothing was."""

    id: str
    data: Mapping[str, Any]
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
    is no document. error: the problem's members (RFC 9457) code, title, detail and extensions."""

    status: int
    id: str = ""
    etag: str = ""
    error: Mapping[str, Any] | None = None

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
    return Outcome(error.status, identifier, error=members)


def id_of(write: Write) -> str:
    return "" if isinstance(write, Create) else write.id


@dataclass(slots=True)
class IdempotencyKey:
    """An `Idempotency-Key` and a fingerprint of the request that it came with (a digest of whatever makes two
    requests the same one: subject, method, path, preconditions, body).

    A write that was done is remembered with its key, in its own transaction, for IDEMPOTENCY_SECONDS: the
    same key and fingerprint give its result again, and nothing is written; another fingerprint raises
    IdempotencyMismatch; while the first one still runs, IdempotencyRunning. A write that failed changed
    nothing and is not remembered (the outcomes of a bulk that is not atomic are, with its failures).

    replayed: set by the store when what it gives is a result that was remembered.
    """

    key: str
    fingerprint: bytes = field(repr=False)
    replayed: bool = field(default=False, init=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= MAX_KEY or not all(" " <= c <= "~" for c in self.key):
            raise BadRequest(f"An Idempotency-Key is 1 to {MAX_KEY} visible ASCII characters.")


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a tenant may hold, None: without a limit. bytes: of the documents' JSON. A write that would
    pass it raises QuotaExceeded; one that makes the tenant's data smaller is always done."""

    documents: int | None = None
    bytes: int | None = None


NO_QUOTA = Quota()
