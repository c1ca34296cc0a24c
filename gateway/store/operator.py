"""The operator's port: what `gateway documents` asks of an engine, beside a gateway that runs or without one.

Exporting and importing are TenantStore.export and transfer.import_lines. Everything here is asynchronous and
may take long. Raises StoreUnavailable with what is wrong and how to mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.core.model import TenantId


@dataclass(frozen=True, slots=True)
class TenantSize:
    """documents, bytes: of the documents' JSON. stored_bytes: what the engine uses for them in all."""

    tenant: TenantId
    collections: int
    documents: int
    bytes: int
    stored_bytes: int


class Operator(Protocol):
    """An engine's side for its operator; made by itself, without a DocumentStore that has started."""

    async def tenants(self) -> tuple[TenantId, ...]:
        """Those with data, in order."""
        ...

    async def size(self, tenant: TenantId) -> TenantSize:
        """Raises NotFound for a tenant without data."""
        ...

    async def backup(self, tenant: TenantId, target: Path) -> int:
        """Write everything of a tenant to a new file (mode 0600), as of one instant, while writes go on; the
        bytes written. The file is an engine's own format. Raises NotFound, and FileExistsError."""
        ...

    async def restore(self, tenant: TenantId, source: Path, *, replace: bool = False) -> TenantSize:
        """Put a backup in place of a tenant's data; what is there is only replaced when told so, and as a
        whole or not at all. The file is verified first. Raises Conflict when there is data, BadRequest when
        the file is not a whole backup of this engine. No gateway may have the tenant's data open."""
        ...

    async def verify(self, tenant: TenantId) -> tuple[str, ...]:
        """What is wrong with a tenant's data, a sentence each; empty when nothing is. Raises NotFound."""
        ...

    async def close(self) -> None: ...
