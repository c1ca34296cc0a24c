"""A text from outside as a log may show it: no control character reaches a terminal or forges a line."""

from __future__ import annotations

import re

# C0 but tab and line feed, DEL, C1, the separators that some readers take for line breaks, what turns the
# direction of writing, and lone surrogates, which no file takes.
_unprintable = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_loose = re.compile(r"\n(?=\S)")


def printable(text: str) -> str:
    """Control characters escaped, as in `\\x1b`; each line after the first begins with a space, so that none
    looks like a record of its own."""
    if text.isprintable():
        return text
    return _loose.sub("\n    ", _unprintable.sub(_escape, text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
