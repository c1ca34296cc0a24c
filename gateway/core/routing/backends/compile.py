"""A backend of the routing config as compiled, and what is wrong with it.

A setting that can never have an effect is refused, so that nobody relies on a limit that is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.core.model import Address, Backend
from gateway.core.routing.backends.settings import AddressSettings, BackendSettings
from gateway.core.routing.problems import Path, Problem

_MAX_SOCKET_PATH = 107  # bytes; unix(7): sun_path holds 108 with the NUL at its end
_QUEUE_LENGTH = 1000


def compile_backend(name: str, written: BackendSettings, sockets: str) -> Backend:
    """The backend, with the defaults of what is not written. sockets: the folder that relative unix:
    addresses are in."""
    threads, streams = written.threads or 0, written.streams
    if threads and streams is None:
        streams = max(1, threads // 4) if threads > 1 else 0
    return Backend(
        name=name,
        kind=written.kind,
        addresses=tuple(_address(one, sockets) for one in written.addresses),
        threads=threads,
        health=written.health.compiled(),
        concurrency=written.concurrency or 0,
        streams=streams,
        reserve=written.reserve,
        slow_start=written.slow_start or 0.0,
        queue_length=_QUEUE_LENGTH if written.queue.length is None else written.queue.length,
        queue_timeout=written.queue.timeout,
        **({"identity": written.identity} if written.identity else {}),
    )


def _address(written: AddressSettings, sockets: str) -> Address:
    text, weight = written.address, float(written.weight)
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        return Address(text, path=path if path.startswith("/") else f"{sockets}/{path}", weight=weight)
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    return Address(text, host=host.strip("[]"), port=int(port), weight=weight)


def backend_problems(written: BackendSettings, backend: Backend) -> Iterator[Problem]:
    """What the words of one backend mean together; paths begin in the backend."""
    if written.kind == "gunicorn" and written.threads is None:
        reason = "a threaded backend needs its number of threads"
        yield Problem(("threads",), reason, "write the --threads it runs with")
    if written.kind != "gunicorn" and written.threads is not None:
        reason = f"a backend of kind {written.kind} has no threads"
        yield Problem(("threads",), reason, "remove it, or use kind: gunicorn")
    if len({one.address for one in written.addresses}) != len(written.addresses):
        yield Problem(("addresses",), "an address is there twice", "list each address once")
    for index, address in enumerate(backend.addresses):
        size = len(address.path.encode())
        if size > _MAX_SOCKET_PATH:
            reason = f"the path of the socket has {size} bytes ({address.path}), and {_MAX_SOCKET_PATH} fit"
            yield Problem(("addresses", index), reason, "use a shorter path")
    yield from _alone_problems(written)
    health = written.health
    if health.path is None and health.model_fields_set - {"server_errors"}:
        yield Problem(("health",), "there are no probes, so it changes nothing", "add path, such as /healthz")
    yield from _seat_problems(written)
    if written.kind != "gunicorn" and written.concurrency is None:
        yield from _without_limit(written)


def _alone_problems(written: BackendSettings) -> Iterator[Problem]:
    """What has no effect where there is no other address."""
    if len(written.addresses) > 1:
        return
    reason = "all requests go to the one address"
    if written.addresses[0].weight != 1:
        yield Problem(("addresses", 0, "weight"), reason, "remove it, or add another address")
    if written.slow_start is not None:
        yield Problem(("slow_start",), reason, "remove it, or add another address")


def _seat_problems(written: BackendSettings) -> Iterator[Problem]:
    if written.kind == "gunicorn" and written.concurrency is not None:
        reason = "a threaded backend takes as many requests as it has threads"
        yield Problem(("concurrency",), reason, "remove it, and write threads")
    if written.threads is not None and (written.streams or 0) >= written.threads:
        reason = f"streams would hold all {written.threads} threads"
        yield Problem(("streams",), reason, "choose a number below threads, or 0 for no streams")
    seats = (written.threads or written.concurrency or 0) * len(written.addresses)
    if written.reserve and 0 < seats <= written.reserve:
        reason = f"it would keep back all {seats} seats"
        yield Problem(("reserve",), reason, "choose a number below that of all seats")


def _without_limit(written: BackendSettings) -> Iterator[Problem]:
    """What has no effect where any number of requests may be inside."""
    if written.reserve is not None:
        reason = "there is no limit to keep seats from"
        yield Problem(("reserve",), reason, "remove it, or add concurrency")
    for name in ("length", "timeout"):
        if getattr(written.queue, name) is not None:
            reason = "any number of requests may be inside, so none waits"
            yield Problem(("queue", name), reason, "remove it, or add concurrency")


def shared_addresses(backends: Mapping[str, Backend]) -> Iterator[Problem]:
    """Two backends at one address would each fill it with as many requests as it has threads. Paths begin at
    the top."""
    owners: dict[tuple[str, int, str], str] = {}
    for name, backend in backends.items():
        for index, address in enumerate(backend.addresses):
            owner = owners.setdefault((address.host.lower(), address.port, address.path), name)
            if owner != name:
                path: Path = ("backends", name, "addresses", index)
                hint = "let the routes name one backend, or correct the address"
                yield Problem(path, f"the backend {owner!r} has this address too", hint)
