"""The port of the document store: what the gateway asks of an engine. Engines are sqlite.py and others.

The only way to data is `store.tenant(TenantId)`, and only authentication makes a TenantId from a request.
Every method may raise StoreUnavailable (503); every write may raise InsufficientStorage (507).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gateway.core.model import TenantId
from gateway.store.document import UNCONDITIONAL, Document, Precondition
from gateway.store.filter import EVERYTHING, Node
from gateway.store.sort import SortKey

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """What to list. `cursor` is the `next` of an earlier page with the same filter and sort."""

    filter: Node = EVERYTHING
    sort: tuple[SortKey, ...] = ()
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. `next` continues it; None: this was the last one."""

    items: tuple[T, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The document after a write, and whether the write made it."""

    document: Document
    created: bool


class TenantStore(Protocol):
    """One tenant's documents. Collections come to be with their first document.

    A write is durable when its method returns. Cancelling the caller does not take back a write: it
    happens once, or (if the store refuses it) not at all.
    """

    async def create(self, collection: str, data: Mapping[str, Any]) -> Document:
        """Store a new document under an id that the store makes (UUIDv7)."""
        ...

    async def read(self, collection: str, identifier: str) -> Document:
        """Raises NotFound."""
        ...

    async def replace(
        self,
        collection: str,
        identifier: str,
        data: Mapping[str, Any],
        precondition: Precondition = UNCONDITIONAL,
    ) -> Written:
        """Store a document under this id, over what was there. Raises PreconditionFailed."""
        ...

    async def patch(
        self,
        collection: str,
        identifier: str,
        patch: Mapping[str, Any],
        precondition: Precondition = UNCONDITIONAL,
    ) -> Document:
        """Apply a merge patch (RFC 7396). Raises NotFound, PreconditionFailed, BodyTooLarge."""
        ...

    async def delete(
        self, collection: str, identifier: str, precondition: Precondition = UNCONDITIONAL
    ) -> None:
        """Raises NotFound, PreconditionFailed."""
        ...

    async def list(self, collection: str, query: Query) -> Page[Document]:
        """One page in the query's order. Raises BadRequest for a cursor that is not of this list.

        A page holds fewer than `limit` when its documents would be very large together; then `next` is set.
        """
        ...

    async def collections(self, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[str]:
        """The names of the collections that hold documents, in order. Raises BadRequest as list does."""
        ...


class DocumentStore(Protocol):
    """An engine. start() before the first use; close() after the last, from the same event loop."""

    def tenant(self, tenant: TenantId) -> TenantStore: ...

    async def start(self) -> None:
        """Raises StoreUnavailable, with what is wrong and how to mend it, when the engine cannot serve."""
        ...

    async def close(self) -> None:
        """Finish every write that was taken, then let go of files and threads."""
        ...
