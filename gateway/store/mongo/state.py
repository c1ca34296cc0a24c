"""A collection as its row has it: its settings, and which of its indexes lie in which slots."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.store.filter.nodes import Path
from gateway.store.model import collection as collections
from gateway.store.model.collection import NO_SETTINGS, Collection, CollectionSettings, Index
from gateway.store.model.document import entity_tag, new_incarnation
from gateway.store.mongo.rows import BATCH, SLOTS, Ordered, Row, joined
from gateway.store.schema.validate import Schema

BATCH_BYTES = 2 * 1024 * 1024  # of documents, about, that are read ahead
_KNOWN_TEXT = 4 * 1024 * 1024  # characters of settings that are kept parsed


@dataclass(frozen=True, slots=True)
class State:
    """stored: whether there is a row that counts. declared_at: the version that brought the settings. slots:
    of each index by its name, where its order lies. tokens: one for each declaration of an index, never used
    twice. building: whether entries are not complete yet."""

    name: str
    stored: bool
    incarnation: str
    version: int
    declared_at: int
    settings_text: str | None
    documents: int
    bytes: int
    settings: CollectionSettings
    schema: Schema | None
    slots: Mapping[str, str]
    tokens: Mapping[str, str]
    building: bool

    @property
    def collection(self) -> Collection:
        """The collection as its clients see it."""
        etag = entity_tag(self.incarnation, self.declared_at)
        return Collection.stored(self.name, self.settings_text, etag, self.documents, self.bytes)

    @property
    def batch(self) -> int:
        """How many of its documents are read ahead: fewer where they are large."""
        each = self.bytes // max(self.documents, 1)
        return max(1, min(BATCH, BATCH_BYTES // max(each, 1)))

    @property
    def for_worker(self) -> State:
        """What a worker process must know of it; the schema goes as text."""
        settings = replace(self.settings, schema=None)
        return replace(self, settings=settings, settings_text=None, schema=None)

    @property
    def ordered(self) -> tuple[Ordered, ...]:
        """Of the indexes with one field."""
        return tuple(
            Ordered(self.slots[index.name], self.tokens[index.name], index.fields[0])
            for index in self.settings.indexes
            if len(index.fields) == 1
        )

    @property
    def unique(self) -> dict[str, Index]:
        """The indexes that refuse, by their tokens."""
        return {self.tokens[index.name]: index for index in self.settings.indexes if index.unique}

    @property
    def usable(self) -> dict[Path, Ordered]:
        """Those that a list may use."""
        return {} if self.building else {ordered.path: ordered for ordered in self.ordered}


def read(name: str, row: Row | None) -> State:
    """The state in a row; a new one for a collection that has none."""
    if row is None:
        return State(name, False, new_incarnation(), 0, 0, None, 0, 0, NO_SETTINGS, None, {}, {}, False)
    text = row.get("settings")
    settings, schema = (NO_SETTINGS, None) if text is None else _KNOWN.parse(text)
    documents = max(0, row["documents"])
    return State(
        name=name,
        stored=text is not None or documents > 0,
        incarnation=row["i"],
        version=row["v"],
        declared_at=row["declared"],
        settings_text=text,
        documents=documents,
        bytes=max(0, row["bytes"]),
        settings=settings,
        schema=schema,
        slots=row.get("slots", {}),
        tokens=row.get("tokens", {}),
        building=row.get("building", False),
    )


def listed(row: Row) -> Collection | None:
    """The collection in a row, its settings not parsed; None for one that does not count."""
    text, documents = row.get("settings"), max(0, row["documents"])
    if text is None and not documents:
        return None
    etag, size = entity_tag(row["i"], row["declared"]), max(0, row["bytes"])
    return Collection.stored(row["c"], text, etag, documents, size)


def new_row(tenant: str, state: State) -> Row:
    """The row of a collection that has none yet."""
    return {
        "_id": joined(tenant, state.name),
        "t": tenant,
        "c": state.name,
        "i": state.incarnation,
        "v": state.version,
        "declared": state.declared_at,
        "documents": 0,
        "bytes": 0,
    }


def assign(old: State, settings: CollectionSettings) -> tuple[dict[str, str], dict[str, str]]:
    """Slots and tokens for the indexes: an index that stays keeps its own."""
    before = {index.name: index for index in old.settings.indexes}
    slots = {i.name: old.slots[i.name] for i in settings.indexes if before.get(i.name) == i}
    tokens = {name: old.tokens[name] for name in slots}
    free = iter([slot for slot in SLOTS if slot not in slots.values()])
    for index in settings.indexes:
        if index.name not in slots:
            slots[index.name] = next(free)
            tokens[index.name] = f"{slots[index.name]}-{old.incarnation}-{old.version + 1}"
    return slots, tokens


class _Known:
    """Settings that are kept parsed, those that were used last: to parse large ones takes long, and they take
    many times the memory of their text."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[str, tuple[CollectionSettings, Schema | None]] = OrderedDict()
        self._size = 0

    def parse(self, text: str) -> tuple[CollectionSettings, Schema | None]:
        found = self._parsed.get(text)
        if found is not None:
            self._parsed.move_to_end(text)
            return found
        settings = collections.from_data(json.loads(text), stored=True)
        found = settings, None if settings.schema is None else Schema(settings.schema)
        self._parsed[text] = found
        self._size += len(text)
        while self._size > _KNOWN_TEXT and len(self._parsed) > 1:
            self._size -= len(self._parsed.popitem(last=False)[0])
        return found


_KNOWN = _Known()
