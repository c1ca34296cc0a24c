"""What a transaction of many writes to one collection counts and records: stored once, at its end."""

from __future__ import annotations

from gateway.store.model.write import Quota
from gateway.store.mongo.rows import Row
from gateway.store.mongo.state import State


class Tally:
    """state: of the collection. tenant: the tenant's row, which the transaction has written already, so that
    no other one can count meanwhile."""

    def __init__(self, state: State, tenant: Row, quota: Quota) -> None:
        self.state = state
        self.documents = 0
        self.bytes = 0
        self.changes: list[Row] = []
        self._tenant = tenant
        self._quota = quota

    def reserve(self, documents: int, size: int) -> int:
        """Count a write; the number of its change. Raises QuotaExceeded, and nothing was counted."""
        row = self._tenant
        check(self._quota, row["documents"] + self.documents, row["bytes"] + self.bytes, documents, size)
        self.documents += documents
        self.bytes += size
        return int(row["q"]) + len(self.changes) + 1


def check(quota: Quota, documents: int, size: int, more: int, larger: int) -> None:
    """Whether so much more fits beside what is there. Raises QuotaExceeded."""
    too_many = more > 0 and quota.documents is not None and documents + more > quota.documents
    if too_many:
        raise quota.exceeded("documents")
    if larger > 0 and quota.bytes is not None and size + larger > quota.bytes:
        raise quota.exceeded("bytes")
