"""Changing a YAML text so that it reads as other data, and only where the data differs.

The text is compared with the data node by node; each difference becomes a replacement of a part of the text.
What lies outside of all parts is copied, so comments, order, quotes, indents and line ends there cannot
change. Within an object that is changed, the fields that stay keep theirs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from gateway.config import strict_yaml
from gateway.config.edit import render
from gateway.config.edit.layout import BREAK, Entry, Node, layout, line_end, line_start, next_line
from gateway.config.edit.render import Rendered
from gateway.core.routing.problems import Path, Problems

_QUOTED = re.compile(r'[{\[\s]*"')
_COMMA = re.compile(rf"(?:\s|#.*?{BREAK})*,")


class NotEditable(Exception):
    """The text has a form that an edit cannot keep: it has to be written as a whole."""


def rewrite(text: str, wanted: Mapping[str, Any]) -> str:
    """The text, changed so that it reads as wanted. text: that of a mapping, or of nothing. Blocks for most
    of a second where there are 1,000 routes. Raises NotEditable; Problems, where the text is no YAML."""
    data = strict_yaml.parse(text).data
    if same(data, wanted):
        return text
    is_closed = line_start(text, len(text)) == len(text)
    whole = text if is_closed else text + _break_of(text)
    root, has_aliases = layout(whole)
    if root is not None and root.kind != "mapping":
        raise NotEditable
    # A text of several lines as such takes the comments and empty lines behind it for its own at times.
    for literal in (True, False):
        edits = _Edits(whole, Anchors(), has_aliases=has_aliases, literal=literal)
        new = edits.root(root, data, wanted)
        if dropped := edits.anchors.to_move():
            anchors = Anchors(dropped, edits.anchors.old)
            edits = _Edits(whole, anchors, has_aliases=has_aliases, literal=literal)
            new = edits.root(root, data, wanted)
        for candidate in (new,) if is_closed else (new.removesuffix(_break_of(text)), new):
            with suppress(Problems):
                if same(strict_yaml.parse(candidate).data, wanted):
                    return candidate
    raise NotEditable


def _break_of(text: str) -> str:
    end = line_end(text, 0)
    return text[end : next_line(text, end)] or "\n"


def same(one: Any, other: Any) -> bool:
    """Equal, where true is not 1."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[k], other[k]) for k in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


class Slot(NamedTuple):
    """Where a node stands. after: the index behind its colon or dash, -1 in brackets and for the root.
    indent: of lines that belong to it. item: after a dash."""

    path: Path
    after: int
    indent: int
    item: bool = False


class Anchors:
    """What the anchors stand for. An alias of a value that changes must not change with it: where all aliases
    keep the old value, the anchor moves to the first of them (`dropped` are those that leave their place);
    else an alias that does not agree is written out."""

    def __init__(self, dropped: frozenset[str] = frozenset(), old: Mapping[str, Any] | None = None) -> None:
        self.dropped = dropped
        self.old: dict[str, Any] = dict(old or {})
        self._new: dict[str, Any] = {}  # as far as the text was gone through
        self._asked: dict[str, list[Any]] = {}

    def define(self, name: str, old: Any, new: Any) -> None:
        """An anchor that stays, if it is not dropped."""
        self.old[name] = old
        if name not in self.dropped:
            self._new[name] = new

    def alias(self, name: str, wanted: Any) -> tuple[bool, str]:
        """Whether an alias may stay; if not, the anchor that its value gets, or ""."""
        self._asked.setdefault(name, []).append(wanted)
        if name in self._new:
            return same(self._new[name], wanted), ""
        if name in self.old and not same(self.old[name], wanted):
            return False, ""
        self._new[name] = wanted
        return False, f"&{name}"

    def of(self, node: Node) -> str:
        """What stands before a node's value, "" for no anchor."""
        return f"&{node.name}" if node.name and node.name not in self.dropped else ""

    def to_move(self) -> frozenset[str]:
        """The anchors that should move to an alias."""
        return frozenset(
            name
            for name, new in self._new.items()
            if not same(new, self.old.get(name))
            and (asked := self._asked.get(name))
            and all(not same(one, new) for one in asked)
        )


