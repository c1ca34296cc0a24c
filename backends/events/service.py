"""The state of the application: a ring for each tenant, and who listens. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import asab

from backends.events.ring import Event, Ring
from backends.events.stream import Stream

MOST_TENANTS = 256  # with 1 MiB each at most
IDLE = 3600.0  # seconds after which a tenant's events are forgotten
MOST_STREAMS = 1000
MOST_STREAMS_PER_TENANT = 100


class TooManyStreams(Exception):
    """The text is for the caller."""


class EventService(asab.Service):
    def __init__(self, app: asab.Application, service_name: str = "events.EventService") -> None:
        super().__init__(app, service_name)
        self._rings: OrderedDict[str, Ring] = OrderedDict()  # the tenant that was idle longest comes first
        self._streams: set[Stream] = set()
        metrics = app.get_service("asab.MetricsService")
        self._accepted = metrics.create_counter("events", init_values={"accepted": 0}, reset=False)
        self._open = metrics.create_gauge("streams", init_values={"open": 0})
        app.PubSub.subscribe("Application.stop!", self._close_streams)
        app.PubSub.subscribe("Application.tick/60!", self._forget_idle)

    def publish(self, tenant: str, drafts: Iterable[tuple[str, Any]]) -> list[Event]:
        """Keep (type, data) pairs as events of the tenant, and tell its streams."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        ring = self._rings.setdefault(tenant, Ring())
        ring.touched = time.monotonic()
        self._rings.move_to_end(tenant)
        if len(self._rings) > MOST_TENANTS:
            self._rings.popitem(last=False)
        events = [ring.add(type, now, json.dumps(data, allow_nan=False)) for type, data in drafts]
        self._accepted.add("accepted", len(events))
        for event in events:
            self.App.PubSub.publish(_message_type(tenant), event)
        return events

    def recent(self, tenant: str, limit: int) -> list[Event]:
        ring = self._rings.get(tenant)
        return ring.recent(limit) if ring else []

    def since(self, tenant: str, last_id: str) -> tuple[bool, list[Event]]:
        """As Ring.since."""
        ring = self._rings.get(tenant)
        return ring.since(last_id) if ring else (False, [])

    @contextlib.contextmanager
    def stream(self, tenant: str, transport: asyncio.Transport | None) -> Iterator[Stream]:
        """A stream of the tenant's events from now on. Raises TooManyStreams."""
        if len(self._streams) >= MOST_STREAMS:
            raise TooManyStreams(f"All {MOST_STREAMS} streams are in use.")
        if Counter(stream.tenant for stream in self._streams)[tenant] >= MOST_STREAMS_PER_TENANT:
            raise TooManyStreams(f"This tenant has {MOST_STREAMS_PER_TENANT} open streams already.")
        # PubSub holds the method weakly: the set keeps the stream alive as well as counting it.
        stream = Stream(tenant, transport)
        self._streams.add(stream)
        self._open.set("open", len(self._streams))
        self.App.PubSub.subscribe(_message_type(tenant), stream.on_event)
        try:
            yield stream
        finally:
            self.App.PubSub.unsubscribe(_message_type(tenant), stream.on_event)
            self._streams.discard(stream)
            self._open.set("open", len(self._streams))

    def metrics(self) -> dict[str, Any]:
        """ASAB's metrics of this application by name, as they are at this moment."""
        found = {metric["name"]: metric["fieldset"][0] for metric in self._metrics_storage()}
        return {name: fields.get("actuals", fields["values"]) for name, fields in found.items()}

    def _metrics_storage(self) -> list[dict[str, Any]]:
        metrics: list[dict[str, Any]] = self.App.get_service("asab.MetricsService").Storage.Metrics
        return [metric for metric in metrics if metric["name"] in ("events", "streams")]

    def _close_streams(self, message_type: str, *counter: int) -> None:
        for stream in self._streams:
            stream.close()

    def _forget_idle(self, message_type: str) -> None:
        oldest = time.monotonic() - IDLE
        for tenant in [tenant for tenant, ring in self._rings.items() if ring.touched < oldest]:
            del self._rings[tenant]


def _message_type(tenant: str) -> str:
    """A message type for each tenant: a stream hears of no other tenant's events, and costs them nothing."""
    return f"Event.accepted/{tenant}!"
