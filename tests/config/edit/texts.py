"""YAML texts in all the styles that people write, of random data, for the tests of edits."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

TEXTS = [
    "a", "b c", "no", "5s", "/x/{rest*}", "x: y", "- z", "#c", "", "é", "it's", '"q"', "line\nline2\n",
    "l1\n\nl3", "1.5", "true", "null", "a,b", "[x]", "{y}", "*a", "&b", "!t", "\u2028x", "😀", " lead",
    "trail ", "\ttab", "a\\b", "multi\n\n", "1e5", ".5e3", "0x10", "y", "---", "...", "a\r\nb", "=", "<<",
    "~", "?", "? a", "-",
]  # fmt: skip
KEYS = ["a", "b", "c", "name", "path", "x y", "k.k", '"q', "é", "1", "true", "#h", "to"]
_COMMENTS = ["# c", "#", "# x: y", "# - a", '# "{[']
_FLOATS = {1.5: "1.5", 2e30: "2.0e+30"}


def value(random: Random, depth: int = 0) -> Any:
    chance = random.random()
    if depth > 3 or chance < 0.5:
        numbers = [random.randint(-5, 2000), True, False, None, *_FLOATS]
        return random.choice([random.choice(TEXTS), random.choice(TEXTS), random.choice(numbers)])
    if chance < 0.75:
        return {key: value(random, depth + 1) for key in random.sample(KEYS, random.randint(0, 4))}
    if chance < 0.85:
        return [named(random, name) for name in random.sample(["n1", "n2", "n3", "n4"], random.randint(0, 4))]
    return [value(random, depth + 1) for _ in range(random.randint(0, 4))]


def named(random: Random, name: str) -> dict[str, Any]:
    fields = random.sample(["a", "b", "path"], random.randint(0, 3))
    return {"name": name, **{key: value(random, 2) for key in fields}}


def text_of(random: Random, data: dict[str, Any], *, anchors: bool) -> str:
    """A text that reads as the data, mostly."""
    head, lines = _Writer(random, anchors=anchors).plain_block(data, 0)
    text = "\n".join(([head] if head else []) + lines)
    text = (
        random.choice(["", "", "# top\n\n", "---\n"]) + text + random.choice(["\n", "", "\n# end\n", "\n\n"])
    )
    return text.replace("\n", random.choice(["\n", "\n", "\r\n"]))


def changed(random: Random, data: dict[str, Any]) -> dict[str, Any]:
    """The data with one to five changes somewhere."""
    found = copy.deepcopy(data)
    for _ in range(random.choice([1, 1, 2, 5])):
        found = _change(random, found, top=True)
    return found


def _change(random: Random, data: Any, *, top: bool = False) -> Any:
    chance = random.random()
    if isinstance(data, dict) and (data or top):
        key = random.choice(list(data)) if data and chance >= 0.3 else random.choice(KEYS)
        if key not in data or chance < 0.3:
            return {**data, key: value(random, 2)}
        if chance < 0.5:
            return {name: one for name, one in data.items() if name != key}
        return {**data, key: _change(random, data[key])}
    if isinstance(data, list) and data:
        index = random.randrange(len(data))
        if chance < 0.25:
            return [*data[:index], value(random, 2), *data[index:]]
        return data[:index] + ([] if chance < 0.5 else [_change(random, data[index])]) + data[index + 1 :]
    return value(random, 1)


class _Writer:
    def __init__(self, random: Random, *, anchors: bool) -> None:
        self._random = random
        self._choice: Callable[[Any], Any] = random.choice
        self._anchors: dict[str, str] | None = {} if anchors else None

    def _scalar(self, data: Any) -> str:
        if isinstance(data, str):
            is_plain = re.fullmatch(r"[a-z/](?:[a-z0-9/. é]*[a-z0-9é])?", data) and data not in (
                "true",
                "null",
            )
            if is_plain and self._random.random() < 0.6:
                return data
            if data.isprintable() and self._random.random() < 0.3:
                return "'" + data.replace("'", "''") + "'"
            return json.dumps(data)
        if data is None:
            return str(self._choice(["null", "~"]))
        return _FLOATS[data] if isinstance(data, float) else json.dumps(data)

    def _flow(self, data: Any, indent: int, *, lines: bool) -> str:
        if not isinstance(data, dict | list):
            return self._scalar(data)
        opening, closing = "{}" if isinstance(data, dict) else "[]"
        if not data:
            return f"{opening}{self._choice(['', ' '])}{closing}"
        inner = [
            (f"{self._scalar(key)}{self._choice([': ', ':  '])}" if isinstance(data, dict) else "")
            + self._flow(one, indent + 2, lines=lines and self._random.random() < 0.5)
            for key, one in (data.items() if isinstance(data, dict) else enumerate(data))
        ]
        if not lines:
            space = self._choice(["", " "])
            return opening + space + ", ".join(inner) + space + self._choice(["", "", ","]) + closing
        text = opening + self._choice(["", f" {self._choice(_COMMENTS)}"]) + "\n"
        for index, part in enumerate(inner):
            comma = "," if index + 1 < len(inner) or self._random.random() < 0.5 else ""
            text += " " * (indent + 2) + part + comma
            text += self._choice(["", "", f" {self._choice(_COMMENTS)}"]) + "\n"
        return text + " " * (indent + self._choice([0, 2])) + closing

    def _gap(self, indent: int) -> list[str]:
        kinds = ["", "   ", " " * indent + self._choice(_COMMENTS), self._choice(_COMMENTS)]
        return [self._choice(kinds) for _ in range(self._choice([0, 0, 0, 1, 2]))]

    def _block(self, data: Any, indent: int) -> tuple[str, list[str]]:
        """What stands on the line of the key, and the lines below it."""
        if self._anchors is None:
            return self.plain_block(data, indent)
        key = json.dumps(data, sort_keys=True)
        if key in self._anchors and self._random.random() < 0.7:
            return f"*{self._anchors[key]}", []
        is_anchored = key not in self._anchors and self._random.random() < 0.25
        name = f"n{len(self._anchors)}"
        head, lines = self.plain_block(data, indent)
        if not is_anchored or key in self._anchors or name in self._anchors.values():
            return head, lines
        self._anchors[key] = name
        if lines and not head:
            return f"&{name}" + self._choice(["", f" {self._choice(_COMMENTS)}"]), lines
        return f"&{name} {head}", lines

    def plain_block(self, data: Any, indent: int) -> tuple[str, list[str]]:
        if isinstance(data, str) and "\n" in data and "\r" not in data and self._random.random() < 0.8:
            body = data.rstrip("\n")
            ends = len(data) - len(body)
            lines = [" " * indent + line if line else "" for line in body.split("\n")] + [""] * (ends - 1)
            return {0: "|-", 1: "|"}.get(ends, "|+"), lines
        if isinstance(data, dict) and data and (self._random.random() < 0.6 or indent == 0):
            return "", [line for key, one in data.items() for line in self._entry(key, one, indent)]
        if isinstance(data, list) and data and self._random.random() < 0.6:
            return "", [line for one in data for line in self._item(one, indent)]
        return self._flow(data, indent, lines=self._random.random() < 0.3), []

    def _entry(self, key: str, data: Any, indent: int) -> list[str]:
        inner = indent + self._choice([1, 2, 2, 4])
        head, lines = self._block(data, inner)
        if head[:1] in tuple("{[\"'") and "\n" not in head and self._random.random() < 0.1:
            head, lines = "", [" " * inner + head]
        text = " " * indent + self._scalar(key) + ":"
        if head:
            text += self._choice([" ", "  "]) + head
        if self._random.random() < 0.2 and not set(head) & set("#|\n"):
            text += f" {self._choice(_COMMENTS)}"
        return [*self._gap(indent), text, *lines]

    def _item(self, data: Any, indent: int) -> list[str]:
        head, lines = self._block(data, indent + 2)
        pad, gap = " " * indent, self._gap(indent)
        compact = not head and lines and lines[0][: indent + 2].isspace() and "#" not in lines[0]
        if compact and len(lines[0]) > indent + 2 and self._random.random() < 0.8:
            return [*gap, f"{pad}- {lines[0][indent + 2 :]}", *lines[1:]]
        return [*gap, f"{pad}-{' ' if head else ''}{head}", *lines]
