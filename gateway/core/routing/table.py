"""The routing table: from method, host and path to a route, at a cost that does not grow with the routes.

Whole literal paths are in one dict per host, patterns in a trie of path segments. At each segment a literal
beats `{param}`, which beats `{rest*}`; the deepest match wins. A host's own routes beat those of any host.
The method is part of the match: a path whose routes only take other methods is 405 with Allow, a path without
a route is 404.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from sys import intern
from typing import Generic, TypeVar

from gateway.core.errors import BadRequest, MethodNotAllowed, NoRoute
from gateway.core.http.request_target import canonical_path, decode_path_loosely, decode_segment
from gateway.core.methods import COMMON
from gateway.core.model import Route

T = TypeVar("T")
A = TypeVar("A")
Shape = tuple[tuple[str | None, ...], bool]  # the segments of a pattern, and whether it takes the rest
_EMPTY: Mapping[str, str] = {}
# Beside those that a route lists, for Allow. OPTIONS is named only where it is listed.
_ALLOWED = tuple(method for method in COMMON if method != "OPTIONS")
_param = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\*?)\}")


class PatternError(ValueError):
    """A path pattern that cannot be compiled; the text says why, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled path pattern: literals are canonical, None stands for a parameter, rest names the tail.

    params: each parameter's name and its index in the path split at the slashes (which begins with "").
    """

    segments: tuple[str | None, ...]
    params: tuple[tuple[str, int], ...]
    rest: str = ""

    @property
    def shape(self) -> Shape:
        """What it matches, whatever its parameters are called."""
        return self.segments, bool(self.rest)


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
        return canonical_path("/" + part)[1:]
    except BadRequest as error:
        raise PatternError(f"{error.detail} ({part!r})") from None


class _Node(Generic[T, A]):
    """One segment of the trie. Made small: with many routes what costs is memory that is not in the cache."""

    __slots__ = ("children", "leaf", "param", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T, A]] | None = None
        self.param: _Node[T, A] | None = None
        self.leaf: tuple[_Entry[T, A], ...] = ()
        self.rest: tuple[_Entry[T, A], ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T, A]):
    """A route in the table. methods: those that it takes here, empty for any. params: each parameter's
    name and the index of its segment."""

    route: Route[T, A]
    methods: frozenset[str]
    params: tuple[tuple[str, int], ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Clash:
    """A route that can never match some of its requests, because other routes take them all."""

    loser: str
    winners: tuple[str, ...]
    methods: tuple[str, ...]
    whole: bool


class _Host(Generic[T, A]):
    """The routes of one host. literal: whole paths without a parameter, which beat all others."""

    __slots__ = ("literal", "root")

    def __init__(self) -> None:
        self.literal: dict[str, tuple[_Entry[T, A], ...]] = {}
        self.root: _Node[T, A] = _Node()


class RoutingTable(Generic[T, A]):
    """Compiled routes. Made by `build`, then never changed."""

    __slots__ = ("_any", "_hosts", "routes")

    def __init__(self) -> None:
        self.routes: tuple[Route[T, A], ...] = ()
        self._any: _Host[T, A] = _Host()
        self._hosts: dict[str, _Host[T, A]] = {}

    def match(self, method: str, host: str, path: str) -> tuple[Route[T, A], Mapping[str, str]]:
        """The route for a canonical path, and its decoded parameters.

        host: lower case, without port. Raises NoRoute, MethodNotAllowed, BadRequest (a parameter that is
        not UTF-8).
        """
        allowed: dict[str, Route[T, A]] = {}
        own = self._hosts.get(host) if self._hosts else None
        for routes in (self._any,) if own is None else (own, self._any):
            entries = routes.literal.get(path)
            entry = _pick(entries, method, allowed) if entries is not None else None
            if entry is not None:
                return entry.route, _EMPTY
            segments = path.split("/")
            found = _walk(routes.root, segments, 1, method, allowed)
            if found is not None:
                entry, rest_at = found
                if not entry.params and not entry.rest:
                    return entry.route, _EMPTY
                return entry.route, _params(entry, rest_at, segments, encoded="%" in path)
        if allowed:
            error = MethodNotAllowed(", ".join(sorted(allowed)))
            error.cors = next((route.cors for route in allowed.values() if route.cors is not None), None)
            raise error
        raise NoRoute("No route takes this path.")

    def methods(self, route: Route[T, A], host: str, path: str) -> list[str]:
        """The methods that come to this route on this path; other routes may take others of the same path."""
        found = []
        for method in dict.fromkeys([*_ALLOWED, *sorted(route.methods)]):
            with suppress(MethodNotAllowed, NoRoute):
                if self.match(method, host, path)[0] is route:
                    found.append(method)
        return found


# What a walk gives: the entry, and the index at which the rest began (-1 without one).
_Found = tuple[_Entry[T, A], int]


def _walk(
    node: _Node[T, A], segments: list[str], index: int, method: str, allowed: dict[str, Route[T, A]]
) -> _Found[T, A] | None:
    """Depth first, most specific first. Steps back happen only where patterns share a beginning."""
    if index == len(segments):
        if node.leaf:
            entry = _pick(node.leaf, method, allowed)
            if entry is not None:
                return entry, -1
    else:
        segment = segments[index]
        if node.children is not None:
            child = node.children.get(segment)
            if child is not None:
                found = _walk(child, segments, index + 1, method, allowed)
                if found is not None:
                    return found
        if node.param is not None and segment:
            found = _walk(node.param, segments, index + 1, method, allowed)
            if found is not None:
                return found
    if node.rest:
        entry = _pick(node.rest, method, allowed)
        if entry is not None:
            return entry, index
    return None


def _pick(
    entries: tuple[_Entry[T, A], ...], method: str, allowed: dict[str, Route[T, A]]
) -> _Entry[T, A] | None:
    """The entry for this method; the one for any method is last."""
    for entry in entries:
        if not entry.methods or method in entry.methods:
            return entry
    for entry in entries:
        for name in sorted(entry.methods):
            allowed.setdefault(name, entry.route)
    return None


def _params(entry: _Entry[T, A], rest_at: int, segments: list[str], *, encoded: bool) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, index in entry.params:
        values[name] = segments[index]
    if encoded:
        values = {name: decode_segment(value) for name, value in values.items()}
    if entry.rest:
        # Nobody needs it as text, and the backend gets the path as it came: it may be of another charset.
        rest = "/".join(segments[rest_at:])
        values[entry.rest] = decode_path_loosely(rest) if encoded else rest
    return values


_Built = Mapping[tuple[str, Shape], Mapping[str, _Entry[T, A]]]


def build(routes: Iterable[Route[T, A]]) -> tuple[RoutingTable[T, A], list[Clash]]:
    """Compile routes into a table, and name those that can never match. Raises PatternError.

    A route is hidden by an equal pattern on the same host, for the methods they share: the first one written
    wins. One more specific pattern never hides another one whole (there is always a longer or a different
    path left), but several together do hide `/a/{rest*}`: see `_covered`.
    """
    table: RoutingTable[T, A] = RoutingTable()
    kept: list[Route[T, A]] = []
    clashes: list[Clash] = []
    built: dict[tuple[str, Shape], dict[str, _Entry[T, A]]] = {}  # by host and shape, then by method
    for route in routes:
        pattern = compile_pattern(route.path)
        entries = built.setdefault((route.host, pattern.shape), {})
        clashes.extend(_enter(entries, _Entry(route, frozenset(), pattern.params, pattern.rest)))
        kept.append(route)
    clashes.extend(_covered(built))
    for (host, shape), entries in built.items():
        at = table._any if not host else table._hosts.setdefault(host, _Host())
        _insert(at, shape, _seal(entries))
    table.routes = tuple(kept)
    return table, clashes


def _enter(entries: dict[str, _Entry[T, A]], entry: _Entry[T, A]) -> list[Clash]:
    """Take the methods ("" for any) that are free; a Clash names the others."""
    route = entry.route
    mine = route.methods or frozenset({""})
    taken = sorted(mine & entries.keys())
    for method in mine - entries.keys():
        entries[method] = entry
    if not taken:
        return []
    winners = tuple(dict.fromkeys(entries[method].route.name for method in taken))
    return [Clash(route.name, winners, tuple(m or "any method" for m in taken), len(taken) == len(mine))]


def _covered(built: _Built[T, A]) -> Iterator[Clash]:
    """What `/a/{rest*}` could take is taken whole by `/a`, `/a/` and `/a/{b}/{rest*}` together (at the root
    by `/` and `/{b}/{rest*}`), whatever else there is; and in place of the last, by those that cover it."""
    deepest = max((len(segments) for _, (segments, _) in built), default=0)
    for (host, (segments, has_rest)), entries in built.items():
        if not has_rest:
            continue
        methods: dict[str, list[str]] = {}  # by route: its methods that others take
        winners: dict[str, dict[str, None]] = {}
        for method, entry in entries.items():
            taken = _below(built, host, segments, method, deepest)
            if taken is not None:
                methods.setdefault(entry.route.name, []).append(method or "any method")
                winners.setdefault(entry.route.name, {}).update(dict.fromkeys(taken))
        for name, those in methods.items():
            mine = sum(entry.route.name == name for entry in entries.values())
            yield Clash(name, tuple(winners[name]), tuple(sorted(those)), len(those) == mine)


def _below(
    built: _Built[T, A], host: str, segments: tuple[str | None, ...], method: str, deepest: int
) -> list[str] | None:
    """The routes that together take every path that begins with these segments, but for one `{rest*}` right
    behind them. None when some path is left."""
    if len(segments) > deepest:
        return None
    names = []
    ends = [(segments, False), ((*segments, ""), False)]
    for shape in ends if segments else ends[1:]:
        taker = _taker(built, host, shape, method)
        if taker is None:
            return None
        names.append(taker)
    further = (*segments, None)
    taker = _taker(built, host, (further, True), method)
    if taker is not None:
        return [*names, taker]
    rest = _below(built, host, further, method, deepest)
    return None if rest is None else [*names, *rest]


def _taker(built: _Built[T, A], host: str, shape: Shape, method: str) -> str | None:
    entries = built.get((host, shape), {})
    entry = entries.get(method) or entries.get("")
    return None if entry is None else entry.route.name


def _seal(entries: dict[str, _Entry[T, A]]) -> tuple[_Entry[T, A], ...]:
    """One entry for each route, with the methods that it takes; the one for any method comes last."""
    if "GET" in entries:
        entries.setdefault("HEAD", entries["GET"])  # RFC 9110 section 9.1: GET implies HEAD
    last = entries.pop("", None)
    sealed = [
        replace(entry, methods=frozenset(method for method, other in entries.items() if other is entry))
        for entry in {id(entry): entry for entry in entries.values()}.values()
    ]
    return tuple(sealed) if last is None else (*sealed, last)


def _insert(host: _Host[T, A], shape: Shape, entries: tuple[_Entry[T, A], ...]) -> None:
    segments, has_rest = shape
    if not has_rest and None not in segments:
        host.literal["/" + "/".join(segment or "" for segment in segments)] = entries
        return
    node = host.root
    for segment in segments:
        if segment is None:
            if node.param is None:
                node.param = _Node()
            node = node.param
        else:
            if node.children is None:
                node.children = {}
            node = node.children.setdefault(intern(segment), _Node())
    if has_rest:
        node.rest = entries
    else:
        node.leaf = entries
