"""What moving asks of an engine beside port.TenantStore: the tenant's log as a whole, holding its writes, and
saying that its documents are elsewhere now. Any method may raise StoreUnavailable."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.core.model import TenantId
from gateway.store.model.change import Kind

LOG_BATCH = 1000  # changes that are read at once
HOLD_SECONDS = 5.0  # after which the writes of a tenant that is held go on, or fail, whoever holds it


class LoggedChange(NamedTuple):
    """One change of any collection; see model.Change."""

    number: int
    collection: str
    kind: Kind
    id: str


class Remembered(NamedTuple):
    """A write that is remembered for its Idempotency-Key. at: when it was done, in seconds since the epoch.
    result: as idempotency.result_to_text has it."""

    key: str
    fingerprint: bytes
    at: float
    result: str


@dataclass(frozen=True, slots=True)
class MovedTenants:
    """Those that are in another store now. all: those too of which there was nothing. to: its location,
    without secrets."""

    tenants: tuple[str, ...] = ()
    all: bool = False
    to: str = ""


class LogGone(Exception):
    """Changes behind the number are not kept any more: compare all of it again."""


class Moves(Protocol):
    """The side of one store."""

    async def follows(self) -> bool:
        """Whether there is a log, and writes can be held."""
        ...

    async def position(self, tenant: TenantId) -> int:
        """The number of the tenant's last change, 0 for none."""
        ...

    async def changes(self, tenant: TenantId, after: int) -> Sequence[LoggedChange]:
        """The changes behind a number, at most LOG_BATCH. Raises LogGone."""
        ...

    def hold(self, tenant: TenantId) -> AbstractAsyncContextManager[None]:
        """Around what is done while every write of the tenant, in whatever process, waits: for less than
        HOLD_SECONDS. The writes that were begun before are done."""
        ...

    async def leave(self, tenant: TenantId, to: str, position: int) -> None:
        """Inside of `hold`: from now on every process is told that the documents are elsewhere, and the hold
        ends. to: see MovedTenants. position: of the last change that is there too. Raises StoreUnavailable
        where another one came all the same."""
        ...

    async def arrive(self, tenant: TenantId) -> None:
        """The documents of the tenant belong here, whatever was said before."""
        ...

    async def leave_all(self, to: str) -> None:
        """New tenants belong elsewhere."""
        ...

    async def arrive_all(self) -> None:
        """New tenants belong here."""
        ...

    async def moved(self) -> MovedTenants:
        """Those that left."""
        ...

    async def remembered(self, tenant: TenantId, since: float) -> Sequence[Remembered]:
        """The writes that are remembered for a key and were done since then."""
        ...

    async def remember(self, tenant: TenantId, items: Sequence[Remembered]) -> None:
        """Remember these too; those that are known stay."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...
