"""Log lines that carry the gateway's request id, so that one search finds both sides of a request."""

from __future__ import annotations

import logging
import os
from contextvars import ContextVar
from typing import Any

# Set by the middleware. A context variable is right for threads and for coroutines alike.
NO_REQUEST = "-"
request_id: ContextVar[str] = ContextVar("request_id", default=NO_REQUEST)


class RequestId(logging.Filter):
    """Gives every record of a handler a `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def config() -> dict[str, Any]:
    """For logging.config.dictConfig: a line to stderr per record, from level LOG_LEVEL (default INFO) up."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestId}},
        "formatters": {"line": {"format": "%(levelname)s %(name)s [%(request_id)s] %(message)s"}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]}
        },
        "root": {"level": os.environ.get("LOG_LEVEL", "INFO"), "handlers": ["stderr"]},
    }
