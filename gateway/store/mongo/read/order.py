"""The order of a list in MongoDB, and where in it a page ended.

A position has a member for each key of the list: what a document has of its own (id, instants), and the text
of the rank and value of any other (mongo/read/keys.py), whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.store.filter.nodes import CREATED, ID, MODIFIED
from gateway.store.model import cursor
from gateway.store.model.indexing import ENTRY_TEXT
from gateway.store.model.sort import RANK_TEXT, SortKey, sort_value
from gateway.store.mongo.read.keys import key
from gateway.store.mongo.rows import Row

T = TypeVar("T")

OWN = {ID: "id", CREATED: "cr", MODIFIED: "mo"}
_TEXT = str(RANK_TEXT)
_CUT = len(_TEXT) + ENTRY_TEXT

Keys = tuple[SortKey, ...]
Position = list[Any]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The last member of a position, when only the beginning of its text is known: behind it is what is not
    before all texts that begin so."""

    text: str


def is_cut(member: Any) -> bool:
    """Whether an index may hold no more than the beginning of a text. member: what it holds, or the key of
    the whole value; of nothing that is the document's own."""
    return isinstance(member, str) and member.startswith(_TEXT) and len(member) >= _CUT


def indexed(member: Any) -> Any:
    """What an index has of the value of a position."""
    text = member.text if isinstance(member, Beginning) else member
    return text[:_CUT] if is_cut(text) else text


def member(sort_key: SortKey, row: Row) -> Any:
    """Where a document's row stands in one key."""
    if sort_key.path in OWN:
        return row[OWN[sort_key.path]]
    return key(sort_value(sort_key.path, row["id"], row.get("d", {}), row["cr"], row["mo"]))


def is_behind(keys: Keys, here: Position, position: Position) -> bool:
    """Whether a document that stands here is behind a position."""
    for sort_key, mine, limit in zip(keys, here, position, strict=False):
        if isinstance(limit, Beginning):
            before = mine < limit.text
            return (before or mine.startswith(limit.text)) if sort_key.descending else not before
        if mine != limit:
            return bool(mine < limit) == sort_key.descending
    return False


def to_cursor(keys: Keys, position: Position) -> list[Any]:
    """A position as a cursor holds it: of a text that an index would cut, and one that is cut here, also the
    digest, which is empty for what is whole."""
    held: list[Any] = []
    for sort_key, found in zip(keys, position, strict=True):
        if sort_key.path not in OWN and is_cut(found):
            begin, digest = cursor.shorten(found[len(_TEXT) :], len(keys) - 1)
            held.append([_TEXT + begin, digest])
        else:
            held.append(found)
    return held


async def from_cursor(
    keys: Keys, held: list[Any], read: Callable[[SortKey, str], Awaitable[Any]]
) -> Position:
    """The position that a cursor holds. A text with a digest is taken from the document, as long as it is
    there: read gives where it stands in one key, by its id, or None. A long text without one is a cursor's of
    an older gateway, which may have cut it."""
    position: Position = []
    for sort_key, found in zip(keys, held, strict=True):
        text, digest = found if isinstance(found, list) else (found, None)
        if digest == "" or sort_key.path in OWN or not is_cut(text):
            position.append(text)
            continue
        whole = await read(sort_key, held[-1]) if digest else None
        if whole is None or not is_cut(whole) or cursor.digest(whole[len(_TEXT) :]) != digest:
            return [*position, Beginning(text)]
        position.append(whole)
    return position


class First(Generic[T]):
    """The first of many documents in an order, and no more of them than a page may take: so many, or so many
    bytes and one more."""

    def __init__(self, keys: Keys, most: int, most_bytes: int) -> None:
        self._keys = keys
        self._most = most
        self._most_bytes = most_bytes
        self._found: list[tuple[Position, int, T]] = []
        self._added = 0  # bytes since some were let go
        self._last: Position | None = None
        self.is_all = True  # none was let go

    def takes(self, here: Position) -> bool:
        """Whether a document that stands here may be one of them."""
        return self._last is None or not is_behind(self._keys, here, self._last)

    def add(self, here: Position, size: int, item: T) -> None:
        """size: in bytes, of the document or less."""
        self._found.append((here, size, item))
        self._added += size
        if len(self._found) > 4 * self._most + 1000 or self._added > 2 * self._most_bytes:
            self._let_go()

    def in_order(self) -> list[tuple[Position, int, T]]:
        """Positions, sizes and items of the first ones."""
        self._let_go()
        return self._found

    def _let_go(self) -> None:
        for index in reversed(range(len(self._keys))):
            self._found.sort(key=lambda one: one[0][index], reverse=self._keys[index].descending)
        kept = size = 0
        while kept < min(self._most, len(self._found)):
            kept += 1
            if size > self._most_bytes:
                break
            size += self._found[kept - 1][1]
        if kept < len(self._found):
            self.is_all = False
            self._last = self._found[kept - 1][0]
            del self._found[kept:]
        self._added = 0
