"""Large responses made in slices: the event loop serves requests between two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

_SLICE = 16 * 1024  # characters; some hundred microseconds of work
_PIECE = 128  # and each piece costs as many, whatever its length


async def gathered(pieces: Iterable[str]) -> bytes:
    """All pieces, as UTF-8. Others run after each slice, and after each empty piece: it stands for work."""
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
