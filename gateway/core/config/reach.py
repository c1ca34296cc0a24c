"""What an editor's routes may reach: that a route's name is theirs makes neither each backend theirs nor each
path. Whether a request that was another's goes to a route of theirs is asked of the routing tables before and
after, with one path for each way in which two patterns overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.core import front_page
from gateway.core.config.differences import Change
from gateway.core.config.operator import Operator, Role
from gateway.core.errors import BadRequest, MethodNotAllowed, NoRoute
from gateway.core.model import Route
from gateway.core.own_endpoints import OwnEndpoint, own_route
from gateway.core.routing.compile_routes import DOCUMENTS
from gateway.core.routing.settings import RouteSettings
from gateway.core.routing.table import Pattern, RoutingTable, build, compile_pattern

_READ = ("name", "path", "target", "host", "methods")  # of a route, what this is about
_ANY = "\0"  # a segment, and a method, that no route can name


class _Read(NamedTuple):
    """written: what it was read from."""

    route: Route[None, None]
    pattern: Pattern
    written: Mapping[str, Any]


_Routes = dict[str, _Read]


@dataclass(frozen=True, slots=True)
class Overreach:
    """A route that is an editor's by its name, and reaches what is not. reason: goes on after the name."""

    name: str
    action: str
    reason: str


def overreaches(operator: Operator, before: Any, after: Any, changes: Iterable[Change]) -> list[Overreach]:
    """What the changed routes of an editor reach that is not theirs; each route once. before, after: plain
    data, the first of a config that compiles. A route that is not well-formed is left out."""
    changed = {one.name: one.action for one in changes if one.kind == "routes" and one.action != "removed"}
    if operator.role is not Role.EDITOR or not changed:
        return []
    old = _routes(before, {})
    new = _routes(after, old)
    backends = {*(after.get("backends") or ()), DOCUMENTS}  # of another one the compiler says that it is none
    ours = [one.route for one in old.values() if operator.may_change("routes", one.route.name)]
    reached = {route.target_name for route in ours}
    taking: _Taking | None = None  # made where a route is new or has moved
    found = []
    for name in changed.keys() & new.keys():
        route = new[name].route
        target, reason = route.target_name, ""
        if target in backends - reached and not operator.may_change("backends", target):
            reason = f"targets {target}, which neither is theirs nor had a route of theirs"
        elif name not in old or _place(old[name].route) != _place(route):
            taking = taking or _Taking(operator, old, new, _own(before))
            reason = taking.by(name)
        if reason:
            found.append(Overreach(name, changed[name], reason))
    return sorted(found, key=lambda one: one.name)


class _Taking:
    """Finds requests that go to a route that is not the operator's before, and to one of theirs after. own:
    the gateway's own routes, which have what no other route takes."""

    def __init__(self, operator: Operator, old: _Routes, new: _Routes, own: _Routes) -> None:
        self._operator = operator
        self._own = own
        self._all = own | old
        self._new = new
        self._before, _ = build(one.route for one in old.values())
        self._after, _ = build(one.route for one in new.values())
        patterns = [one.pattern for one in (*old.values(), *new.values())]
        self._deepest = max(len(pattern.segments) for pattern in patterns)
        self._foreign: dict[str | None, list[_Read]] = {}  # by the first segment
        for one in (*old.values(), *own.values()):
            if not operator.may_change("routes", one.route.name) or one.route.name in own:
                self._foreign.setdefault(_first(one.pattern), []).append(one)

    def by(self, name: str) -> str:
        """What the route takes, "" for nothing."""
        mine, pattern, _ = self._new[name]
        first = _first(pattern)
        near = self._foreign if first is None else (first, None)
        for foreign, other, _ in (one for key in near for one in self._foreign.get(key, ())):
            if mine.host and foreign.host and mine.host != foreign.host:
                continue
            host = mine.host or foreign.host
            for path in _shared(pattern, other, self._deepest):
                for method in _methods(mine, foreign):
                    loser = self._loser(method, host, path, foreign.name)
                    if loser and _matched(self._after, method, host, path) == name:
                        of = self._all[loser].route.path
                        return f"takes requests of the route {loser} ({of}), which is not theirs"
        return ""

    def _loser(self, method: str, host: str, path: str, foreign: str) -> str:
        """Whose the request was, "" where that is nobody or the operator."""
        name = _matched(self._before, method, host, path)
        if name is None:
            return foreign if foreign in self._own else ""
        return "" if self._operator.may_change("routes", name) else name


