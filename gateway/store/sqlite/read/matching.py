"""Patterns on long texts: what a read in a thread has worker processes match.

RE2 is one call, which nothing can interrupt; where a pattern has more states than it may keep, each byte of
the text takes as long as the pattern is large, and ten megabytes take a minute. A worker process can be
ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.errors import GatewayError
from gateway.store.filter import regex

_KEPT = 8  # texts of documents that are not large: a statement may ask for the same several times in a row
# Texts, each once however many patterns there are, with those patterns.
Asked = tuple[tuple[bytes, tuple[str, ...]], ...]
Verdicts = Sequence[tuple[bool, ...]]


class Matching:
    """Of one read. ask: has worker processes match, and waits for them; it raises what ends the read. Out of
    SQLite's functions that comes as another error, so it is kept here as `failed`."""

    def __init__(self, ask: Callable[[Asked], Verdicts]) -> None:
        self._ask = ask
        self._known: dict[str, dict[str, bool]] = {}  # by text and pattern
        self._wanted: dict[str, dict[str, None]] = {}
        self._postpones = False
        self.failed: Exception | None = None

    def search(self, pattern: str, text: str) -> bool:
        """Whether the text holds a match; see regex.delegate. For SQLite's functions."""
        known = self._known.get(text, {}).get(pattern)
        if known is not None:
            return known
        self._wanted.setdefault(text, {})[pattern] = None
        if self._postpones:
            return False  # whatever is made of it is thrown away
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._settle()
        return self._known[text][pattern]

    def of_one(self, ask: Callable[[], Any]) -> Any:
        """What `ask` gives of one large document, asked until all that it matches is known. So nothing waits
        while SQLite has parsed the document, which takes ten times its memory."""
        self._postpones = True
        try:
            while True:
                found = ask()
                if not self._wanted:
                    return found
                self._settle()
        finally:
            self._postpones = False
            self._known.clear()
            self._wanted.clear()

    def _settle(self) -> None:
        wanted = self._wanted
        self._wanted = {}
        try:
            verdicts = self._ask(tuple((text.encode(), tuple(patterns)) for text, patterns in wanted.items()))
        except (GatewayError, sqlite3.Error) as error:
            self.failed = error
            raise
        for (text, patterns), found in zip(wanted.items(), verdicts, strict=True):
            self._known.setdefault(text, {}).update(zip(patterns, found, strict=True))


def match_each(asked: Asked) -> Verdicts:
    """For a worker process: of each text, whether it holds a match of each of its patterns."""
    return [_match(text.decode(), patterns) for text, patterns in asked]


def _match(text: str, patterns: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple(regex.search(pattern)(text) for pattern in patterns)
