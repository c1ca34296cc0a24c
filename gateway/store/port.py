"""The port of the document store: what the gateway asks of an engine. Engines are sqlite/engine.py and
others.

The only way to data is `store.tenant(TenantId)`, and only authentication makes a TenantId from a request.
Every method may raise StoreUnavailable (503); every write may raise InsufficientStorage or QuotaExceeded
(507), and with an IdempotencyKey IdempotencyMismatch (422) or IdempotencyRunning (409). What an engine cannot
do at all (see Capability) raises NotSupportedByStore (501).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

from gateway.core.model import TenantId
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.model.change import Changes
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.document import UNCONDITIONAL, Document, Members, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch, Patch
from gateway.store.model.query import DEFAULT_LIMIT, Page, Query
from gateway.store.model.write import MAX_BULK, NO_QUOTA, Outcome, Quota, Write, Written

P = ParamSpec("P")
T = TypeVar("T")


class Capability(StrEnum):
    """What an engine may lack. The conformance suite skips, and the port answers 501, where it does."""

    ATOMIC_BULK = "atomic bulk"
    CHANGES = "changes"
    SNAPSHOT_EXPORT = "an export shows one instant"
    REGEX = "$regex beyond literal patterns"


class TenantStore(Protocol):
    """One tenant's documents. Collections come to be with their first document, or are declared.

    A write is durable when its method returns. Cancelling the caller does not take back a write: it
    happens once, or (if the store refuses it) not at all. Expired documents (TTL) are never seen.

    Names and ids were checked by check_collection and check_id, members by parse_members or parse_line.

    Every write of a document may raise UniqueConflict (409), SchemaViolation (422), BodyTooLarge (413), and
    where its collection has require_if_match and the document is there, PreconditionRequired (428).
    """

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """What a function of json/large.py gives: what takes long of a large document, in a worker process
        where there are some."""
        ...

    # --- documents ---

    async def create(
        self, collection: str, data: Members, *, idempotency: IdempotencyKey | None = None
    ) -> Document:
        """Store a new document under an id that the store makes (UUIDv7)."""
        ...

    async def read(self, collection: str, identifier: str) -> Document:
        """Raises NotFound."""
        ...

    def read_now(self, collection: str, identifier: str) -> Document | None:
        """As read, where that needs no waiting: a few microseconds. None: it does, so await read. Raises
        NotFound."""
        ...

    async def replace(
        self,
        collection: str,
        identifier: str,
        data: Members,
        precondition: Precondition = UNCONDITIONAL,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> Written:
        """Store a document under this id, over what was there. Raises PreconditionFailed."""
        ...

    async def patch(
        self,
        collection: str,
        identifier: str,
        patch: Patch,
        precondition: Precondition = UNCONDITIONAL,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> Document:
        """Apply a patch. Raises NotFound, PreconditionFailed, PatchConflict (409), Unprocessable (422)."""
        ...

    async def delete(
        self,
        collection: str,
        identifier: str,
        precondition: Precondition = UNCONDITIONAL,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> None:
        """Raises NotFound, PreconditionFailed."""
        ...

    async def bulk(
        self,
        collection: str,
        writes: Sequence[Write],
        *,
        atomic: bool = False,
        idempotency: IdempotencyKey | None = None,
        most: int = MAX_BULK,
    ) -> tuple[Outcome, ...]:
        """Some writes, at most so many (`most`), in their order; an outcome for each, failures too. When they
        have cost what one bulk may (BulkBudget), those that are left are TenantLimit (429).

        atomic: when one fails nothing is written; its outcome says why, those of the others are RolledBack
        (424). Otherwise each stands for itself.
        """
        ...

    # --- lists ---

    async def list(self, collection: str, query: Query) -> Page[Document]:
        """One page in the query's order. Raises BadRequest for a cursor that is not of this list, and
        QueryTooSlow (503) past the deadline.

        A page holds fewer than `limit` when its documents would be very large together; then `next` is set.
        """
        ...

    def export(self, collection: str, node: Node = EVERYTHING) -> AsyncGenerator[bytes, None]:
        """The documents that match as NDJSON, ordered by id, some lines in each chunk, as they were at one
        instant. A line is representation.line(document), which parse_line of an import reads. Nothing is
        read ahead of the consumer but a chunk. Close it (aclose) when it is not read to its end.

        Raises TenantLimit (429), at the first chunk, when too many exports of the tenant are open.
        Importing is transfer.import_lines, over `bulk`.
        """
        ...

    # --- changes ---

    def changes(self, collection: str, after: str | None = None) -> AsyncGenerator[Changes, None]:
        """What changes from now on, or from behind an event id, without end; close it (aclose) to leave.

        Raises, at the first step, BadRequest for an event id that is not of this collection, and Gone (410)
        for one older than what is kept (RETAINED_SECONDS, RETAINED_CHANGES); Gone also later, for a
        subscriber that falls so far behind; StoreUnavailable when the store closes.
        """
        ...

    # --- collections ---

    async def collections(self, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Collection]:
        """Those that are declared or hold documents, by name. Raises BadRequest as list does."""
        ...

    async def collection(self, name: str) -> Collection:
        """Raises NotFound when it is neither declared nor holds documents."""
        ...

    async def settings(self, data: Mapping[str, Any]) -> CollectionSettings:
        """As collection.from_data; a schema that takes long is read in a worker process."""
        ...

    async def put_collection(
        self, name: str, settings: CollectionSettings, precondition: Precondition = UNCONDITIONAL
    ) -> tuple[Collection, bool]:
        """Declare a collection, or replace its settings; whether it was not declared before.

        Declaring an index or a ttl reads every document once. A schema is asked of later writes only.
        Raises PreconditionFailed, and UniqueConflict when documents break a new unique index.
        """
        ...

    async def patch_collection(
        self, name: str, patch: MergePatch, precondition: Precondition = UNCONDITIONAL
    ) -> Collection:
        """Merge into the settings (CollectionSettings.data). Raises NotFound, Unprocessable, as put does."""
        ...

    async def delete_collection(
        self, name: str, precondition: Precondition = UNCONDITIONAL, *, documents: bool = False
    ) -> None:
        """Forget the settings. Raises NotFound, PreconditionFailed, and Conflict (409) when there are
        documents, unless `documents` says to delete them too."""
        ...


class DocumentStore(Protocol):
    """An engine. start() before the first use; close() after the last, from the same event loop."""

    CAPABILITIES: ClassVar[frozenset[Capability]]

    @property
    def available(self) -> bool:
        """Whether the engine could be reached when it was last asked. One tenant's data may be damaged all
        the same."""
        ...

    @property
    def is_reading(self) -> bool:
        """Whether threads of this process are at short reads now: what takes long on the event loop leaves
        them the interpreter in between."""
        ...

    def tenant(self, tenant: TenantId, quota: Quota = NO_QUOTA, weight: float = 1.0) -> TenantStore:
        """weight: the tenant's share of the readers, against the other tenants'."""
        ...

    async def start(self) -> None:
        """Raises StoreUnavailable, with what is wrong and how to mend it, when the engine cannot serve."""
        ...

    async def close(self) -> None:
        """End every feed, finish every write that was taken, then let go of files and threads."""
        ...
