"""The order of a list as SQL, and where in it a page ended.

A key is up to three expressions: `r`, the rank of the type, `v`, the value within it (of a text the first
PIECE characters), and `t`, the token of a text that has more; see sqlite/read/texts.py. A first key that is
gone along by its index has the entry's rank and value, and where that may be cut also `p`, the first PIECE
characters, and `t`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from gateway.store.filter.nodes import CREATED, ID, META, Path
from gateway.store.json.large import LIGHT_BYTES, is_light
from gateway.store.model import cursor
from gateway.store.model.document import Document
from gateway.store.model.indexing import ENTRY_TEXT, entry, is_cut
from gateway.store.model.sort import (
    RANK_ARRAY,
    RANK_BOOL,
    RANK_NULL,
    RANK_NUMBER,
    RANK_OBJECT,
    RANK_TEXT,
    SortKey,
    SortValue,
    end_of_prefix,
    rank,
    sort_value,
)
from gateway.store.sqlite.read.statement import WHOLE_TEXT, Bound, exclusively, json_path, key_of
from gateway.store.sqlite.read.texts import PIECE, Texts


class KeyPosition(NamedTuple):
    """A position within one key. cut: behind it is what is not before all texts that begin so, and the
    keys behind this one decide nothing."""

    rank: int
    value: Any
    cut: bool = False

    @property
    def entry(self) -> SortValue:
        """The entry of an index."""
        return entry((self.rank, self.value))


Position = Sequence[KeyPosition]


class Order:
    """The order by these keys, the last of which is the id, in a statement. walked: by an index of the first
    one, whose entry is e. alike: all documents have one entry, which may be cut, and so has a position."""

    def __init__(
        self, bound: Bound, texts: Texts, keys: tuple[SortKey, ...], *, walked: bool, alike: bool
    ) -> None:
        self._bound = bound
        self._texts = texts
        self._keys = keys
        self._walked = walked
        self._alike = alike

    def columns(self) -> list[str]:
        """Of d, and of e."""
        columns: list[str] = []
        for index, key in enumerate(self._keys):
            if index == 0 and self._walked:
                columns += ["e.r AS r0", "e.val AS v0", *self._behind_entry(key.path)]
            elif key.path in META:
                column = "created" if key.path == CREATED else "modified"
                columns.append(f"{RANK_NUMBER} AS r{index}, d.{column} AS v{index}")
            elif key.path != ID:
                columns += self._of_member(index, key.path)
        return columns

    def terms(self) -> list[str]:
        """What to order by."""
        terms: list[str] = []
        for index, key in enumerate(self._keys):
            direction = " DESC" if key.descending else ""
            if key.path == ID:
                terms.append("id" + direction)
                continue
            if not (index == 0 and self._alike):
                terms += [f"r{index}{direction}", f"v{index}{direction}"]
            if index == 0 and self._walked:
                terms.append("p0" + direction)
            if key.path not in META:
                terms.append(f"t{index} COLLATE {WHOLE_TEXT}{direction}")
        return terms

    def after(self, position: Position) -> str:
        """Whether a row stands behind a position: beyond it in the first expression that differs."""
        steps = [
            step
            for index, (key, part) in enumerate(zip(self._keys, position, strict=False))
            for step in self._steps(index, key, part)
        ]
        here, sign, limit = steps.pop()
        found = f"{here} {sign} {limit}"
        for number in reversed(range(len(steps))):
            here, sign, limit = steps[number]
            found = f"({here} {sign} {limit} OR ({here} = {limit} AND {found}))"
            if number == 0 and self._walked and not self._alike:
                # SQLite looks for the begin of an index's range only where no OR is.
                found = f"({here} {sign}= {limit} AND {found})"
        return found

    def _steps(self, index: int, key: SortKey, position: KeyPosition) -> list[tuple[str, str, str]]:
        """The expressions of a key, each with what is behind the position, and the position."""
        sign, bind = "<" if key.descending else ">", self._bound.bind
        if key.path == ID:
            return [("id", sign, bind(position.value))]
        walked = index == 0 and self._walked
        here = f"(r{index}, v{index})"
        if position.rank != RANK_TEXT:
            # What is stored as a number is compared with just this one, what lies in JSON as SQLite reads it.
            exact = key.path in META or walked
            value = bind(position.value) if exact else self._bound.real(position.value)
            return [(here, sign, f"({bind(position.rank)}, {value})")]
        steps = []
        if walked:
            begin = position.value[:ENTRY_TEXT]
            if not self._alike:
                steps.append((here, sign, f"({RANK_TEXT}, {bind(begin)})"))
            if len(begin) < ENTRY_TEXT:
                return steps
            here = "p0"
        if position.cut:
            return [*steps, self._beyond(here, key, position.value)]
        piece = position.value[:PIECE]
        steps.append((here, sign, bind(piece) if walked else f"({RANK_TEXT}, {bind(piece)})"))
        if len(piece) == PIECE:
            token = self._texts.add(position.value) if len(position.value) > PIECE else ""
            steps.append((f"ifnull(t{index}, '') COLLATE {WHOLE_TEXT}", sign, bind(token)))
        return steps

    def _beyond(self, here: str, key: SortKey, begin: str) -> tuple[str, str, str]:
        """All behind the first of the texts that begin so, in the direction of the key."""
        walked = here == "p0"
        if not key.descending:
            value = self._bound.bind(begin)
            return here, ">=", value if walked else f"({RANK_TEXT}, {value})"
        end = end_of_prefix(begin)
        if end is None:
            return ("1", "=", "1") if walked else (here, "<", f"({RANK_TEXT + 1}, -1)")
        value = self._bound.bind(end)
        return here, "<", value if walked else f"({RANK_TEXT}, {value})"

    def _of_member(self, index: int, path: Path) -> list[str]:
        expressions = self._bound.unless_large(
            lambda bound: _rank(bound, path),
            lambda bound: _value(bound, path),
            lambda bound: _token(bound, index, path),
        )
        return [f"{text} AS {name}{index}" for name, text in zip("rvt", expressions, strict=True)]

    def _behind_entry(self, path: Path) -> list[str]:
        may_be_cut = f"e.r = {RANK_TEXT} AND length(e.val) >= {ENTRY_TEXT}"
        expressions = self._bound.unless_large(
            lambda bound: _value(bound, path), lambda bound: _token(bound, 0, path)
        )
        return [
            f"CASE WHEN {may_be_cut} THEN {text} END AS {name}0"
            for name, text in zip("pt", expressions, strict=True)
        ]


def _rank(bound: Bound, path: Path) -> str:
    kind = f"json_type(d.data, {bound.bind(json_path(*path))})"
    return (
        f"CASE {kind} WHEN 'integer' THEN {RANK_NUMBER} WHEN 'real' THEN {RANK_NUMBER} "
        f"WHEN 'text' THEN {RANK_TEXT} WHEN 'object' THEN {RANK_OBJECT} WHEN 'array' THEN {RANK_ARRAY} "
        f"WHEN 'false' THEN {RANK_BOOL} WHEN 'true' THEN {RANK_BOOL} ELSE {RANK_NULL} END"
    )


def _value(bound: Bound, path: Path) -> str:
    at = bound.bind(json_path(*path))
    kind, value = f"json_type(d.data, {at})", f"json_extract(d.data, {at})"
    return (
        f"CASE {kind} WHEN 'integer' THEN {value} WHEN 'real' THEN {value} "
        f"WHEN 'text' THEN substr({value}, 1, {PIECE}) WHEN 'true' THEN 1 ELSE 0 END"
    )


def _token(bound: Bound, index: int, path: Path) -> str:
    """NULL where there is no more of a text. Most documents are not even that long."""
    at = bound.bind(json_path(*path))
    return (
        f"CASE WHEN d.size > {PIECE} AND json_type(d.data, {at}) = 'text' "
        f"AND substr(json_extract(d.data, {at}), {PIECE + 1}, 1) <> '' THEN '{index} ' || d.rowid END"
    )


def position_of(
    connection: sqlite3.Connection, collection: str, keys: tuple[SortKey, ...], document: Document
) -> list[Any]:
    """Where a document stands, as a cursor holds it: for each key its rank and value; of a text that an index
    would cut, and one that is cut here, also its digest, which is empty for what is whole. keys: the last one
    is the id."""
    own = [key.path for key in keys if key.path != ID and key.path not in META]
    light = not document.encoded and is_light(document.text)
    data = document.data if own and light else {}
    position: list[Any] = []
    for key in keys:
        if key.path in own and not light:
            found = _read_value(connection, collection, document.id, key.path)
            assert found is not None
        else:
            found = sort_value(key.path, document.id, data, document.created, document.modified)
        if key.path in own and is_cut(found):
            position.append([RANK_TEXT, *cursor.shorten(str(found[1]), len(keys) - 1)])
        else:
            position.append(found)
    return position


def position_from(
    connection: sqlite3.Connection, collection: str, keys: tuple[SortKey, ...], held: list[Any]
) -> Position:
    """The position that a cursor holds. A text with a digest is taken from the document, as long as it is
    there. A long text without one is a cursor's of an older gateway, which may have cut it."""
    position: list[KeyPosition] = []
    for key, (kind, value, *more) in zip(keys, held, strict=True):
        if key.path == ID or not is_cut((kind, value)) or more == [""]:
            position.append(KeyPosition(kind, value))
            continue
        found = _read_value(connection, collection, held[-1][1], key.path) if more else None
        if found is None or found[0] != RANK_TEXT or cursor.digest(str(found[1])) != more[0]:
            return [*position, KeyPosition(kind, value, cut=True)]
        position.append(KeyPosition(*found))
    return position


def _read_value(
    connection: sqlite3.Connection, collection: str, identifier: str, path: Path
) -> SortValue | None:
    """Where a document stands, without reading all of its JSON here; None: it is not there. A number by its
    text: see Bound.real."""
    bound = Bound()
    at, of = bound.bind(json_path(*path)), key_of(bound.bind(collection))
    kind = f"json_type(d.data, {at})"
    text = (
        f"CASE WHEN {kind} IN ('integer', 'real') THEN d.data -> {at} "
        f"WHEN {kind} = 'text' THEN d.data ->> {at} END"
    )
    source = f"FROM documents AS d WHERE d.collection = {of} AND d.id = {bound.bind(identifier)}"
    sizes = connection.execute(f"SELECT d.size {source}", bound.values).fetchall()
    if not sizes:
        return None
    with exclusively() if sizes[0][0] > LIGHT_BYTES else nullcontext():
        ((found, value),) = connection.execute(f"SELECT {kind}, {text} {source}", bound.values).fetchall()
    if found in ("integer", "real"):
        return rank(json.loads(value))
    kinds = {"text": value, "true": True, "false": False, "object": {}, "array": []}
    return rank(kinds.get(found))
