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

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.model.change import Changes
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.document import UNCONDITIONAL, Document, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import DEFAULT_LIMIT, Page, Query
from gateway.store.model.write import MAX_BULK, NO_QUOTA, Outcome, Quota, Write, Written

P = ParamSpec("P")
T = TypeVar("T")

# The detail of StoreUnavailable where a fault of the engine is in the way, which only the operator is told.
UNREACHABLE = "The tenant's documents cannot be reached at the moment."


class Moved(StoreUnavailable):
    """The tenant's documents are in another store now. to: its location, without secrets."""

    def __init__(self, tenant: str, to: str) -> None:
        super().__init__(UNREACHABLE, retry_after=2)
        self.to = to
        hint = "where [store] uri names that, or [store] next while others are still here, they are served"
        self.add_note(f"the documents of {tenant} were moved to {to}; {hint}")


class Capability(StrEnum):
    """What an engine may lack. Where it does, the conformance suite skips the test, and the port raises
    NotSupportedByStore (501)."""

    ATOMIC_BULK = "atomic bulk"
    CHANGES = "changes"
    SNAPSHOT_EXPORT = "an export shows one instant"
    REGEX = "$regex beyond literal patterns"


class TenantStore(Protocol):
    """One tenant's documents. A collection exists from its first document on, or is declared.

    A write is durable when its method returns. Cancelling the caller does not take back a write: it
    happens once, or (if the store refuses it) not at all. Expired documents (TTL) are never returned.

    Names and ids were checked by check_collection and check_id, members by parse_members or parse_line.

    Every write of a document may raise UniqueConflict (409), SchemaViolation (422), BodyTooLarge (413), and
    where its collection has require_if_match and the document exists, PreconditionRequired (428).
    """

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """The result of a module-level function, such as those of json/large.py, for work on a large
        document; it runs in a worker process where there are some."""
        ...

    # --- documents ---

    async def write(
        self, collection: str, write: Write, idempotency: IdempotencyKey | None = None
    ) -> Written | None:
        """Do a write; gives the document after it, None for a deletion. Raises NotFound for a patch or a
        deletion of what is not there, PreconditionFailed; for a patch also PatchConflict (409) and
        Unprocessable (422)."""
        ...

    async def read(self, collection: str, identifier: str) -> Document:
        """The document. Raises NotFound."""
        ...

    def read_now(self, collection: str, identifier: str) -> Document | None:
        """As read, where nothing has to be waited for: a few microseconds. None: something has, so await
        read. Raises NotFound."""
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
        """Do some writes, at most `most`, in their order; gives an outcome for each, failures too. When they
        have used up the BulkBudget, the remaining ones fail with TenantLimit (429).

        atomic: when one fails nothing is written; its outcome says why, those of the others are RolledBack
        (424). Otherwise each succeeds or fails by itself.
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
        read ahead of the consumer but one chunk. Close it (aclose) when it is not read to its end.

        Raises TenantLimit (429), at the first chunk, when too many exports of the tenant are open.
        Importing is transfer.import_lines, over `bulk`.
        """
        ...

    # --- changes ---

    def changes(self, collection: str, after: str | None = None) -> AsyncGenerator[Changes, None]:
        """The changes from now on, or from behind an event id, without end; close it (aclose) to leave.

        Raises, at the first step, BadRequest for an event id that is not of this collection, and Gone (410)
        for one older than what is kept (RETAINED_SECONDS, RETAINED_CHANGES); Gone also later, for a
        subscriber that falls so far behind; StoreUnavailable when the store closes.
        """
        ...

    # --- collections ---

    async def collections(self, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Collection]:
        """The collections that are declared or hold documents, by name. Raises BadRequest as list does."""
        ...

    async def collection(self, name: str) -> Collection:
        """Raises NotFound when it is neither declared nor holds documents."""
        ...

    async def settings(self, data: Mapping[str, Any]) -> CollectionSettings:
        """Settings from JSON, as collection.from_data makes them; a schema that takes long is read in a
        worker process."""
        ...

    async def put_collection(
        self, name: str, settings: CollectionSettings, precondition: Precondition = UNCONDITIONAL
    ) -> tuple[Collection, bool]:
        """Declare a collection, or replace its settings; gives also whether it was not declared before.

        Declaring an index or a ttl reads every document once. A schema applies to later writes only.
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
        """Whether threads of this process are at short reads now: long work on the event loop then leaves the
        interpreter to them in between."""
        ...

    def tenant(self, tenant: TenantId, quota: Quota = NO_QUOTA, weight: float = 1.0) -> TenantStore:
        """The documents of one tenant. weight: its share of the readers, relative to the other tenants'."""
        ...

    async def start(self) -> None:
        """Open the engine. Raises StoreUnavailable, which says what is wrong and how to fix it."""
        ...

    async def close(self) -> None:
        """End every feed, finish every write that was begun, then release files and threads."""
        ...
