"""The ordinary log, written by a thread.

A terminal that was stopped (Ctrl-S), a pipe whose reader hangs, or a slow disk makes every write wait; on the
event loop that would stop all requests, for the sake of a line. Lines wait in memory instead; those beyond
LIMIT are dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler
from time import monotonic

from gateway.core.redact import escape_controls
from gateway.runtime.periodic import Boundary

LIMIT = 10_000  # lines
_CLOSE_TIMEOUT = 2.0  # seconds

Item = logging.LogRecord | Callable[[], object] | None


class LogThread(QueueHandler):
    """Takes the place of handlers of a logger, and gives each record to them in a thread."""

    def __init__(self, handlers: Sequence[logging.Handler], limit: int = LIMIT) -> None:
        # A queue.Queue has a lock: a record made in a signal's handler, which may run in the midst of another
        # one's put, would wait for ever for the very thread that it interrupted. This one is reentrant.
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._limit = limit
        super().__init__(self._items)
        self._handlers = handlers
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    @classmethod
    def before(cls, logger: logging.Logger, handlers: Sequence[logging.Handler | None]) -> LogThread:
        """In front of those of the handlers that the logger has."""
        blocking = [handler for handler in handlers if handler is not None]
        for handler in blocking:
            logger.removeHandler(handler)
        thread = cls(blocking)
        logger.addHandler(thread)
        return thread

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as it will be written: whatever it quotes, it is one record, and nothing in it is an
        order to a terminal."""
        record = super().prepare(record)
        record.msg = record.message = escape_controls(record.msg)
        fields = getattr(record, "_struct_data", None)  # as ASAB's loggers have it
        if fields:
            shown = {
                name: escape_controls(value) if isinstance(value, str) else value
                for name, value in fields.items()
            }
            record._struct_data = shown
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits. What was dropped is reported as soon as there is room again."""
        if self._items.qsize() >= self._limit:
            self._dropped += 1
            return
        dropped, self._dropped = self._dropped, 0
        if dropped:
            message = f"{dropped} lines of this log were dropped: whoever reads it was too slow"
            self._items.put(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None))
        self._items.put(record)

    def call(self, work: Callable[[], object]) -> None:
        """Run it between two records: something that the handlers must not be used meanwhile for. It is rare,
        and never dropped: a full queue is when a file that was renamed has to be let go."""
        self._items.put(work)

    def finish(self, logger: logging.Logger, timeout: float = _CLOSE_TIMEOUT) -> bool:
        """Write what is left, and log without the thread from now on. False when nobody takes it in time:
        then whatever touches the handlers again, as Python does at its end, would wait for ever."""
        until = monotonic() + timeout
        self._items.put(None)
        self._thread.join(max(0.0, until - monotonic()))
        logger.removeHandler(self)
        if self._thread.is_alive():
            logger.addHandler(logging.NullHandler())  # or Python would write to stderr by itself
            return False
        for handler in self._handlers:
            logger.addHandler(handler)
        return True

    def _write(self) -> None:
        boundary = Boundary("writing the log")  # its own word comes by the queue, as every other
        while (item := self._items.get()) is not None:
            with boundary:
                self._do(item)

    def _do(self, item: logging.LogRecord | Callable[[], object]) -> None:
        if not isinstance(item, logging.LogRecord):
            item()
            return
        for handler in self._handlers:
            if item.levelno >= handler.level:
                handler.handle(item)
