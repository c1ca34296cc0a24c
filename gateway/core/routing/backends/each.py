"""Names among a backend's addresses that stand for several servers: each of their addresses is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.core.model import Address, Backend
from gateway.core.process.listeners import is_address


def is_name(address: Address) -> bool:
    """Whether its host has to be resolved."""
    return not address.path and not is_address(address.host)


def fresh_hosts(addresses: Iterable[Address]) -> dict[str, float]:
    """The hosts of addresses, each with the seconds that what it was resolved to is taken for."""
    hosts: dict[str, float] = {}
    for address in addresses:
        hosts[address.host] = min(address.fresh, hosts.get(address.host, address.fresh))
    return hosts


def each_address(backend: Backend, known: Callable[[str], tuple[str, ...]]) -> Backend:
    """The backend with each address of its names in place of the name. known: the IP addresses of a host;
    while there are none the name stays, and stands for one."""
    if not backend.resolve_each:
        return backend
    found: dict[tuple[str, int, str], Address] = {}
    for address in backend.addresses:
        for one in _each(address, known(address.host)) if is_name(address) else (address,):
            found.setdefault((one.host, one.port, one.path), one)
    return replace(backend, addresses=tuple(found.values()))


def _each(address: Address, hosts: tuple[str, ...]) -> tuple[Address, ...]:
    """Of one family: a server that has an address of each would count as two, with twice its threads."""
    same = sorted(host for host in hosts if (":" in host) is (":" in hosts[0]))
    tls = address.tls
    if tls is not None and not tls.server_name:
        tls = replace(tls, server_name=address.host)
    return tuple(
        replace(address, text=f"{address.text} ({host})", host=host, tls=tls) for host in same
    ) or (address,)
