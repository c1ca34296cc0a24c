"""Header lines: read once, remembered. Peers send the same few lines again and again, so each distinct line
is validated and classified the first time (RFC 9110 section 5.5, RFC 9112 section 5) and looked up after.

Strict: a name is a token, nothing stands before its colon, a value holds no control character but tab; bare
CR, bare LF, NUL and folded lines are refused. Lines that hold secrets are never remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")

MAX_REMEMBERED = 4096  # lines
MAX_LENGTH = 256  # bytes of a line that is worth remembering
line_pattern = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)").fullmatch


class Lines(Generic[K]):
    """A bounded memory of `classify(name, value)` by line. classify gets the name in lower case and the
    value without surrounding white space; it may raise ValueError. forget: names that hold secrets."""

    __slots__ = ("_classify", "_forget", "_known", "get")

    def __init__(self, classify: Callable[[bytes, bytes, bytes], K], forget: frozenset[bytes]) -> None:
        self._classify = classify
        self._forget = forget
        self._known: dict[bytes, K] = {}
        self.get = self._known.get

    def learn(self, line: bytes) -> K:
        """Classify a line that `get` does not know. Raises ValueError when it is not a header line."""
        found = line_pattern(line)
        if found is None:
            raise ValueError("it is not a header line")
        name = found[1].lower()
        kind = self._classify(name, found[2].rstrip(b" \t"), line)
        if name not in self._forget and len(line) <= MAX_LENGTH:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[line] = kind
        return kind
