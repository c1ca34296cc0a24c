"""Values as texts that MongoDB compares as model/sort.py orders them.

BSON's own order is another one (of arrays, of true and false, of null and what is missing), so the engine
compares nothing but these texts: strings compare there by the bytes of their UTF-8, which is by code point.
"""

from __future__ import annotations

import struct
from typing import Any

from gateway.store.filter.nodes import Compare
from gateway.store.model.indexing import ENTRY_TEXT, entry, is_cut
from gateway.store.model.sort import RANK_NUMBER, RANK_TEXT, SortValue, end_of_prefix, rank

_RESIDUE = 0x8000  # so that what is added stays positive


def key(value: SortValue) -> str:
    """The text of a rank and a value, such as sort_value gives."""
    kind, inner = value
    if kind == RANK_NUMBER:
        assert not isinstance(inner, str)
        return f"{kind}{_number(inner)}"
    return f"{kind}{inner}"


def _number(value: int | float) -> str:
    """The nearest double, as hexadecimal digits that rise with it, and how far the integer is from it."""
    double = float(value)
    (bits,) = struct.unpack(">Q", struct.pack(">d", double))
    ordered = bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 1 << 63
    residue = value - int(double) if isinstance(value, int) else 0
    return f"{ordered:016x}{residue + _RESIDUE:04x}"


def between(node: Compare) -> dict[str, str]:
    """The bounds of the keys of all values for which the comparison holds, and maybe of some others: a long
    text is known by its beginning only."""
    value = entry(rank(node.value))
    kind, here, cut = value[0], key(value), is_cut(value)
    if node.op in ("gt", "gte"):
        return {"$gt" if node.op == "gt" and not cut else "$gte": here, "$lt": str(kind + 1)}
    return {"$gte": str(kind), "$lt" if node.op == "lt" and not cut else "$lte": here}


def beginning_with(text: str) -> dict[str, str]:
    """The bounds of the keys of all texts that begin so."""
    text = text[:ENTRY_TEXT]
    end = end_of_prefix(text)
    behind = str(RANK_TEXT + 1) if end is None else f"{RANK_TEXT}{end}"
    return {"$gte": f"{RANK_TEXT}{text}", "$lt": behind}


def equal_to(value: Any) -> str:
    """The key of a value, which others may share: objects share one, and so do arrays and long texts."""
    return key(entry(rank(value)))