class _Edits:
    """The replacements of parts of a text, collected and then applied."""

    def __init__(self, text: str, anchors: Anchors, *, has_aliases: bool, literal: bool) -> None:
        self._text = text
        self._has_aliases = has_aliases
        self._literal = literal
        self._parts: list[tuple[int, int, str]] = []
        self._break = _break_of(text)
        self.anchors = anchors

    def root(self, node: Node | None, old: Any, new: Mapping[str, Any]) -> str:
        """The text with the node at its root made to read as new. Raises NotEditable."""
        if node is None:
            self._put_lines_after(len(self._text), render.block(new, 0, depth=2, literal=self._literal).lines)
        else:
            self.change(node, old, new, Slot((), -1, 0))
        return self._applied()

    def _applied(self) -> str:
        pieces, at = [], 0
        for start, end, new in sorted(self._parts, key=lambda part: part[:2]):
            if start < at:
                raise NotEditable
            pieces += [self._text[at:start], new]
            at = end
        return "".join([*pieces, self._text[at:]])

    # --- nodes ---

    def change(self, node: Node, old: Any, new: Any, slot: Slot) -> None:
        """Make a node read as new."""
        if node.kind == "alias":
            stays, anchor = self.anchors.alias(node.name, new)
            if not stays:
                self._replace(node, new, slot, anchor)
            return
        if node.name:
            self.anchors.define(node.name, old, new)
        is_same = same(old, new)
        if is_same and not self._has_aliases:
            return
        if node.kind == "mapping" and isinstance(new, dict) and (new.keys() & old.keys() or is_same):
            self._drop_anchor(node)
            self._mapping(node, old, new, slot)
        elif node.kind == "list" and isinstance(new, list) and ((old and new) or is_same):
            self._drop_anchor(node)
            self._list(node, old, new, slot)
        elif not is_same:
            self._replace(node, new, slot, self.anchors.of(node))

    def _mapping(self, node: Node, old: dict[str, Any], new: dict[str, Any], slot: Slot) -> None:
        entries = node.entries
        indent = 0 if node.flow else self._column(entries[0].start) if entries else 0
        for entry in entries:
            if entry.key in new:
                before, value = old[entry.key], new[entry.key]
                if entry.after < 0 and not same(before, value):
                    raise NotEditable  # `{ a }`: a key without a colon
                inner = Slot((*slot.path, entry.key), -1 if node.flow else entry.after, indent + 2)
                self.change(entry.node, before, value, inner)
        self._remove(node, [entry.key not in new for entry in entries])
        added = {key: value for key, value in new.items() if key not in old}
        if not added:
            return
        last = next(entry for entry in reversed(entries) if entry.key in new)
        if node.flow:
            quoted = self._is_quoted(node)
            pairs = (render.inline({key: value}, quoted=quoted)[2:-2] for key, value in added.items())
            self._add_flow(node, last, list(pairs))
            return
        lines: list[str] = []
        for key, value in added.items():
            lines += [""] * self._is_spaced(entries)
            depth = 1 + _depth((*slot.path, key), value)
            lines += render.block({key: value}, indent, depth=depth, literal=self._literal).lines
        self._insert_after(last, lines)

    def _list(self, node: Node, old: list[Any], new: list[Any], slot: Slot) -> None:
        entries = node.entries
        indent = 0 if node.flow else self._column(entries[0].start) if entries else 0
        kept, added = _aligned(old, new)
        if new and not kept:
            self._replace(node, new, slot, self.anchors.of(node))
            return
        for index, to in kept.items():
            entry = entries[index]
            inner = Slot((*slot.path, index), entry.after, indent + 2, item=True)
            self.change(entry.node, old[index], new[to], inner)
        self._remove(node, [index not in kept for index in range(len(entries))])
        for before, values in added.items():
            if node.flow:
                texts = [render.inline(value, quoted=self._is_quoted(node)) for value in values]
                if before < 0:
                    first = entries[min(kept)].start
                    self._put(first, first, "".join(f"{text}, " for text in texts))
                else:
                    self._add_flow(node, entries[before], texts)
                continue
            lines: list[str] = []
            spaced = self._is_spaced(entries)
            for value in values:
                depth = _depth((*slot.path, 0), value)
                item = render.item_lines(value, indent, depth=depth, literal=self._literal)
                lines += [*item, ""] if spaced and before < 0 else ["", *item] if spaced else item
            if before < 0:
                self._insert_before(entries[min(kept)], lines, indent)
            else:
                self._insert_after(entries[before], lines)

    def _replace(self, node: Node, new: Any, slot: Slot, anchor: str) -> None:
        """Write a node anew. anchor: what stands before it, "" for none."""
        text = self._text
        if slot.after < 0 and node.is_block:  # the root
            lines = render.block(new, slot.indent, depth=2, literal=self._literal).lines or ["{}"]
            self._put(node.start, node.end, self._break.join(lines))
            return
        if slot.after < 0:
            rendered = render.inline(new, quoted=self._is_quoted(node))
            gap = " " if node.start == node.end and text[node.start - 1 : node.start] == ":" else ""
            self._put(node.start, node.end, gap + (f"{anchor} " if anchor else "") + rendered)
            return
        own_line = node.content >= next_line(text, slot.after)
        below = own_line and node.is_block
        indent = self._column(node.content) if node.is_block else slot.indent
        literal = self._literal and not own_line
        value = render.block(new, indent, depth=_depth(slot.path, new), literal=literal)
        if isinstance(new, str) and not value.lines and self._is_quoted(node):
            value = Rendered(render.inline(new, quoted=True), [])
        head = " ".join(filter(None, (anchor, value.head)))
        if below:
            self._replace_block(node, slot, head if not value.lines or head != anchor else "", value.lines)
        elif slot.item and value.lines and not value.head and not anchor:
            self._put(slot.after, node.end, " " + self._break.join(value.lines)[indent:])
        elif own_line and not value.lines:
            self._put(node.start, node.end, head)
        else:
            start = node.start if node.start < node.end and head and not own_line else slot.after
            gap = " " if head and start == slot.after else ""
            self._put(start, node.end, gap + head)
            self._put_lines_after(node.end, value.lines)

    def _replace_block(self, node: Node, slot: Slot, head: str, lines: list[str]) -> None:
        """As `_replace`, for a collection in block style on lines of its own."""
        text = self._text
        start = line_start(text, node.content)
        if lines:
            self._put(start, node.end, self._break.join(lines))
            return
        if node.name:
            self._put(node.start, node.start + 1 + len(node.name), head)
        else:
            self._put(slot.after, slot.after, f" {head}")
        self._put(start, next_line(text, node.end), "")

    def _drop_anchor(self, node: Node) -> None:
        if node.name in self.anchors.dropped:
            end = node.start + 1 + len(node.name)
            start = node.start
            if self._text[end : end + 1] in (" ", "\t"):
                end += 1
            elif self._text[start - 1] == " ":
                start -= 1
            self._put(start, end, "")

    # --- entries ---

    def _remove(self, node: Node, removed: list[bool]) -> None:
        """The entries that are marked."""
        entries, text = node.entries, self._text
        first = removed.index(False) if False in removed else 0
        if node.flow:
            self._remove_flow(entries, removed)
            return
        if first and text[line_start(text, entries[0].start) : entries[0].start].strip(" "):
            self._put(entries[0].start, entries[first].start, "")  # the first stands behind a dash
        else:
            first = 0
        floor = 0
        for entry, is_removed in list(zip(entries, removed, strict=True))[first:]:
            if is_removed:
                self._delete_lines(line_start(text, entry.start), entry.end, floor)
            floor = next_line(text, entry.end)

    def _remove_flow(self, entries: list[Entry], removed: list[bool]) -> None:
        index = 0
        while index < len(entries):
            if not removed[index]:
                index += 1
                continue
            end = index
            while end + 1 < len(entries) and removed[end + 1]:
                end += 1
            if end + 1 < len(entries):
                self._put(entries[index].start, entries[end + 1].start, "")
            else:
                start, stop = entries[index - 1].end, entries[end].end
                if comma := _COMMA.match(self._text, stop):
                    start, stop = entries[index].start, comma.end()
                elif "#" in self._text[start : entries[index].start]:
                    start = entries[index].start  # a comment behind the comma before: both stay
                self._put(start, stop, "")
            index = end + 1

    def _delete_lines(self, start: int, end: int, floor: int) -> None:
        """From the line that begins at start to that of end; and one of two empty lines that would meet.
        floor: where what comes before ends."""
        text = self._text
        after = next_line(text, end)
        previous = line_start(text, max(0, start - 1))
        is_empty_before = floor <= previous < start and not text[previous:start].strip()
        if is_empty_before and not text[after : line_end(text, after)].strip():
            start = previous
        self._put(start, after, "")

    def _insert_after(self, entry: Entry, lines: list[str]) -> None:
        self._put_lines_after(entry.end, lines)

    def _insert_before(self, entry: Entry, lines: list[str], indent: int) -> None:
        pad = " " * indent
        text = self._break.join([*lines, pad]).removeprefix(pad)
        self._put(entry.start, entry.start, text)

    def _put_lines_after(self, index: int, lines: list[str]) -> None:
        """As lines of their own behind that of the index."""
        after = next_line(self._text, index)
        if lines:
            self._put(after, after, "".join(line + self._break for line in lines))

    def _add_flow(self, node: Node, last: Entry, texts: list[str]) -> None:
        """Behind an entry in brackets; each on a line of its own where the last one has one."""
        text = self._text
        start = line_start(text, last.start)
        pad = text[start : last.start]
        end = line_end(text, last.end)
        comma = text[last.end : end].lstrip(" \t").startswith(",")
        rest = text[last.end : end].lstrip(" \t,")
        is_last_on_line = end < node.end and (not rest or rest.startswith("#"))
        if last is not node.entries[-1] or pad.strip(" \t") or not is_last_on_line:
            self._put(last.end, last.end, "".join(f", {one}" for one in texts))
            return
        if not comma:
            self._put(last.end, last.end, ",")
        lines = [pad + one + "," for one in texts]
        self._put_lines_after(last.end, lines if comma else [*lines[:-1], lines[-1][:-1]])

    def _is_spaced(self, entries: list[Entry]) -> bool:
        """Whether an empty line lies between the last two entries."""
        if len(entries) < 2:
            return False
        start, end = next_line(self._text, entries[-2].end), line_start(self._text, entries[-1].start)
        between = self._text[start:end]
        return any(not line.strip() for line in between.splitlines())

    def _is_quoted(self, node: Node) -> bool:
        """Whether its first text is in quotes, as JSON has it."""
        return _QUOTED.match(self._text, node.content, node.end) is not None

    def _column(self, index: int) -> int:
        return index - line_start(self._text, index)

    def _put(self, start: int, end: int, new: str) -> None:
        self._parts.append((start, end, new))


