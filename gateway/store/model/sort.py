"""The order of a list: total over every type, the same in every engine.

null and missing < numbers < strings < objects < arrays < false < true. Numbers compare by value, strings
by code point, to their ends; objects are equal among each other, and so are arrays. Equal values are
ordered by id, ascending. A path leads through objects only: where an array is on the way, the member counts
as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import BadRequest
from gateway.store.filter.nodes import CREATED, ID, META, Path, parse_path

MAX_KEYS = 4

RANK_NULL, RANK_NUMBER, RANK_TEXT, RANK_OBJECT, RANK_ARRAY, RANK_BOOL = range(6)

SortValue = tuple[int, int | float | str]


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order: a member, ascending or descending."""

    path: Path
    descending: bool = False


ID_KEY = SortKey(ID)


def parse(text: str) -> tuple[SortKey, ...]:
    """The sort of a query, `-a,b.c`. Raises BadRequest."""
    keys = []
    for part in text.split(","):
        descending = part.startswith("-")
        try:
            keys.append(SortKey(parse_path(part[1:] if descending else part), descending))
        except ValueError as error:
            raise BadRequest(f"The sort is not accepted: {error}.") from None
    if len(keys) > MAX_KEYS:
        raise BadRequest(f"The sort is not accepted: it has more than {MAX_KEYS} keys.")
    return tuple(keys)


def canonical(keys: tuple[SortKey, ...]) -> str:
    """One text for a sort, to be signed in cursors."""
    return ",".join(("-" if key.descending else "+") + ".".join(key.path) for key in keys)


def with_tie_breaker(sort: tuple[SortKey, ...]) -> tuple[SortKey, ...]:
    """Keys that no two documents share, the last of which is the id; whatever stands behind the id in the
    sort decides nothing."""
    for index, key in enumerate(sort):
        if key.path == ID:
            return sort[: index + 1]
    return (*sort, ID_KEY)


def end_of_prefix(prefix: str) -> str | None:
    """The first text behind all that begin with the prefix, by code point; None: there is none."""
    while prefix:
        following = ord(prefix[-1]) + 1
        if 0xD800 <= following <= 0xDFFF:  # surrogates are no characters
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def sort_value(
    path: Path, identifier: str, data: Mapping[str, Any], created: float = 0, modified: float = 0
) -> SortValue:
    """The sort value of a document under a path: the reference for every engine. created, modified: seconds
    since the epoch."""
    if path == ID:
        return RANK_TEXT, identifier
    if path in META:
        return RANK_NUMBER, created if path == CREATED else modified
    value: Any = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return rank(value)


def rank(value: Any) -> SortValue:
    """The sort value of a JSON value; None for a missing one."""
    if value is None:
        return RANK_NULL, 0
    if isinstance(value, bool):
        return RANK_BOOL, int(value)
    if isinstance(value, int | float):
        return RANK_NUMBER, value
    if isinstance(value, str):
        return RANK_TEXT, value
    return (RANK_OBJECT if isinstance(value, Mapping) else RANK_ARRAY), 0
