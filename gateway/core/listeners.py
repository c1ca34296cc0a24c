"""Whether two listeners would take the same port. Pure: no name is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address

Listen = tuple[str, int]

_ANY4, _ANY6 = "0.0.0.0", "::"  # noqa: S104 - compared, not bound
_LOCALHOST = frozenset({"127.0.0.1", "::1"})


def clash(one: Listen, other: Listen) -> bool:
    """Whether they cannot both be bound, as far as their texts say. Port 0 is any free one.

    `::` takes IPv4 too, as systems bind it by default.
    """
    if one[1] != other[1] or one[1] == 0:
        return False
    ours, theirs = _hosts(one[0]), _hosts(other[0])
    return bool(ours & theirs) or _covers(ours, theirs) or _covers(theirs, ours)


def reaches(host: str, bound: str, is_ours: Callable[[str], bool]) -> bool:
    """Whether a connection to an address arrives at a listener on the same port that is bound to another one,
    both IPv4 or IPv6. is_ours: whether this machine has an address. No address at all (0.0.0.0, ::) is this
    machine for who connects, and every one of its addresses for who listens; `::` takes IPv4 too."""
    target, listens = _plain(host), _plain(bound)
    if listens in (_ANY4, _ANY6):
        if target in (_ANY4, _ANY6) or ip_address(target.partition("%")[0]).is_loopback:
            return listens == _ANY6 or ":" not in target
        return (listens == _ANY6 or ":" not in target) and is_ours(target)
    if target in (_ANY4, _ANY6):
        target = "127.0.0.1" if target == _ANY4 else "::1"
    return target == listens


def _plain(host: str) -> str:
    """An address in its one spelling; an IPv4 address in an IPv6 one is that."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def first_clash(listeners: Iterable[Listen], others: Iterable[Listen]) -> tuple[Listen, Listen] | None:
    """The first of these and the one of the others that it clashes with."""
    others = list(others)
    return next(((one, other) for one in listeners for other in others if clash(one, other)), None)


def text(listen: Listen) -> str:
    """As it is written in the config."""
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hosts(host: str) -> frozenset[str]:
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost":
        return _LOCALHOST
    try:
        address = ip_address(host)
    except ValueError:
        return frozenset({host})
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return frozenset({str(mapped or address)})


def _covers(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether ours is every address of a kind that theirs is one of. A name may be of either kind."""
    if _ANY6 in ours:
        return True
    return _ANY4 in ours and any(":" not in host for host in theirs)
