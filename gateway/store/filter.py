"""The filter language: text -> a tree of a closed set of nodes, and what the nodes mean.

Engines render the nodes; nothing that a client sent goes further as a dict. matcher.py is the reference
that every engine must agree with. The meaning of equality is MongoDB's, where JSON has it:

- a path looks into objects, and into the objects in an array on its way (not into arrays in arrays);
- a value matches when it is equal, or when it is an array that holds an equal element;
- null matches null and a missing member;
- numbers are equal by value, true is not 1; objects are equal with equal members in equal order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import BadRequest
from gateway.store import strict_json

MAX_CONDITIONS = 100
MAX_PATH = 16
SUPPORTED = "$and and $eq"
_REFUSED = "The filter is not accepted; see errors."

Path = tuple[str, ...]

ID: Path = ("id",)
_unfit = re.compile(r'[\x00-\x1f\x7f"\\]')


@dataclass(frozen=True, slots=True)
class Eq:
    """The value at `path` equals `value`. `text` is the value's one JSON text."""

    path: Path
    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class And:
    """All of the nodes match; with none of them, every document does."""

    nodes: tuple[Node, ...]


Node = Eq | And

EVERYTHING = And(())


def parse(text: str) -> Node:
    """The filter of a query, `{"a": 1, "b.c": "x"}`. Raises BadRequest with a JSON pointer."""
    try:
        value = strict_json.loads(text, lambda name, top: "")
    except strict_json.JsonSyntaxError as error:
        raise BadRequest(f"The filter is not JSON: {error}.") from None
    except strict_json.JsonProblems as error:
        raise BadRequest(_REFUSED, extra={"errors": error.as_errors()}) from None
    node = _parse_object(value, "")
    if sum(1 for _ in _conditions(node)) > MAX_CONDITIONS:
        raise _refusal("", f"more than {MAX_CONDITIONS} conditions")
    return node


def parse_path(text: str) -> Path:
    """A path, `a.b.c`, as the names on it. Raises ValueError with what is wrong."""
    path = tuple(text.split("."))
    if len(path) > MAX_PATH:
        raise ValueError(f"a path has at most {MAX_PATH} names")
    if "" in path:
        raise ValueError("a path is names with one full stop between them")
    if _unfit.search(text):
        raise ValueError("a path cannot hold quotes, backslashes or control characters")
    if path[0] == "id" and len(path) > 1:
        raise ValueError("id is a string and has no members")
    if path[0].startswith("_"):
        raise ValueError("no document has a member here: names that begin with _ are the gateway's own")
    for name in path:
        if name.startswith("$"):
            raise ValueError("a name in a path cannot begin with $")
        if name.isascii() and name.isdigit():
            raise ValueError("a name of digits alone, or a position in an array, is not supported")
    return path


def _parse_object(value: Any, at: str) -> Node:
    if not isinstance(value, dict):
        raise _refusal(at, "a filter is a JSON object")
    nodes: list[Node] = []
    for name, operand in value.items():
        here = at + strict_json.pointer(name)
        if name == "$and":
            nodes.append(_parse_and(operand, here))
        elif name.startswith("$"):
            raise _refusal(here, f"this operator is not supported here; supported are {SUPPORTED}")
        else:
            try:
                path = parse_path(name)
            except ValueError as error:
                raise _refusal(here, str(error)) from None
            nodes.append(_parse_condition(path, operand, here))
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _parse_and(operand: Any, at: str) -> Node:
    if not isinstance(operand, list) or not operand:
        raise _refusal(at, "$and takes an array of one or more filters")
    return And(tuple(_parse_object(item, f"{at}/{index}") for index, item in enumerate(operand)))


def _parse_condition(path: Path, operand: Any, at: str) -> Node:
    if isinstance(operand, dict) and any(name.startswith("$") for name in operand):
        for name in operand:
            if name != "$eq":
                raise _refusal(
                    at + strict_json.pointer(name),
                    f"not supported here; supported operators are {SUPPORTED}"
                    if name.startswith("$")
                    else "a value cannot mix operators and members",
                )
        operand, at = operand["$eq"], f"{at}/$eq"
    _check_value(operand, at)
    return Eq(path, operand, strict_json.dumps(operand))


def _check_value(value: Any, at: str) -> None:
    """Refuse a value that no document can hold: most likely an operator in the wrong place."""
    if isinstance(value, dict):
        for name, item in value.items():
            here = at + strict_json.pointer(name)
            if name.startswith("$") or "." in name:
                raise _refusal(here, "a member of a value cannot begin with $ or hold a full stop")
            _check_value(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_value(item, f"{at}/{index}")


def _conditions(node: Node) -> Iterator[Eq]:
    if isinstance(node, Eq):
        yield node
    else:
        for part in node.nodes:
            yield from _conditions(part)


def _refusal(pointer: str, detail: str) -> BadRequest:
    return BadRequest(_REFUSED, extra={"errors": [{"pointer": pointer, "detail": detail}]})


def canonical(node: Node) -> str:
    """One text for a node, for what is signed over it."""
    if isinstance(node, Eq):
        return strict_json.dumps(["eq", node.path, node.text])
    return strict_json.dumps(["and", [canonical(part) for part in node.nodes]])
