"""The latest events of one tenant, bounded in number and in bytes. Pure."""

from __future__ import annotations

import json
import re
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Any

MOST_EVENTS = 1000
MOST_BYTES = 1024 * 1024

_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Event:
    """`data` is JSON text, without line breaks; `time` is RFC 3339 in UTC."""

    id: str
    type: str
    time: str
    data: str

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "type": self.type, "time": self.time, "data": json.loads(self.data)}

    def as_frame(self) -> bytes:
        """As one server-sent event (WHATWG HTML, 9.2.6)."""
        body = f'{{"time": "{self.time}", "data": {self.data}}}'
        return f"id: {self.id}\nevent: {self.type}\ndata: {body}\n\n".encode()


class Ring:
    """Ids are `<ring>-<number>`: a ring that was made anew never takes an old ring's id for its own."""

    def __init__(self) -> None:
        self.touched = 0.0  # monotonic seconds of the last event
        self._name = secrets.token_hex(4)
        self._number = 0
        self._bytes = 0
        self._events: deque[Event] = deque()

    def add(self, type: str, time: str, data: str) -> Event:
        self._number += 1
        event = Event(f"{self._name}-{self._number}", type, time, data)
        self._events.append(event)
        self._bytes += len(data)
        while len(self._events) > MOST_EVENTS or (self._bytes > MOST_BYTES and len(self._events) > 1):
            self._bytes -= len(self._events.popleft().data)
        return event

    def recent(self, limit: int) -> list[Event]:
        """The last `limit` events, the oldest first."""
        return list(self._events)[-limit:]

    def since(self, last_id: str) -> tuple[bool, list[Event]]:
        """Whether nothing is missing between `last_id` and these events, and all that are kept after it."""
        found = _ID.fullmatch(last_id)
        if found is None or found[1] != self._name or int(found[2]) > self._number:
            return False, list(self._events)
        after = self._number - int(found[2])
        kept = list(self._events)[-after:] if after else []
        return len(kept) == after, kept