def _aligned(old: list[Any], new: list[Any]) -> tuple[dict[int, int], dict[int, list[Any]]]:
    """Which items of old stay, as which of new; and what is added behind which item of old that stays, -1 for
    before all of them. Items that have a name are the same where it is."""
    kept: dict[int, int] = {}
    matcher = SequenceMatcher(None, _names(old), _names(new), autojunk=False)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            kept.update(zip(range(i, i_end), range(j, j_end), strict=True))
        elif tag == "replace":
            pairs = zip(range(i, i_end), range(j, j_end), strict=False)
            kept.update((one, other) for one, other in pairs if not _name(old[one]) and not _name(new[other]))
    added: dict[int, list[Any]] = {}
    known = {to: index for index, to in kept.items()}
    last = -1
    for index, value in enumerate(new):
        if index in known:
            last = known[index]
        else:
            added.setdefault(last, []).append(value)
    return kept, added


def _names(items: list[Any]) -> list[str]:
    return [_name(item) or repr(item) for item in items]


def _name(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return f"name {name}" if isinstance(name, str) else ""


def _depth(path: Path, value: Any) -> int:
    """How many levels of a new value are written without brackets: a route has a line for each field, as have
    the sections that hold objects."""
    if len(path) == 1:
        holds = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        inner = any(isinstance(one, dict | list) for one in holds)
        return (2 if path[0] == "routes" else 1) if inner else 0
    return 1 if len(path) == 2 and path[0] == "routes" else 0


def _result(text: str, wanted: Mapping[str, Any]) -> str | None:
    """What the program prints."""
    try:
        return rewrite(text, wanted)
    except NotEditable:
        return None


if __name__ == "__main__":  # see config/source.py
    json.dump(_result(*json.load(sys.stdin)), sys.stdout)
