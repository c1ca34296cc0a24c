"""What the routing config says of a backend's seats: its problems, and the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.core.model import Backend
from gateway.core.routing.problems import Problem
from gateway.core.routing.settings import BackendSettings

_QUEUE_LENGTH = 1000


def with_seats(backend: Backend, written: BackendSettings) -> Backend:
    """The backend, with what is written of its seats, or the defaults."""
    threads, streams = backend.threads, written.streams
    if threads and streams is None:
        streams = max(1, threads // 4) if threads > 1 else 0
    return replace(
        backend,
        concurrency=written.concurrency or 0,
        streams=streams,
        reserve=written.reserve,
        queue_length=_QUEUE_LENGTH if written.queue.length is None else written.queue.length,
        queue_timeout=written.queue.timeout,
    )


def seat_problems(name: str, written: BackendSettings) -> Iterator[Problem]:
    """What the numbers mean together."""
    where = ("backends", name)
    if written.kind == "gunicorn" and written.concurrency is not None:
        reason = "a threaded backend takes as many requests as it has threads"
        yield Problem((*where, "concurrency"), reason, "remove it, and write threads")
    if written.threads is not None and (written.streams or 0) >= written.threads:
        reason = f"streams would hold all {written.threads} threads"
        yield Problem((*where, "streams"), reason, "choose a number below threads, or 0 for no streams")
    seats = (written.threads or written.concurrency or 0) * len(written.addresses)
    if written.reserve and 0 < seats <= written.reserve:
        reason = f"it would keep back all {seats} seats"
        yield Problem((*where, "reserve"), reason, "choose a number below that of all seats")
