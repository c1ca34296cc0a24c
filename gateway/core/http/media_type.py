"""Media types as RFC 9110 section 8.3.1 writes them: `application/json; charset="utf-8"; version=1;`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_type = re.compile(rf"[ \t]*({_WORD}/{_WORD})[ \t]*(?:;|\Z)")
# RFC 9110 section 5.6.6: a parameter may be left out between two semicolons, and behind the last one.
_QUOTED = r"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\t \x21-\x7e\x80-\U0010ffff])*"
_parameter = re.compile(rf'[ \t]*(?:({_WORD})=(?:({_WORD})|"({_QUOTED})"))?[ \t]*(?:;|\Z)')
_escaped = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class MediaType:
    """name: in small letters. parameters: their names in small letters, their values as they were meant."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()


def parse(value: str) -> MediaType | None:
    """The media type that a header's value tells; None when it is not one."""
    found = _type.match(value)
    if found is None:
        return None
    name, position = found[1].lower(), found.end()
    parameters = []
    while position < len(value):
        found = _parameter.match(value, position)
        if found is None or found.end() == position:
            return None
        position = found.end()
        if found[1] is not None:
            text = found[2] if found[2] is not None else _escaped.sub(r"\1", found[3])
            parameters.append((found[1].lower(), text))
    return MediaType(name, tuple(parameters))
