"""The writes of single documents of port.TenantStore, which all engines do by one method."""

from __future__ import annotations

from abc import ABC, abstractmethod

from gateway.store.model.document import UNCONDITIONAL, Document, Members, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import Patch
from gateway.store.model.write import Create, Delete, Replace, Update, Write, Written


class DocumentWrites(ABC):
    """What a TenantStore has of this interface by its `_write`."""

    __slots__ = ()

    @abstractmethod
    async def _write(
        self, collection: str, write: Write, idempotency: IdempotencyKey | None
    ) -> Written | None:
        """Do a write; None: a deletion was done."""

    async def create(
        self, collection: str, data: Members, *, idempotency: IdempotencyKey | None = None
    ) -> Document:
        """See port.TenantStore.create."""
        written = await self._write(collection, Create(data), idempotency)
        assert written is not None
        return written.document

    async def replace(
        self,
        collection: str,
        identifier: str,
        data: Members,
        precondition: Precondition = UNCONDITIONAL,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> Written:
        """See port.TenantStore.replace."""
        written = await self._write(collection, Replace(identifier, data, precondition), idempotency)
        assert written is not None
        return written

    async def patch(
        self,
        collection: str,
        identifier: str,
        patch: Patch,
        precondition: Precondition = UNCONDITIONAL,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> Document:
        """See port.TenantStore.patch."""
        written = await self._write(collection, Update(identifier, patch, precondition), idempotency)
        assert written is not None
        return written.document

    async def delete(
        self,
        collection: str,
        identifier: str,
        precondition: Precondition = UNCONDITIONAL,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> None:
        """See port.TenantStore.delete."""
        await self._write(collection, Delete(identifier, precondition), idempotency)
