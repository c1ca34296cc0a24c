"""New values as YAML, so that strict_yaml.parse reads them back, and other readers of YAML too."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

WIDTH = 100  # characters of a line that is written in brackets
# A text that needs no quotes. Readers of YAML 1.1 take some words and numbers for other things: none of them.
_PLAIN = re.compile(
    r"(?:[A-Za-z/][\w./*+~=@-]*(?:(?: |:+)[\w./*+~=@-]+)*"  # unix:catalog.sock, https://host/path, Acme Corp
    r"|[1-9][0-9]*[A-DF-Za-df-z/][\w/]*)",  # 5s, 64KiB, 1000/s
    re.ASCII,
)
_TEMPLATE = re.compile(r"/[\w./*{}~-]*", re.ASCII)  # a path with parameters, outside of brackets
_WORD = re.compile(r"(?i:y|n|yes|no|on|off|true|false|null)")
_ESCAPED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_LITERAL = re.compile(r"[^\s\x7f-\xa0](?:[^\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]*)")


class Rendered(NamedTuple):
    """A value in block style: what stands on the line of its key or dash, and the indented lines below."""

    head: str
    lines: list[str]


def inline(value: Any, *, quoted: bool = False) -> str:
    """A value on one line, collections in brackets. quoted: all texts, as in JSON."""
    if isinstance(value, dict):
        inside = ", ".join(
            f"{scalar(key, quoted=quoted)}: {inline(entry, quoted=quoted)}" for key, entry in value.items()
        )
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(inline(item, quoted=quoted) for item in value)}]"
    return scalar(value, quoted=quoted)


def block(value: Any, indent: int, *, depth: int = 0, literal: bool = True) -> Rendered:
    """A value as the entry of a mapping or list in block style; the lines below it begin with `indent`
    spaces. In brackets where it fits a line. depth: how many levels at least are not in brackets. literal:
    whether a text of several lines may be written as such."""
    if isinstance(value, str) and "\n" in value:
        return _literal(value, indent) if literal else Rendered(scalar(value), [])
    if not isinstance(value, dict | list) or not value:
        if isinstance(value, str) and _TEMPLATE.fullmatch(value):
            return Rendered(value, [])
        return Rendered(inline(value), [])
    if depth <= 0 and _fits(value, indent):
        return Rendered(inline(value), [])
    pad, lines = " " * indent, []
    if isinstance(value, list):
        for item in value:
            lines += item_lines(item, indent, depth=depth - 1, literal=literal)
        return Rendered("", lines)
    for key, entry in value.items():
        head, below = block(entry, indent + 2, depth=depth - 1, literal=literal)
        lines += [f"{pad}{scalar(key)}:{' ' if head else ''}{head}", *below]
    return Rendered("", lines)


def item_lines(value: Any, indent: int, *, depth: int = 0, literal: bool = True) -> list[str]:
    """An item of a list in block style, with its dash after `indent` spaces. All else as for `block`."""
    head, below = block(value, indent + 2, depth=depth, literal=literal)
    if head or not below:
        return [f"{' ' * indent}- {head}", *below]
    return [f"{' ' * indent}- {below[0][indent + 2 :]}", *below[1:]]


def scalar(value: Any, *, quoted: bool = False) -> str:
    """A value that is no collection."""
    if isinstance(value, str):
        if not quoted and _PLAIN.fullmatch(value) and not _WORD.fullmatch(value):
            return value
        return _ESCAPED.sub(_escape, json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        text = json.dumps(value)
        return text if "." in text else text.replace("e", ".0e")
    return json.dumps(value)


def _fits(value: Any, indent: int) -> bool:
    text = inline(value)
    return len(text) + indent <= WIDTH and text.count("{") <= 2


def _literal(value: str, indent: int) -> Rendered:
    body = value.rstrip("\n")
    ends = len(value) - len(body)
    lines = body.split("\n")
    if ends > 1 or not all(not line or _LITERAL.fullmatch(line) for line in lines) or not lines[0]:
        return Rendered(scalar(value), [])
    pad = " " * indent
    return Rendered("|" if ends else "|-", [f"{pad}{line}" if line else "" for line in lines])


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