def _routes(data: Any, known: _Routes) -> _Routes:
    """By name. known: routes that were read before, of which most are there again."""
    found: _Routes = {}
    routes = data.get("routes") if isinstance(data, Mapping) else None
    for one in routes if isinstance(routes, list) else ():
        if not isinstance(one, Mapping):
            continue
        written = {key: one[key] for key in _READ if key in one}
        same = known.get(str(one.get("name")))
        if same is not None and same.written == written:
            found[same.route.name] = same
            continue
        with suppress(ValueError):  # of pydantic, or of the pattern
            read = RouteSettings.model_validate(written)
            host, methods = read.host or "", frozenset(read.methods)
            route: Route[None, None] = Route(read.name, read.path, read.target, None, None, host, methods)
            found[read.name] = _Read(route, compile_pattern(read.path), written)
    return found


def _own(data: Any) -> _Routes:
    routes: list[Route[None, None]] = [own_route(point, None, None, None) for point in OwnEndpoint]
    if data.get("front_page", True) not in (False, None):
        name, methods = front_page.NAME, front_page.METHODS
        routes.append(Route(name, front_page.PATH, name, None, methods=methods))
    return {route.name: _Read(route, compile_pattern(route.path), {}) for route in routes}


def _place(route: Route[None, None]) -> tuple[Any, ...]:
    return route.path, route.host, route.methods


def _first(pattern: Pattern) -> str | None:
    return pattern.segments[0] if pattern.segments else None


def _methods(one: Route[None, None], other: Route[None, None]) -> Iterable[str]:
    """Those that both take; GET comes with HEAD."""
    mine, theirs = (
        route.methods | ({"HEAD"} if "GET" in route.methods else frozenset()) for route in (one, other)
    )
    if not mine or not theirs:
        return mine or theirs or (_ANY,)
    return mine & theirs


def _shared(one: Pattern, other: Pattern, deepest: int) -> Iterator[str]:
    """Paths that both patterns take: as general a one as there is, and of two with a rest one of each length
    at which another pattern may end."""
    longest = max(len(one.segments), len(other.segments))
    segments = []
    for index in range(longest):
        here = [_at(pattern, index) for pattern in (one, other)]
        literals = {segment for segment, _ in here if segment is not None}
        if len(literals) > 1 or not all(takes for _, takes in here):
            return
        segment = literals.pop() if literals else _ANY
        if not segment and any(
            index < len(pattern.segments) and pattern.segments[index] is None for pattern in (one, other)
        ):
            return  # a parameter is never empty
        segments.append(segment)
    if not (one.rest and other.rest):
        yield "/" + "/".join(segments)
        return
    for length in range(deepest - longest + 2):
        path = "".join(f"/{segment}" for segment in (*segments, *[_ANY] * length))
        yield from (path, f"{path}/") if path else ("/",)


def _at(pattern: Pattern, index: int) -> tuple[str | None, bool]:
    """The literal at an index, None for any segment; and whether there may be a segment."""
    if index < len(pattern.segments):
        return pattern.segments[index], True
    return None, bool(pattern.rest)


def _matched(table: RoutingTable[None, None], method: str, host: str, path: str) -> str | None:
    """The route's name; "" where routes take other methods of the path only, None where none takes it."""
    try:
        return table.match(method, host, path)[0].name
    except (MethodNotAllowed, BadRequest):
        return ""
    except NoRoute:
        return None
