"""The routing table: from method, host and path to a route, at a cost that does not grow with the routes.

One trie of path segments per host. At each segment a literal beats `{param}`, which beats `{rest*}`; the
deepest match wins. A host's own routes beat those of any host. The method is part of the match: a path
that only answers other methods is 405 with Allow, a path that nothing answers is 404.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.core import paths
from gateway.core.errors import BadRequest, MethodNotAllowed, NoRoute
from gateway.core.model import Route

T = TypeVar("T")
_EMPTY: Mapping[str, str] = {}
_param = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\*?)\}")


class PatternError(ValueError):
    """A path pattern that cannot be compiled; the text says why and how to mend it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled path pattern: literals are canonical, None stands for a parameter, rest names the tail.

    params: each parameter's name and its index in the path split at the slashes (which begins with "").
    """

    segments: tuple[str | None, ...]
    params: tuple[tuple[str, int], ...]
    rest: str = ""


def compile_pattern(path: str) -> Pattern:
    """Compile `/a/{b}/{c*}`. Raises PatternError."""
    if not path.startswith("/"):
        raise PatternError("a path starts with a slash")
    segments: list[str | None] = []
    params: dict[str, int] = {}
    parts = path.split("/")[1:]
    for index, part in enumerate(parts):
        found = _param.fullmatch(part)
        if found is None:
            segments.append(_literal(part, last=index == len(parts) - 1))
            continue
        name, star = found.groups()
        if name in params:
            raise PatternError(f"the parameter {{{name}}} is there twice; give each its own name")
        if star and index != len(parts) - 1:
            raise PatternError(f"{{{name}*}} takes all the rest and so must be the last segment")
        if star:
            return Pattern(tuple(segments), tuple(params.items()), rest=name)
        params[name] = index + 1
        segments.append(None)
    return Pattern(tuple(segments), tuple(params.items()))


def _literal(part: str, *, last: bool) -> str:
    if "{" in part or "}" in part:
        raise PatternError(f"a parameter fills a whole segment, as in /{{name}}/; {part!r} does not")
    if not part and not last:
        raise PatternError("it holds an empty segment (two slashes in a row)")
    try:
        return paths.canonical("/" + part)[1:]
    except BadRequest as error:
        raise PatternError(f"{error.detail} ({part!r})") from None


class _Node(Generic[T]):
    """One segment of the trie. Routes by method; the key "" holds the route for any method."""

    __slots__ = ("children", "leaf", "param", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.param: _Node[T] | None = None
        self.leaf: dict[str, _Entry[T]] | None = None
        self.rest: dict[str, _Entry[T]] | None = None


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """A route at its place. params: each parameter's name and the index of its segment."""

    route: Route[T]
    params: tuple[tuple[str, int], ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Clash:
    """A route that can never match some of its requests, because other routes take them all."""

    loser: str
    winners: tuple[str, ...]
    methods: tuple[str, ...]
    whole: bool


class RoutingTable(Generic[T]):
    """Compiled routes. Made by `build`, then never changed."""

    __slots__ = ("_any", "_hosts", "routes")

    def __init__(self) -> None:
        self.routes: tuple[Route[T], ...] = ()
        self._any: _Node[T] = _Node()
        self._hosts: dict[str, _Node[T]] = {}

    def match(self, method: str, host: str, path: str) -> tuple[Route[T], Mapping[str, str]]:
        """The route for a canonical path, and its decoded parameters.

        host: lower case, without port. Raises NoRoute, MethodNotAllowed, BadRequest (a parameter that is
        not UTF-8).
        """
        segments = path.split("/")
        allowed: set[str] = set()
        if self._hosts:
            own = self._hosts.get(host)
            if own is not None:
                found = _walk(own, segments, 1, method, allowed)
                if found is not None:
                    return found[0].route, _params(found, segments)
        found = _walk(self._any, segments, 1, method, allowed)
        if found is not None:
            return found[0].route, _params(found, segments)
        if allowed:
            raise MethodNotAllowed(", ".join(sorted(allowed)))
        raise NoRoute("No route takes this path.")


# What a walk gives: the entry, and the index at which the rest began (-1 without one).
_Found = tuple[_Entry[T], int]


def _walk(
    node: _Node[T], segments: list[str], index: int, method: str, allowed: set[str]
) -> _Found[T] | None:
    """Depth first, most specific first. Steps back happen only where patterns share a beginning."""
    if index == len(segments):
        if node.leaf is not None:
            entry = _pick(node.leaf, method, allowed)
            if entry is not None:
                return entry, -1
    else:
        segment = segments[index]
        child = node.children.get(segment)
        if child is not None:
            found = _walk(child, segments, index + 1, method, allowed)
            if found is not None:
                return found
        if node.param is not None and segment:
            found = _walk(node.param, segments, index + 1, method, allowed)
            if found is not None:
                return found
    if node.rest is not None:
        entry = _pick(node.rest, method, allowed)
        if entry is not None:
            return entry, index
    return None


def _pick(entries: dict[str, _Entry[T]], method: str, allowed: set[str]) -> _Entry[T] | None:
    entry = entries.get(method)
    if entry is None and method == "HEAD":
        entry = entries.get("GET")  # RFC 9110 section 9.1: who answers GET answers HEAD
    if entry is None:
        entry = entries.get("")
    if entry is None:
        allowed.update(entries)
        if "GET" in entries:
            allowed.add("HEAD")
    return entry


def _params(found: _Found[T], segments: list[str]) -> Mapping[str, str]:
    entry, rest_at = found
    if not entry.params and not entry.rest:
        return _EMPTY
    values = {name: paths.decode(segments[index]) for name, index in entry.params}
    if entry.rest:
        values[entry.rest] = paths.decode("/".join(segments[rest_at:]))
    return values


def build(routes: Iterable[Route[T]]) -> tuple[RoutingTable[T], list[Clash]]:
    """Compile routes into a table, and name those that can never match. Raises PatternError.

    A path that is more specific never hides another one whole (there is always a longer or different path
    left), so a route is hidden only by an equal pattern on the same host, for the methods they share. The
    first one written wins.
    """
    table: RoutingTable[T] = RoutingTable()
    kept: list[Route[T]] = []
    clashes: list[Clash] = []
    for route in routes:
        node = table._any if not route.host else table._hosts.setdefault(route.host, _Node())
        clashes.extend(_insert(node, compile_pattern(route.path), route))
        kept.append(route)
    table.routes = tuple(kept)
    return table, clashes


def _insert(node: _Node[T], pattern: Pattern, route: Route[T]) -> list[Clash]:
    for segment in pattern.segments:
        if segment is None:
            if node.param is None:
                node.param = _Node()
            node = node.param
        else:
            node = node.children.setdefault(segment, _Node())
    if pattern.rest:
        node.rest = entries = {} if node.rest is None else node.rest
    else:
        node.leaf = entries = {} if node.leaf is None else node.leaf
    return _place(entries, _Entry(route, pattern.params, pattern.rest), route)


def _place(entries: dict[str, _Entry[T]], entry: _Entry[T], route: Route[T]) -> list[Clash]:
    mine = route.methods or frozenset({""})
    taken = sorted(mine & entries.keys())
    for method in mine - entries.keys():
        entries[method] = entry
    if not taken:
        return []
    winners = tuple(dict.fromkeys(entries[method].route.name for method in taken))
    return [Clash(route.name, winners, tuple(m or "any method" for m in taken), len(taken) == len(mine))]
