"""Changes of a collection, in the order of their commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.store.model.document import Document

RETAINED_SECONDS = 24 * 3600.0
RETAINED_CHANGES = 100_000  # of one tenant

Kind = Literal["created", "updated", "deleted", "collection_deleted"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change. event: its event id; `changes(after=...)` resumes behind it. The id is signed, and valid
    for its tenant and collection only. etag: of the version that the change made (deleted: of the one that it
    ended); id and etag are empty for `collection_deleted`. document: as it is now, which may be newer; None
    when it is deleted. at: seconds since the epoch.
    """

    event: str
    kind: Kind
    id: str
    etag: str
    at: float
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes that a feed got together. position: the event id to resume behind after these. The first
    Changes of a feed come at once, mostly empty, so that a subscriber has a position before anything happens;
    later, empty ones come from time to time, so that the position of a quiet collection does not grow too
    old."""

    items: tuple[Change, ...]
    position: str
