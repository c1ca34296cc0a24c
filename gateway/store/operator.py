"""The operator's port: what `gateway documents` asks of an engine, while a gateway runs or without one.

Exporting and importing are TenantStore.export and transfer.import_lines. Everything here is asynchronous and
may take long. Any method may raise StoreUnavailable, which says what is wrong and how to fix it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.core.model import TenantId


@dataclass(frozen=True, slots=True)
class TenantSize:
    """What a tenant holds. bytes: of its documents' JSON. stored_bytes: what the engine uses for them in
    all."""

    tenant: TenantId
    collections: int
    documents: int
    bytes: int
    stored_bytes: int


class Operator(Protocol):
    """What an operator may do with an engine; needs no DocumentStore that has started."""

    async def tenants(self) -> tuple[TenantId, ...]:
        """The tenants with data, in order."""
        ...

    async def size(self, tenant: TenantId) -> TenantSize:
        """What the tenant holds. Raises NotFound for one without data."""
        ...

    async def backup(self, tenant: TenantId, target: Path) -> int:
        """Write everything of a tenant to a new file (mode 0600), as of one instant, while writes go on;
        gives the bytes written. The format is the engine's own. Raises NotFound, and FileExistsError."""
        ...

    async def restore(self, tenant: TenantId, source: Path, *, replace: bool = False) -> TenantSize:
        """Put a backup in place of a tenant's data, as a whole or not at all; existing data is only replaced
        with `replace`. The file is verified first. Raises Conflict when there is data, BadRequest when the
        file is not a whole backup of this engine. No gateway may have the tenant's data open."""
        ...

    async def verify(self, tenant: TenantId) -> tuple[str, ...]:
        """What is wrong with a tenant's data, one sentence each; empty when nothing is. Raises NotFound."""
        ...

    async def close(self) -> None:
        """Release what the engine holds: connections, threads."""
        ...
