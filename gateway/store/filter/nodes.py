"""The filter as a tree of a closed set of nodes, and what the nodes mean.

Engines render the nodes; no dict that a client sent goes further than the parser. matcher.py is the reference
that every engine agrees with. The meaning is MongoDB's, as far as it concerns JSON:

- a path leads into objects, and into the objects in an array on its way (not into arrays in arrays);
- a condition holds for a value, or for an element of it when the value is an array (Size, ElemMatch and
  Exists apply to the value itself, Type to both);
- null equals null and a missing member;
- numbers are equal by value, true is not 1; objects are equal with equal members in equal order;
- Compare compares within a type: numbers, strings (by code point), false before true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gateway.store.json import strict

MAX_PATH = 16

Path = tuple[str, ...]

ID: Path = ("id",)
CREATED: Path = ("_created",)
MODIFIED: Path = ("_modified",)
META = frozenset({CREATED, MODIFIED})  # instants, in nodes as seconds since the epoch
ITSELF: Path = ()  # in an ElemMatch: the element itself

Comparison = Literal["gt", "gte", "lt", "lte"]
TypeName = Literal["null", "bool", "number", "string", "object", "array"]
TextKind = Literal["prefix", "suffix", "contains", "regex"]

_forbidden = re.compile(r'[\x00-\x1f\x7f"\\]')


@dataclass(frozen=True, slots=True)
class Eq:
    """The value at `path` equals `value`. `text` is the value's one JSON text."""

    path: Path
    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class In:
    """The value equals one of `values`; `texts` are their JSON texts. Two values at least."""

    path: Path
    values: tuple[Any, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """The value has the type of `value` (a number, string or bool) and compares to it as `op` says."""

    path: Path
    op: Comparison
    value: float | int | str | bool
    text: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The member is there, null or not."""

    path: Path


@dataclass(frozen=True, slots=True)
class Type:
    """The member is there and has one of these types."""

    path: Path
    names: frozenset[TypeName]


@dataclass(frozen=True, slots=True)
class Size:
    """The value is an array of this many elements."""

    path: Path
    count: int


@dataclass(frozen=True, slots=True)
class Mod:
    """The value is a number that, truncated to an integer, leaves this remainder (with the dividend's sign).
    Numbers beyond 64 bits never match. The divisor is not 0."""

    path: Path
    divisor: int
    remainder: int


@dataclass(frozen=True, slots=True)
class Text:
    """The value is a string that begins with, ends with or contains `value`, or (regex) has a match of it;
    see regex.py."""

    path: Path
    kind: TextKind
    value: str


@dataclass(frozen=True, slots=True)
class ElemMatch:
    """The value is an array with an element that matches `node`. Paths in the node begin at the element,
    where id and names with _ have no special meaning; ITSELF is the element, other paths need an object."""

    path: Path
    node: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of the nodes match; without nodes, every document matches."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the nodes matches; without nodes, no document matches."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The node does not match."""

    node: Node


Condition = Eq | In | Compare | Exists | Type | Size | Mod | Text | ElemMatch
Node = Condition | And | Or | Not

EVERYTHING = And(())
NOTHING = Or(())


def parse_path(text: str, *, inner: bool = False) -> Path:
    """The names on a path, `a.b.c`. inner: the path begins at an element of an array. Raises ValueError,
    which says what is wrong."""
    path = tuple(text.split("."))
    if len(path) > MAX_PATH:
        raise ValueError(f"a path has at most {MAX_PATH} names")
    if "" in path:
        raise ValueError("a path is names with one full stop between them")
    if _forbidden.search(text):
        raise ValueError("a path cannot hold quotes, backslashes or control characters")
    if not inner:
        _check_first(path)
    for name in path:
        if name.startswith("$"):
            raise ValueError("a name in a path cannot begin with $")
        if name.isascii() and name.isdigit():
            raise ValueError("a name of digits alone, or a position in an array, is not supported")
    return path


def _check_first(path: Path) -> None:
    if path[0] == "id" and len(path) > 1:
        raise ValueError("id is a string and has no members")
    if path[0].startswith("_") and path not in META:
        raise ValueError(
            "no document has a member here: names that begin with _ are the gateway's own, and of those "
            "only _created and _modified can be named"
        )


def conjuncts(node: Node) -> Iterator[Node]:
    """The nodes that must all match for `node` to match; none of them is an And."""
    if isinstance(node, And):
        for part in node.nodes:
            yield from conjuncts(part)
    else:
        yield node


def fields(node: Node) -> frozenset[Path]:
    """Every path that a filter reads."""
    if isinstance(node, And | Or):
        return frozenset[Path]().union(*map(fields, node.nodes))
    if isinstance(node, Not):
        return fields(node.node)
    if isinstance(node, ElemMatch):
        return frozenset(node.path + inner for inner in fields(node.node)) | {node.path}
    return frozenset({node.path})


def canonical(node: Node) -> str:
    """One text for a node, to be signed in cursors."""
    return strict.dumps(_parts(node))


def _parts(node: Node) -> list[Any]:
    match node:
        case Eq(path, _, text):
            return ["eq", path, text]
        case In(path, _, texts):
            return ["in", path, texts]
        case Compare(path, op, _, text):
            return [op, path, text]
        case Exists(path):
            return ["exists", path]
        case Type(path, names):
            return ["type", path, sorted(names)]
        case Size(path, count):
            return ["size", path, count]
        case Mod(path, divisor, remainder):
            return ["mod", path, divisor, remainder]
        case Text(path, kind, value):
            return [kind, path, value]
        case ElemMatch(path, inner):
            return ["elem", path, _parts(inner)]
        case Not(inner):
            return ["not", _parts(inner)]
        case And(nodes):
            return ["and", *map(_parts, nodes)]
        case Or(nodes):
            return ["or", *map(_parts, nodes)]
