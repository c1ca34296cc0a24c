"""One write of a document, in a line of a test: `TenantStore.write` with its values, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.store.model.document import UNCONDITIONAL, Document, LargeMembers, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import Patch
from gateway.store.model.write import Create, Delete, Replace, Update, Write, Written
from gateway.store.port import TenantStore


async def create(
    store: TenantStore,
    collection: str,
    data: Mapping[str, Any] | LargeMembers,
    *,
    idempotency: IdempotencyKey | None = None,
) -> Document:
    return (await _written(store, collection, Create(data), idempotency)).document


async def replace(
    store: TenantStore,
    collection: str,
    identifier: str,
    data: Mapping[str, Any] | LargeMembers,
    precondition: Precondition = UNCONDITIONAL,
    *,
    idempotency: IdempotencyKey | None = None,
) -> Written:
    return await _written(store, collection, Replace(identifier, data, precondition), idempotency)


async def patch(
    store: TenantStore,
    collection: str,
    identifier: str,
    change: Patch,
    precondition: Precondition = UNCONDITIONAL,
    *,
    idempotency: IdempotencyKey | None = None,
) -> Document:
    return (await _written(store, collection, Update(identifier, change, precondition), idempotency)).document


async def delete(
    store: TenantStore,
    collection: str,
    identifier: str,
    precondition: Precondition = UNCONDITIONAL,
    *,
    idempotency: IdempotencyKey | None = None,
) -> None:
    assert await store.write(collection, Delete(identifier, precondition), idempotency) is None


async def _written(
    store: TenantStore, collection: str, write: Write, idempotency: IdempotencyKey | None
) -> Written:
    written = await store.write(collection, write, idempotency)
    assert written is not None
    return written
