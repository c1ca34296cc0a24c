"""The filter as a tree of a closed set of nodes, and what the nodes mean.

Engines render the nodes; nothing that a client sent goes further as a dict. matcher.py is the reference
that every engine must agree with. The meaning is MongoDB's, where JSON has it:

- a path looks into objects, and into the objects in an array on its way (not into arrays in arrays);
- a condition on a value holds when it holds for the value, or for an element of it when it is an array
  (Size, ElemMatch and Exists look at the value itself, Type at both);
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
ITSELF: Path = ()  # in an ElemMatch: the element, and nothing that it holds

Comparison = Literal["gt", "gte", "lt", "lte"]
TypeName = Literal["null", "bool", "number", "string", "object", "array"]
TextKind = Literal["prefix", "suffix", "contains", "regex"]

_unfit = re.compile(r'[\x00-\x1f\x7f"\\]')


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
    """The value is of `value`'s type (a number, string or bool) and stands to it as `op` says."""

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
    """The value is there and of one of these types."""

    path: Path
    names: frozenset[TypeName]


@dataclass(frozen=True, slots=True)
class Size:
    """The value is an array of so many elements."""

    path: Path
    count: int


@dataclass(frozen=True, slots=True)
class Mod:
    """The value is a number that, cut to an integer towards zero, leaves this remainder (of the dividend's
    sign). Numbers beyond 64 bits never do. The divisor is not 0."""

    path: Path
    divisor: int
    remainder: int


@dataclass(frozen=True, slots=True)
class Text:
    """The value is a string that begins with, ends with, holds `value`, or (regex) is matched somewhere by
    it; see regex.py."""

    path: Path
    kind: TextKind
    value: str


@dataclass(frozen=True, slots=True)
class ElemMatch:
    """The value is an array with an element for which `node` holds. Paths in it begin at the element, where
    id and names with _ mean nothing special; ITSELF is the element, and other paths ask for an object."""

    path: Path
    node: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of the nodes match; with none of them, every document does."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the nodes matches; with none of them, no document does."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    node: Node


Condition = Eq | In | Compare | Exists | Type | Size | Mod | Text | ElemMatch
Node = Condition | And | Or | Not

EVERYTHING = And(())
NOTHING = Or(())


def parse_path(text: str, *, inner: bool = False) -> Path:
    """A path, `a.b.c`, as the names on it. inner: in an element of an array. Raises ValueError with what is
    wrong."""
    path = tuple(text.split("."))
    if len(path) > MAX_PATH:
        raise ValueError(f"a path has at most {MAX_PATH} names")
    if "" in path:
        raise ValueError("a path is names with one full stop between them")
    if _unfit.search(text):
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
    """The nodes that must all match for a node to match; none of them is an And."""
    if isinstance(node, And):
        for part in node.nodes:
            yield from conjuncts(part)
    else:
        yield node


def fields(node: Node) -> frozenset[Path]:
    """Every path that a filter looks at: whoever filters on a field reads it."""
    if isinstance(node, And | Or):
        return frozenset[Path]().union(*map(fields, node.nodes))
    if isinstance(node, Not):
        return fields(node.node)
    if isinstance(node, ElemMatch):
        return frozenset(node.path + inner for inner in fields(node.node)) | {node.path}
    return frozenset({node.path})


def canonical(node: Node) -> str:
    """One text for a node, for what is signed over it."""
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
