"""Addresses of backends that are this gateway's own: a request to one would come back to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from socket import AF_INET, AF_INET6, SOCK_DGRAM, socket

from gateway.core.model import Backend
from gateway.core.process.listeners import Listen, is_address, plain, reaches, text
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem
from gateway.edge.backend import resolver

_PATIENCE = 2.0  # seconds for a name server; one that keeps silent proves nothing

# The key that a listener is written under, and its address.
Own = tuple[str, Listen]


def of(config: ProcessConfig, bound: Iterable[Listen] = ()) -> list[Own]:
    """The listeners of a process; none where requests may come round. bound: the public ones as they were
    bound, where a port was any free one."""
    if config.via_loops:
        return []
    public = [("[gateway]", listen) for listen in (*config.listen, *bound)]
    return public + [("[admin]", listen) for listen in config.admin]


def problems(
    backends: Mapping[str, Backend],
    own: Iterable[Own],
    find: Callable[[str], tuple[str, ...]] = resolver.lookup,
) -> list[Problem]:
    """A problem for each address that leads to one of these listeners. Blocks while names are looked up: only
    those with the port of a listener are."""
    listeners = list(own)
    found = []
    for name, backend in backends.items():
        for index, address in enumerate(backend.addresses):
            same_port = [one for one in listeners if one[1][1] == address.port and not address.path]
            hosts = _hosts(address.host, find) if same_port else ()
            for key, listen in same_port:
                if any(_leads(host, listen, find) for host in hosts):
                    reason = f"it is this gateway's own address ({key} listen = {text(listen)})"
                    hint = (
                        "write the backend's address; if requests are to come round, set [gateway] via_loops"
                    )
                    found.append(Problem(("backends", name, "addresses", index), reason, hint))
                    break
    return found


def _leads(host: str, listen: Listen, find: Callable[[str], tuple[str, ...]]) -> bool:
    return any(reaches(host, bound, _is_ours) for bound in _hosts(plain(listen[0]), find))


def _hosts(host: str, find: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """The addresses of a host, as far as they are told in time."""
    if is_address(host):
        return (host,)
    told: list[tuple[str, ...]] = []

    def ask() -> None:
        try:
            told.append(find(host))
        except (OSError, UnicodeError):
            return

    thread = threading.Thread(target=ask, name=f"resolve {host}", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return told[0] if told else ()


def _is_ours(host: str) -> bool:
    """Whether this machine has the address: only such a one can be bound."""
    try:
        with socket(AF_INET6 if ":" in host else AF_INET, SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True
