"""Where each node of a YAML text stands in it, to the character.

libyaml tells where a node begins and ends, but for collections in block style: these end where the next token
begins, behind comments and empty lines that may be about what follows. Here they end with their last entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

BREAK = r"(?:\r\n|[\r\n\x85\u2028\u2029])"  # of YAML 1.1, as libyaml sees them
_BREAK = re.compile(BREAK)
_ANCHOR = re.compile(r"&[^\s,\[\]{}]+[ \t]*")
_COLON = re.compile(rf"(?:\s|#.*?{BREAK})*:")
# From the end of an entry (or the beginning of the list) to the dash of the next one.
_DASH = re.compile(rf"(?:[ \t]*(?:#[^\r\n\x85\u2028\u2029]*)?{BREAK})*[ \t]*(?=-)")


@dataclass(slots=True)
class Node:
    """A node of the text, text[start:end] with its anchor. content: where it begins behind the anchor.

    kind: `scalar`, `alias`, `mapping` or `list`. name: of the anchor, or of what an alias repeats. flow: a
    collection in brackets. text: of a scalar, as read. entries: of a collection.
    """

    kind: str
    start: int
    end: int
    content: int
    name: str = ""
    flow: bool = False
    text: str = ""
    entries: list[Entry] = field(default_factory=list)

    @property
    def is_block(self) -> bool:
        """A collection without brackets."""
        return self.kind in ("mapping", "list") and not self.flow


@dataclass(slots=True)
class Entry:
    """An entry of a collection: text[start:end], from its key or dash on. key: "" in a list. after: the index
    behind its colon or dash, -1 where there is none (in brackets)."""

    key: str
    start: int
    end: int
    after: int
    node: Node


def layout(text: str) -> tuple[Node | None, bool]:
    """The root node of a text that strict_yaml.parse takes, None of an empty one; and whether there are
    aliases."""
    reader = _Reader(text)
    return reader.read(), reader.has_aliases


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._scalars: dict[str, str] = {}  # by anchor: an alias of one may be a key
        self.has_aliases = False

    def read(self) -> Node | None:
        found = next((event for event in self._events if isinstance(event, yaml.NodeEvent)), None)
        return None if found is None else self._node(found)

    def _node(self, event: Any) -> Node:
        start, end, name = event.start_mark.index, event.end_mark.index, event.anchor or ""
        if isinstance(event, yaml.AliasEvent):
            self.has_aliases = True
            return Node("alias", start, end, start, name, text=self._scalars.get(name, ""))
        content = start
        if name and (anchor := _ANCHOR.match(self._text, start)):
            content = anchor.end()
        if isinstance(event, yaml.ScalarEvent):
            if name:
                self._scalars[name] = event.value
            if event.style in ("|", ">"):
                end = self._end_of_lines(content, end)
            return Node("scalar", start, end, min(content, end), name, text=event.value)
        is_mapping, flow = isinstance(event, yaml.MappingStartEvent), bool(event.flow_style)
        node = Node("mapping" if is_mapping else "list", start, end, content, name, flow)
        last = self._read_mapping(node) if is_mapping else self._read_list(node)
        if flow:
            node.end = last.end_mark.index
        else:
            node.content, node.end = node.entries[0].start, node.entries[-1].end
        return node

    def _read_mapping(self, node: Node) -> Any:
        """Its entries. Gives the event that ends it."""
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event)
            value = self._node(next(self._events))
            colon = _COLON.match(self._text, key.end)
            after = colon.end() if colon is not None and colon.end() <= value.start else -1
            end = max(key.end, value.end)
            node.entries.append(Entry(key.text, key.start, end, after, value))
        return event

    def _read_list(self, node: Node) -> Any:
        """Its items. Gives the event that ends it."""
        last = node.content
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self._node(event)
            start, after = item.start, -1
            if not node.flow and (dash := _DASH.match(self._text, last)):
                start, after = dash.end(), dash.end() + 1
            last = max(after, item.end)
            node.entries.append(Entry("", start, last, after, item))
        return event

    def _end_of_lines(self, content: int, end: int) -> int:
        """Where a scalar of whole lines (`|`, `>`) ends: before its last line break. libyaml counts the empty
        lines behind it too, which are its own with `+` only."""
        lines = self._text[content:end]
        head = _BREAK.split(lines, 1)[0]
        if "+" in head.split("#")[0]:
            return content + len(re.sub(rf"{BREAK}\Z", "", lines))
        return content + len(lines.rstrip(" \t\r\n\x85\u2028\u2029"))


def line_start(text: str, index: int) -> int:
    """Where the line of an index begins."""
    while index:
        found = _BREAK.match(text, index - 1)
        if found is not None and found.end() <= index:
            break
        index -= 1
    return index


def line_end(text: str, index: int) -> int:
    """Where the line of an index ends, before its line break."""
    found = _BREAK.search(text, index)
    return len(text) if found is None else found.start()


def next_line(text: str, index: int) -> int:
    """Where the line behind that of an index begins."""
    found = _BREAK.search(text, index)
    return len(text) if found is None else found.end()
