"""A small threaded app that knows how many requests are inside it: the one that is to be shielded.

/item waits 10 ms, as for a database, /wait/MS so long as it says; /quick does not; /upload reads the body;
/large answers 1 MiB. /counts tells what was counted since it was last asked, and is not counted itself.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from tests.bench.sites.backend import BODY

LARGE = 1024 * 1024
VIEW = 0.01  # seconds that /item waits
_PIECE = 64 * 1024


class _Counts:
    """inside: requests that are in a view now; most: the most at once; reused: requests that came on a
    connection which had carried one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = self._most = self._served = self._reused = 0
        self._seen: WeakSet[Any] = WeakSet()

    def enter(self, connection: Any) -> None:
        with self._lock:
            self._inside += 1
            self._most = max(self._most, self._inside)
            self._served += 1
            self._reused += connection in self._seen
            self._seen.add(connection)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1

    def take(self) -> dict[str, int]:
        with self._lock:
            found = {"inside": self._inside, "most": self._most}
            found |= {"served": self._served, "reused": self._reused}
            self._most, self._served, self._reused = self._inside, 0, 0
            return found


class _Answer:
    """The body; a request is inside until its last byte is with the kernel."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        counts.leave()


counts = _Counts()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """PEP 3333."""
    path = environ["PATH_INFO"]
    if path == "/counts":
        return _respond(start_response, [json.dumps(counts.take()).encode()])
    counts.enter(environ["gunicorn.socket"])
    try:
        return _Answer(_respond(start_response, _view(path, environ)))
    except BaseException:
        counts.leave()
        raise


def _view(path: str, environ: dict[str, Any]) -> list[bytes]:
    if path == "/large":
        return [bytes(_PIECE)] * (LARGE // _PIECE)
    if path == "/item":
        time.sleep(VIEW)
    elif path.startswith("/wait/"):
        time.sleep(int(path[6:]) / 1e3)
    size = 0
    while piece := environ["wsgi.input"].read(_PIECE):
        size += len(piece)
    return [str(size).encode() if path == "/upload" else BODY.encode()]


def _respond(start_response: Callable[..., Any], pieces: list[bytes]) -> list[bytes]:
    length = str(sum(map(len, pieces)))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", length)])
    return pieces
