"""The live config as operators are shown it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gateway.call import Snapshot
from gateway.config.ports import ConfigSource
from gateway.config.refusal import Refusal
from gateway.core.config.revision import Pending


def status(
    source: ConfigSource, current: Snapshot, pending: Pending | None, refusal: Refusal | None, *, synced: bool
) -> dict[str, Any]:
    """The JSON of GET /admin/config. refusal: of what the source said last. synced: whether it was read."""
    return {
        "path": source.name,
        "source": source.kind,
        "available": source.available,
        "synced": synced,
        **source.status(),
        "revision": current.revision,
        "loaded_at": current.loaded_at,
        "digest": current.digest,
        "routes": len(current.table.routes),
        "backends": len(current.backends),
        "tenants": len(current.tenants),
        "pending": None if pending is None else asdict(pending),
        "refused": None if refusal is None else refusal.view(),
    }
