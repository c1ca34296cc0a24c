"""One open stream: a bounded queue between the publisher, who never waits, and one reader."""

from __future__ import annotations

import asyncio
from collections import deque

from backends.events.ring import Event

MOST_WAITING = 256


class StreamClosed(Exception):
    """The stream has ended: the application stops."""


class Stream:
    """`transport` is the reader's connection."""

    def __init__(self, tenant: str, transport: asyncio.Transport | None) -> None:
        self.tenant = tenant
        self._transport = transport
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def on_event(self, message_type: str, event: Event) -> None:
        """Called by PubSub. A reader that is too slow is cut off: it comes back with Last-Event-ID, and the
        ring has what it missed, while a queue without bound would take the memory of all."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(event)
            self._wake.set()
        elif self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def next(self, timeout: float) -> list[Event]:
        """The events that came since, none when `timeout` seconds passed. Raises StreamClosed."""
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return []
        if self._closed and not self._waiting:
            raise StreamClosed
        events = list(self._waiting)
        self._waiting.clear()
        if not self._closed:
            self._wake.clear()
        return events
