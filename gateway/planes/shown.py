"""What a data plane says of itself to the admin listener, by name: values as JSON has them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterable, Mapping
from time import monotonic, process_time
from typing import Any

from gateway.core.errors import StoreUnavailable
from gateway.core.merge.metrics import Reporter
from gateway.core.model import TenantId
from gateway.life import Live
from gateway.planes.data import DataPlane
from gateway.runtime.channel import AskFailed, Handler
from gateway.telemetry.traffic import Traffic

_PAGE = 100  # collections in a page
_MOST = 1000  # collections whose documents are summed up
_PART = 0.01  # of the time that looking for what has grown may take


class Shown:
    """See `handlers`. live: what the plane serves by."""

    def __init__(self, plane: DataPlane, live: Live) -> None:
        self._plane, self._live = plane, live
        self._traffic: Traffic | None = None
        self._reporter = Reporter(plane.metrics.instruments)
        self._handlers = self._made()
        self._looks_again = 0.0  # when there is time for what has grown, by the monotonic clock

    def handlers(self) -> Mapping[str, Handler]:
        """All that can be asked."""
        return self._handlers

    def _made(self) -> Mapping[str, Handler]:
        stored = self._plane.callers.stored
        return {
            "state": self._state,
            "admission": self._admission,
            "health": lambda body: self._plane.health.states(),
            "credentials": self._credentials,
            "tenant": self._tenant,
            "documents": self._documents,
            "traffic": self._since_last,
            "recent": self._recent,
            "recent of route": lambda name: self._plane.recent.of_route(name),
            "metrics": lambda body: self.metrics(),
            "counters": self._counters,
            # What was changed in the file of API keys and revocations is in force with the answer.
            "stored changed": lambda body: stored.refresh(),
            "keys used": lambda body: stored.flush(),
        }

    def show(self, asked: tuple[str, Any]) -> Any:
        """What the master asks for: a name and a body. Raises AskFailed."""
        name, body = asked
        handler = self._handlers.get(name)
        if handler is None:  # the master is of another version
            raise AskFailed(f"nothing is shown by the name {name!r}")
        return handler(body)

    async def metrics(self) -> list[str]:
        """All metrics, for `Report.add`."""
        return await _gathered(self._reporter.everything())

    async def _counters(self, body: Any) -> list[str]:
        """What has grown since the last report; nothing for a while where to look took long."""
        began, worked = monotonic(), process_time()
        if began < self._looks_again:
            return []
        pieces = await _gathered(self._reporter.changed())
        self._looks_again = began + (process_time() - worked) / _PART
        return pieces

    def _state(self, body: Any) -> dict[str, Any]:
        current = self._live.current
        return {
            "ready": self._plane.ready,
            "store": self._plane.store.available,
            "shared": self._plane.sharing.status(),
            "revision": current.revision,
            "since": current.loaded_at,
        }

    async def _admission(self, body: Any) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for named in self._plane.admission.each_state():
            if named is None:
                await asyncio.sleep(0)  # a step of the work is done: others have their turn
            else:
                found.append(named)
        return found

    def _credentials(self, body: Any) -> dict[str, Any]:
        callers = self._plane.callers
        return {
            "issuers": callers.issuers.states(),
            "api_keys": callers.credentials.counts(""),
            "cached": len(callers.credentials),
        }

    def _tenant(self, name: str) -> dict[str, Any]:
        plane = self._plane
        return {
            "backends": plane.admission.of_tenant(name),
            "used": plane.quotas.used(name),
            "left": plane.quotas.left_today,
        }

    async def _documents(self, name: str) -> dict[str, Any] | None:
        """What a tenant has; None while the store is away. `complete`: whether all collections were looked
        at."""
        found = {"collections": 0, "documents": 0, "bytes": 0, "complete": True}
        store, cursor = self._plane.store.tenant(TenantId(name)), None
        try:
            while found["collections"] < _MOST:
                page = await store.collections(_PAGE, cursor)
                found["collections"] += len(page.items)
                found["documents"] += sum(one.documents for one in page.items)
                found["bytes"] += sum(one.bytes for one in page.items)
                cursor = page.next
                if cursor is None:
                    break
        except StoreUnavailable:
            return None
        found["complete"] = cursor is None
        return found

    def _since_last(self, first: bool) -> dict[str, Any]:
        """The traffic since the last time. first: nobody has looked for a while."""
        if self._traffic is None or first:
            self._traffic = Traffic(self._plane.metrics)
        return self._traffic.counts()

    async def _recent(self, most: int) -> list[str]:
        return [b64encode(one).decode() for one in await self._plane.recent.pickled(most)]


async def _gathered(pieces: Iterable[str]) -> list[str]:
    """Those that are not empty; others have their turn after each."""
    found = []
    for piece in pieces:
        if piece:
            found.append(piece)
        await asyncio.sleep(0)
    return found
