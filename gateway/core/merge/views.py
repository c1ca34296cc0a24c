"""What the data planes of one gateway show of themselves, as one: what they hold is summed, of what they find
the worst is shown. Each function takes what each plane says, and of one it gives just that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Said = Mapping[str, Any]
_WORST = ("closed", "half-open", "open")  # circuits
_SHOWN = 20  # requests of a route


def admission(planes: Sequence[Iterable[tuple[str, Said]]]) -> dict[str, Said]:
    """The backends' seats by name, see BackendQueue.state."""
    found: dict[str, Said] = {}
    for plane in planes:
        found = _by_name(found, dict(plane), _queues)
    return found


def _queues(one: Said, other: Said) -> dict[str, Any]:
    both, streams = (one, other), (one["streams"], other["streams"])
    return {
        **one,
        **{name: _limit(both, name) for name in ("seats", "reserve")},
        **{name: _all(both, name) for name in ("in_use", "waiting")},
        "streams": {"seats": _limit(streams, "seats"), "in_use": _all(streams, "in_use")},
        "addresses": _by_name(one["addresses"], other["addresses"], _address),
        **{name: _counts(both, name) for name in ("waiting_by_tenant", "in_use_by_tenant", "refused")},
        "waits": {name: _most((one["waits"], other["waits"]), name) for name in ("p50", "p99")},
        **{name: _most(both, name) for name in ("virtual_time", "service_time", "active_tenants")},
    }


def _address(one: Said, other: Said) -> dict[str, Any]:
    held = {name: one[name] + other[name] for name in ("in_use", "streams")}
    return {**held, "usable": one["usable"] and other["usable"]}


def health(planes: Sequence[Iterable[Said]]) -> list[Said]:
    """The backends' circuits, see Health.states; of each address that of the plane that has it worst."""
    found: dict[str, Said] = {}
    for plane in planes:
        found = _by_name(found, {backend["name"]: backend for backend in plane}, _circuits)
    return list(found.values())


def _circuits(one: Said, other: Said) -> dict[str, Any]:
    own, others = ({state["address"]: state for state in of["addresses"]} for of in (one, other))
    addresses = _by_name(own, others, lambda a, b: max(a, b, key=_badness))
    healthy = one["healthy"] and other["healthy"]
    return {"name": one["name"], "healthy": healthy, "addresses": list(addresses.values())}


def _badness(circuit: Said) -> tuple[int, int]:
    return _WORST.index(circuit["state"]), circuit["failures"]


def credentials(planes: Sequence[Said]) -> dict[str, Any]:
    """The issuers' keys and what became of credentials."""
    issuers: dict[str, Said] = {}
    for plane in planes:
        issuers = _by_name(issuers, {issuer["name"]: issuer for issuer in plane["issuers"]}, _issuers)
    return {
        "issuers": list(issuers.values()),
        "api_keys": _sums([plane["api_keys"] for plane in planes]),
        "cached": sum(plane["cached"] for plane in planes),
    }


def _issuers(one: Said, other: Said) -> dict[str, Any]:
    both = one, other
    failed = max(
        (state["last_failure"] for state in both if state["last_failure"]),
        key=lambda failure: (not failure["over"], failure["at"]),
        default=None,
    )
    fetching = [state["next_fetch_seconds"] for state in both if state["next_fetch_seconds"] is not None]
    return {
        **one,
        "age_seconds": _most(both, "age_seconds"),
        "next_fetch_seconds": min(fetching, default=None),
        "last_failure": failed,
        **{name: one[name] + other[name] for name in ("fetches", "failures")},
        "tokens": _sums([one["tokens"], other["tokens"]]),
    }


def tenant(planes: Sequence[Said]) -> dict[str, Any]:
    """Where a tenant has requests, by backend, those of today that are known of, and the seconds that are
    left of it."""
    backends: dict[str, Said] = {}
    for plane in planes:
        backends = _by_name(backends, plane["backends"], lambda a, b: _sums([a, b]))
    used, left = (max((plane[name] for plane in planes), default=0) for name in ("used", "left"))
    return {"backends": backends, "used": used, "left": left}


def recent(planes: Sequence[Said]) -> dict[str, Any]:
    """The last requests of a route, see RecentRequests.of_route."""
    codes: Counter[tuple[int, str | None]] = Counter()
    for plane in planes:
        codes.update({(one["status"], one["code"]): one["count"] for one in plane["codes"]})
    last = sorted((one for plane in planes for one in plane["last"]), key=lambda one: -one["at"])
    counts = [
        {"status": status, "code": code, "count": count} for (status, code), count in codes.most_common()
    ]
    since = min((plane["since"] for plane in planes if plane["since"] is not None), default=None)
    requests = sum(plane["requests"] for plane in planes)
    return {"requests": requests, "since": since, "codes": counts, "last": last[:_SHOWN]}


def _by_name(one: Mapping[str, Any], other: Mapping[str, Any], both: Any) -> dict[str, Any]:
    """All of both by name; both(a, b) for what is in both."""
    common = {name: both(one[name], other[name]) for name in one if name in other}
    return {**one, **other, **common}


def _values(states: Iterable[Said], name: str) -> Iterator[Any]:
    return (state[name] for state in states)


def _all(states: Iterable[Said], name: str) -> int:
    return sum(_values(states, name))


def _limit(states: Iterable[Said], name: str) -> int | None:
    """Of all planes together, as each of them knows it; None where there is none."""
    numbers = list(_values(states, name))
    return None if None in numbers else max(numbers)


def _most(states: Iterable[Said], name: str) -> Any:
    return max((number for number in _values(states, name) if number is not None), default=None)


def _counts(states: Iterable[Said], name: str) -> dict[str, int]:
    return _sums(list(_values(states, name)))


def _sums(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
