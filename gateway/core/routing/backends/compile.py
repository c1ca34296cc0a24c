"""A backend of the routing config as compiled, and what is wrong with it.

A setting that can never have an effect is refused, so that nobody relies on a limit that is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

from gateway.core.model import FRESH, Address, Backend, BackendTls
from gateway.core.routing.backends.each import is_name
from gateway.core.routing.backends.settings import (
    AddressSettings,
    BackendSettings,
    ResolveSettings,
    TlsSettings,
)
from gateway.core.routing.problems import Path, Problem

_MAX_SOCKET_PATH = 107  # bytes; unix(7): sun_path holds 108 with the NUL at its end
_QUEUE_LENGTH = 1000
_SECURED = "https://"


def compile_backend(name: str, written: BackendSettings, sockets: str, folder: str = "") -> Backend:
    """The backend, with the defaults of what is not written. sockets: the folder that relative unix:
    addresses are in. folder: the one of relative files."""
    threads, streams = written.threads or 0, written.streams
    if threads and streams is None:
        streams = max(1, threads // 4) if threads > 1 else 0
    tls = _tls(written.tls, folder)
    health = written.health.compiled()
    secured = [one.address for one in written.addresses if one.address.startswith(_SECURED)]
    if secured and written.health.host is None:  # servers refuse a Host that is not whom TLS was begun with
        host = tls.server_name or secured[0].removeprefix(_SECURED).rstrip("/").rpartition(":")[0]
        health = replace(health, host=host)
    return Backend(
        name=name,
        kind=written.kind,
        addresses=tuple(_address(one, sockets, tls, written.resolve) for one in written.addresses),
        threads=threads,
        health=health,
        concurrency=written.concurrency or 0,
        streams=streams,
        reserve=written.reserve,
        slow_start=written.slow_start or 0.0,
        resolve_each=written.resolve.each,
        queue_length=_QUEUE_LENGTH if written.queue.length is None else written.queue.length,
        queue_timeout=written.queue.timeout,
        **({"identity": written.identity} if written.identity else {}),
    )


def _tls(written: TlsSettings, folder: str) -> BackendTls:
    files = {
        name: str(PurePath(folder) / path)
        for name in ("ca", "certificate", "key")
        if (path := getattr(written, name)) is not None
    }
    return BackendTls(written.server_name or "", written.verify, **files)


def _address(written: AddressSettings, sockets: str, tls: BackendTls, resolve: ResolveSettings) -> Address:
    text, weight = written.address, float(written.weight)
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        return Address(text, path=path if path.startswith("/") else f"{sockets}/{path}", weight=weight)
    host, _, port = text.partition("://")[2].rstrip("/").rpartition(":")
    return Address(
        text,
        host=host.strip("[]"),
        port=int(port),
        weight=weight,
        tls=tls if text.startswith(_SECURED) else None,
        fresh=resolve.interval or FRESH,
    )


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
    yield from _alone_problems(written, backend)
    yield from _tls_problems(written)
    health = written.health
    if health.path is None and health.model_fields_set - {"server_errors"}:
        yield Problem(("health",), "there are no probes, so it changes nothing", "add path, such as /healthz")
    yield from _seat_problems(written)
    if written.kind != "gunicorn" and written.concurrency is None:
        yield from _without_limit(written)


def _tls_problems(written: BackendSettings) -> Iterator[Problem]:
    tls = written.tls
    if tls.model_fields_set and not any(one.address.startswith(_SECURED) for one in written.addresses):
        yield Problem(("tls",), "no address begins with https://", "remove it, or write https:// addresses")
    if not tls.verify and tls.ca is not None:
        yield Problem(("tls", "ca"), "nothing is checked by it (verify: false)", "remove one of the two")
    if tls.key is not None and tls.certificate is None:
        yield Problem(("tls", "key"), "it is of no certificate", "write certificate, or remove it")


def _alone_problems(written: BackendSettings, backend: Backend) -> Iterator[Problem]:
    """What has no effect where there is no other address, or no name."""
    if written.resolve.model_fields_set and not any(is_name(one) for one in backend.addresses):
        yield Problem(("resolve",), "no address has a name", "remove it, or write names in the addresses")
    if len(written.addresses) > 1 or written.resolve.each:
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
