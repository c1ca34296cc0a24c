"""What of a config with problems of shape can still be compiled, so that all problems are found at once.

A config with a misspelt key may also name a backend that is not there. The compiler runs once, on the parts
whose shape is right, and knows what is missing, so that one mistake is not reported as two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.jwt.issuer import LOCAL
from gateway.core.model import Backend
from gateway.core.routing.compile_routes import DOCUMENTS
from gateway.core.routing.problems import Path, Problem
from gateway.core.routing.settings import RouteSettings, Settings, parse


@dataclass(frozen=True, slots=True)
class Parts:
    """What is compiled. routes: by their positions in the file. incomplete: the positions of routes of which
    a key is left out, so that it is unknown which requests they take. unknown: the names of backends that
    are left out. tenants, named_issuers, certificates: the names of all, those left out among them."""

    settings: Settings
    routes: Mapping[int, RouteSettings]
    incomplete: frozenset[int] = frozenset()
    unknown: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    named_issuers: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()

    @property
    def local_issuer(self) -> bool:
        """Whether the issuer of gateway.conf is one of them: unless it is switched off."""
        return self.settings.issuers.get(LOCAL, LOCAL) is not None

    def issuers(self) -> frozenset[str]:
        """Those that routes may name."""
        return self.named_issuers | {LOCAL} if self.local_issuer else self.named_issuers - {LOCAL}

    def backends(self, compiled: Mapping[str, Backend]) -> Mapping[str, Backend]:
        """What routes may name: the compiled backends, and in place of those left out one that any route
        could have for its target."""
        left_out = {name: Backend(name, "http", (), concurrency=1, identity="both") for name in self.unknown}
        return {**compiled, **left_out}


def whole(settings: Settings) -> Parts:
    """All of a config without problems of shape."""
    return Parts(
        settings,
        dict(enumerate(settings.routes)),
        tenants=frozenset(settings.tenants),
        named_issuers=frozenset(settings.issuers),
        certificates=frozenset(settings.certificates),
    )


def well_formed(data: Mapping[str, Any], problems: list[Problem]) -> Parts:
    """The parts of the plain data that have none of these problems, which are all those of its shape.

    Of a route only the keys with problems are left out, unless nothing can be said without them.
    """
    broken = {problem.path[:end] for problem in problems for end in range(1, len(problem.path) + 1)}
    kept = {key: value for key, value in data.items() if (key,) not in broken}
    for key in ("backends", "tenants", "issuers", "certificates"):
        if isinstance(data.get(key), Mapping):
            kept[key] = {name: one for name, one in data[key].items() if (key, name) not in broken}
    routes: dict[int, Any] = {}
    for position, written in enumerate(data["routes"] if isinstance(data.get("routes"), list) else ()):
        usable = _usable_route(position, written, broken)
        if usable is not None:
            routes[position] = usable
    settings = parse({**kept, "version": 1, "routes": list(routes.values())})
    named = data.get("backends", {})
    targets = {route.target for route in settings.routes} - {DOCUMENTS}
    return Parts(
        settings,
        dict(zip(routes, settings.routes, strict=True)),
        frozenset(position for position in routes if ("routes", position) in broken),
        frozenset(named if isinstance(named, Mapping) else targets) - settings.backends.keys(),
        frozenset(_names(data, "tenants", settings)),
        frozenset(_names(data, "issuers", settings)),
        frozenset(_names(data, "certificates", settings)),
    )


def _names(data: Mapping[str, Any], key: str, settings: Settings) -> Iterable[str]:
    """What a section that has problems may name: with no names at all, whatever is asked for elsewhere."""
    named = data.get(key, {})
    if isinstance(named, Mapping):
        return map(str, named)
    if key == "issuers":
        return [name for route in settings.routes for name in route.issuers]
    if key == "certificates":
        return [key]
    written = [issuer for issuer in settings.issuers.values() if issuer is not None]
    return [text for one in written for text in (*one.tenants, one.tenant or "")]


def _usable_route(position: int, written: Any, broken: set[Path]) -> dict[str, Any] | None:
    """A route without its broken keys; None when it has no path or no target without them. broken: the paths
    at or below which there is a problem. One that lost its name gets a name that no other has."""
    path: Path = ("routes", position)
    if not isinstance(written, Mapping) or {(*path, "path"), (*path, "target")} & broken:
        return None
    kept = {key: value for key, value in written.items() if (*path, key) not in broken}
    return {"name": f"left-out-{position}", **kept}
