"""Large responses of the admin listener: JSON in small pieces, and gathering pieces while the event loop
serves requests in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

_FEW = 32  # members of a container that are written in one piece, if none of them is a container
_INDENT = "  "
_SLICE = 16 * 1024  # characters; some hundred microseconds of work
_PIECE = 128  # characters that each piece counts for besides its own: what it costs whatever its length


async def gathered(pieces: Iterable[str]) -> bytes:
    """All pieces together, in UTF-8. The event loop runs others after about 16 KiB, and after each empty
    piece, which stands for work that was done towards the next one."""
    slices: list[bytes] = []
    slice_: list[str] = []
    size = 0
    for piece in pieces:
        slice_.append(piece)
        size += len(piece) + _PIECE
        if size >= _SLICE or not piece:
            slices.append("".join(slice_).encode())
            slice_, size = [], 0
            await asyncio.sleep(0)
    slices.append("".join(slice_).encode())
    return b"".join(slices)


async def json_bytes(body: Any) -> bytes:
    """`json_pieces` together, and a line break."""
    return await gathered(chain(json_pieces(body), "\n"))


class LazyObject:
    """A JSON object that makes its members while it is written. pairs: (name, value); None is one step of
    work towards the next."""

    def __init__(self, pairs: Iterable[tuple[str, Any] | None]) -> None:
        self.pairs = pairs


def json_pieces(value: Any, pad: str = "") -> Iterator[str]:
    """`value` as JSON (RFC 8259), piece by piece: a member a line, indented; a small container of plain
    values stays on one line. An iterator is written as an array; its item None is a step of work, given as
    an empty piece. pad: the indentation of the line that the value stands on."""
    if isinstance(value, Mapping | LazyObject):
        if isinstance(value, Mapping) and _is_small(value.values()):
            yield json.dumps(dict(value))
            return
        items: Iterable[Any] = value.items() if isinstance(value, Mapping) else value.pairs
        yield from _container("{}", ((f"{json.dumps(i[0])}: ", i[1]) if i else None for i in items), pad)
    elif isinstance(value, list | tuple | Iterator):
        if not isinstance(value, Iterator) and _is_small(value):
            yield json.dumps(value)
            return
        lazy = isinstance(value, Iterator)
        yield from _container("[]", (None if lazy and item is None else ("", item) for item in value), pad)
    else:
        yield json.dumps(value)


def _is_small(items: Any) -> bool:
    return len(items) <= _FEW and not any(
        isinstance(item, Mapping | LazyObject | list | tuple | Iterator) for item in items
    )


def _container(brackets: str, members: Iterable[tuple[str, Any] | None], pad: str) -> Iterator[str]:
    inside, before = pad + _INDENT, f"{brackets[0]}\n"
    for member in members:
        if member is None:
            yield ""
            continue
        yield f"{before}{inside}{member[0]}"
        yield from json_pieces(member[1], inside)
        before = ",\n"
    yield brackets if before != ",\n" else f"\n{pad}{brackets[1]}"
