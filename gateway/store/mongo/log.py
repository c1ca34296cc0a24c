"""The operator's lines about the MongoDB server: a reason once in a while, since a fault hits every call."""

from __future__ import annotations

import logging
import time

_log = logging.getLogger(__name__)

_EVERY = 10.0  # seconds between two lines about one reason


class Log:
    """name: the server, without secrets. away: whether it did not do what it was last asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.away = False
        self._reported: dict[str, float] = {}

    def report(self, reason: str, mend: str) -> None:
        now = time.monotonic()
        if now - self._reported.get(reason, -_EVERY) >= _EVERY:
            self._reported[reason] = now
            _log.error("documents: %s: %s: %s", self._name, reason, mend)

    def back(self) -> None:
        """The server did what it was asked for."""
        if self.away:
            self.away = False
            _log.warning("documents: %s: the server is there, documents are served", self._name)
