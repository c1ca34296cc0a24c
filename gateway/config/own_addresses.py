"""Finds backends whose address is a listener of this gateway: a request to one would come back to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from os.path import realpath
from socket import AF_INET, AF_INET6, SOCK_DGRAM, socket

from gateway.core.model import Address, Backend
from gateway.core.process.listeners import Listen, is_address, plain, reaches
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem
from gateway.edge.backend import resolver

_LOOKUP_TIMEOUT = 2.0  # seconds; a name that is not resolved by then counts as another host's

# The section of gateway.conf that a listener is written in, and the listener.
OwnListener = tuple[str, Listen]


def of(config: ProcessConfig, bound: Iterable[Listen] = ()) -> list[OwnListener]:
    """The listeners of a process; none where requests may loop (via_loops). bound: the public listeners as
    they were bound, where the config says port 0."""
    if config.via_loops:
        return []
    public = [("[gateway]", listen) for listen in (*config.listen, *bound)]
    return public + [("[admin]", listen) for listen in config.admin]


def problems(
    backends: Mapping[str, Backend],
    own: Iterable[OwnListener],
    find: Callable[[str], tuple[str, ...]] = resolver.lookup,
) -> list[Problem]:
    """A problem for each address that leads to one of these listeners. find: resolves a name to IP addresses.
    Blocks while names are resolved, which happens only for addresses with the port of a listener."""
    listeners = list(own)
    found = []
    for name, backend in backends.items():
        for index, address in enumerate(backend.addresses):
            near = [one for one in listeners if _may_lead_to(one[1], address)]
            hosts = _hosts(address.host, find) if near and not address.path else ()
            for section, listen in near:
                if listen.path or any(_leads_to(host, listen, find) for host in hosts):
                    reason = f"it is this gateway's own address ({section} listen = {listen})"
                    hint = (
                        "write the backend's address; if requests are to come round, set [gateway] via_loops"
                    )
                    found.append(Problem(("backends", name, "addresses", index), reason, hint))
                    break
    return found


def _may_lead_to(listen: Listen, address: Address) -> bool:
    """Whether the paths are the same, or the ports."""
    if listen.path and address.path:
        return realpath(address.path) == realpath(listen.path)
    return listen.port == address.port and not (listen.path or address.path)


def _leads_to(host: str, listen: Listen, find: Callable[[str], tuple[str, ...]]) -> bool:
    return any(reaches(host, bound, _is_ours) for bound in _hosts(plain(listen.host), find))


def _hosts(host: str, find: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """The IP addresses of a host; none when they are not resolved in time."""
    if is_address(host):
        return (host,)
    resolved: list[tuple[str, ...]] = []

    def resolve() -> None:
        try:
            resolved.append(find(host))
        except (OSError, UnicodeError):
            return

    thread = threading.Thread(target=resolve, name=f"resolve {host}", daemon=True)
    thread.start()
    thread.join(_LOOKUP_TIMEOUT)
    return resolved[0] if resolved else ()


def _is_ours(host: str) -> bool:
    """Whether this machine has the IP address: only its own can be bound."""
    try:
        with socket(AF_INET6 if ":" in host else AF_INET, SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True
