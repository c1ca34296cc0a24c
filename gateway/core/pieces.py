"""A large value as JSON (RFC 8259) in small pieces, so that whoever sends it may let others run between them.

Pure: nothing waits here. What is given may itself be made piece by piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_FEW = 32  # members of a container that are written in one piece, if none of them is a container
_INDENT = "  "


class Pairs:
    """An object whose members are made while it is written: (name, value); None is one step of work towards
    the next."""

    def __init__(self, pairs: Iterable[tuple[str, Any] | None]) -> None:
        self.pairs = pairs


def pieces(value: Any, pad: str = "") -> Iterator[str]:
    """The pieces of `value`: a member a line, indented; a small container of plain values stays on one line.
    An iterator is an array, whose item None is a step of work, given as the empty piece."""
    if isinstance(value, Mapping | Pairs):
        if isinstance(value, Mapping) and _is_small(value.values()):
            yield json.dumps(dict(value))
            return
        items: Iterable[Any] = value.items() if isinstance(value, Mapping) else value.pairs
        yield from _members("{}", ((f"{json.dumps(i[0])}: ", i[1]) if i else None for i in items), pad)
    elif isinstance(value, list | tuple | Iterator):
        if not isinstance(value, Iterator) and _is_small(value):
            yield json.dumps(value)
            return
        lazy = isinstance(value, Iterator)
        yield from _members("[]", (None if lazy and item is None else ("", item) for item in value), pad)
    else:
        yield json.dumps(value)


def _is_small(items: Any) -> bool:
    return len(items) <= _FEW and not any(
        isinstance(item, Mapping | Pairs | list | tuple | Iterator) for item in items
    )


def _members(brackets: str, members: Iterable[tuple[str, Any] | None], pad: str) -> Iterator[str]:
    inside, before = pad + _INDENT, f"{brackets[0]}\n"
    for member in members:
        if member is None:
            yield ""
            continue
        yield f"{before}{inside}{member[0]}"
        yield from pieces(member[1], inside)
        before = ",\n"
    yield brackets if before != ",\n" else f"\n{pad}{brackets[1]}"
