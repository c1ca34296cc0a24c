"""Regular expressions whose time grows with the text alone: RE2's, where google-re2 is installed.

Patterns of literal characters, with ^ before and $ behind them if wanted, need no engine and always work.
"""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock, current_thread, local, main_thread
from time import monotonic, sleep
from typing import Any
from weakref import WeakValueDictionary

try:
    _re2: Any = importlib.import_module("re2")
except ImportError:  # an optional dependency
    _re2 = None

AVAILABLE = _re2 is not None
MAX_PATTERN = 1000
MAX_PROGRAM = 8192  # instructions that one pattern compiles to: some 6 ms of a locked interpreter
MAX_PROGRAMS = 49_152  # and those of one filter together
MAX_KEPT = 64 * 1024 * 1024  # bytes of the patterns that are kept when nobody uses them
AT_ONCE = 50_000_000  # instructions times bytes of a text, beyond which RE2 should be where it can be ended
_BYTES = 4  # of a character of UTF-8, at most
SMALL = 40  # characters of a pattern that compiles in a tenth of a millisecond
_MEMORY, _MEMORY_OF_CLASSES = 256 * 1024, 1024 * 1024  # bytes that one pattern may take while it matches
_PAUSED = 0.001  # seconds; behind a pattern that took longer others have the interpreter for as long

# A literal: characters that mean themselves, and escaped punctuation.
_literal = re.compile(r"(\^?)((?:[^\\.^$*+?{}\[\]|()]|\\[^A-Za-z0-9\s])*)(\$?)")
_escaped = re.compile(r"\\(.)", re.DOTALL)
# No counted repetition, which is written out, and no class but those in brackets: \pL is 1,200 instructions,
# and \w is as many where it is of Unicode.
_small = re.compile(rf"(?:\(\?[ims]+\))?(?:[^\\{{]|\\[^A-Za-z0-9]){{0,{SMALL}}}", re.DOTALL)


class Here(local):
    """elsewhere: matches a pattern and a text for this thread, where it takes long; None: it does so itself,
    as a worker process does."""

    elsewhere: Callable[[str, str], bool] | None = None


here = Here()


class Pattern:
    """A compiled pattern. size: instructions. room: bytes that it may take."""

    __slots__ = ("__weakref__", "_search", "pattern", "room", "size", "used")

    def __init__(self, pattern: str, search: Callable[[str], bool], size: int, room: int) -> None:
        self.pattern = pattern
        self._search = search
        self.size = size
        self.room = room
        self.used = True

    def search(self, text: str) -> bool:
        """Whether the text holds a match."""
        if here.elsewhere is not None and takes_long(self.size, text):
            return here.elsewhere(self.pattern, text)
        return self._search(text)


def takes_long(size: int, text: str) -> bool:
    """Whether matching may take longer than some 40 ms: each byte of the text may take a nanosecond for each
    instruction of the pattern."""
    return size * len(text) * (1 if text.isascii() else _BYTES) > AT_ONCE


class _Known:
    """The compiled patterns of this process, for all its threads: those that a query uses, and some that
    were used last."""

    def __init__(self) -> None:
        self.compiling = Lock()  # one at a time: others may have the interpreter between two patterns
        self._lock = Lock()
        self._kept: OrderedDict[str, Pattern] = OrderedDict()
        self._used: WeakValueDictionary[str, Pattern] = WeakValueDictionary()
        self.room = 0  # bytes of those that are kept

    def get(self, pattern: str) -> Pattern | None:
        found = self._kept.get(pattern)
        if found is not None:
            found.used = True
            return found
        return self._used.get(pattern)

    def keep(self, pattern: str, compiled: Pattern) -> None:
        with self._lock:
            self._used[pattern] = compiled
            while self._kept and self.room + compiled.room > MAX_KEPT:
                name, oldest = self._kept.popitem(last=False)
                if oldest.used:
                    oldest.used = False
                    self._kept[name] = oldest
                else:
                    self.room -= oldest.room
            before = self._kept.get(pattern)
            self.room += compiled.room - (before.room if before is not None else 0)
            self._kept[pattern] = compiled


_known = _Known()


def literal(pattern: str) -> tuple[bool, str, bool] | None:
    """A pattern of literal characters: whether ^ stands before it, the text, whether $ behind; or None."""
    found = _literal.fullmatch(pattern)
    if found is None:
        return None
    return bool(found[1]), _escaped.sub(r"\1", found[2]), bool(found[3])


def is_small(pattern: str) -> bool:
    """Whether it is compiled in a tenth of a millisecond, here and by the engine of schemas. What is not may
    be so too: a worker process or a thread finds out."""
    folded = "(?" in pattern and "[" in pattern  # a class without case may take a hundred times as long
    return not folded and _small.fullmatch(pattern) is not None


def is_known(pattern: str) -> bool:
    """Whether it is compiled already."""
    return _known.get(pattern) is not None


def check(pattern: str) -> int:
    """How many instructions a pattern compiles to that is not literal. Raises ValueError with what is wrong
    with it."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters")
    if _re2 is None:
        raise ValueError(
            "only literal patterns, with ^ before and $ behind them if wanted, are supported here: "
            "the gateway's host has no google-re2"
        )
    return compiled(pattern).size


def compiled(pattern: str) -> Pattern:
    """The pattern, for as long as it is held by who asked. Raises ValueError."""
    found = _known.get(pattern)
    if found is not None:
        return found
    if is_small(pattern):  # the event loop may ask, which must not wait for another thread
        found = _compile(pattern)
        _known.keep(pattern, found)
        return found
    with _known.compiling:
        found = _known.get(pattern)  # another thread may have been before us
        if found is None:
            began = monotonic()
            found = _compile(pattern)
            _known.keep(pattern, found)
            took = monotonic() - began
            if took > _PAUSED and current_thread() is not main_thread():
                sleep(min(took, 0.02))
    return found


def compiled_all(patterns: Iterable[str]) -> list[Pattern]:
    """The same of many, which a thread should be asked for. Raises ValueError."""
    return [compiled(pattern) for pattern in patterns]


def search(pattern: str) -> Callable[[str], bool]:
    """Whether a text holds a match. $ is the end of the text. Raises ValueError."""
    return compiled(pattern).search


def _compile(pattern: str) -> Pattern:
    options = _re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_OF_CLASSES if "\\" in pattern or "[" in pattern else _MEMORY
    options.never_nl = False
    try:
        found = _re2.compile(pattern, options=options)
    except _re2.error:
        raise ValueError("the pattern is not in RE2's syntax, or too large") from None
    finally:
        _re2.purge()  # it keeps 128 patterns of its own, however large they are
    if found.programsize > MAX_PROGRAM:
        much = f"the pattern compiles to {found.programsize} instructions, of at most {MAX_PROGRAM}"
        raise ValueError(f"{much}: repeat less often, or narrower classes than \\p{{L}}")
    return Pattern(
        pattern, lambda text: found.search(text) is not None, found.programsize, options.max_mem
    )
