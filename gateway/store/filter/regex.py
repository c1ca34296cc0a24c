"""Regular expressions that match in time linear in the text: RE2's, where google-re2 is installed.

Patterns of literal characters, optionally with ^ before and $ behind them, need no engine and always work.
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
MAX_PROGRAMS = 49_152  # instructions of all patterns of one filter
MAX_KEPT = 64 * 1024 * 1024  # bytes of the patterns that are kept while no query uses them
# Instructions times bytes of a text, beyond which RE2 runs in a process that can be ended.
AT_ONCE = 50_000_000
_MAX_CHARACTER = 4  # bytes of a character in UTF-8
SMALL = 40  # characters of a pattern that compiles in a tenth of a millisecond
_MEMORY, _MEMORY_OF_CLASSES = 256 * 1024, 1024 * 1024  # bytes that one pattern may take while it matches
_LONG = 0.001  # seconds; after compiling for longer, other threads have the interpreter for as long

# A literal: characters that mean themselves, and escaped punctuation.
_literal = re.compile(r"(\^?)((?:[^\\.^$*+?{}\[\]|()]|\\[^A-Za-z0-9\s])*)(\$?)")
_escaped = re.compile(r"\\(.)", re.DOTALL)
# No counted repetition, which is written out, and no class but those in brackets: \pL is 1,200 instructions,
# and \w is as many where it is of Unicode.
_small = re.compile(rf"(?:\(\?[ims]+\))?(?:[^\\{{]|\\[^A-Za-z0-9]){{0,{SMALL}}}", re.DOTALL)


class _Delegate(local):
    """match: matches a pattern and a text for this thread where that takes long; None: the thread does it
    itself, as in a worker process."""

    match: Callable[[str, str], bool] | None = None


_delegate = _Delegate()


def delegate(match: Callable[[str, str], bool] | None) -> None:
    """From now on, searches of this thread that may take long are done by `match(pattern, text)`; None: by
    the thread itself."""
    _delegate.match = match


class Pattern:
    """A compiled pattern. size: instructions. memory: bytes that it may take. used: since it was last
    considered for removal."""

    __slots__ = ("__weakref__", "_search", "memory", "pattern", "size", "used")

    def __init__(self, pattern: str, search: Callable[[str], bool], size: int, memory: int) -> None:
        self.pattern = pattern
        self._search = search
        self.size = size
        self.memory = memory
        self.used = True

    def search(self, text: str) -> bool:
        """Whether the text has a match."""
        if _delegate.match is not None and takes_long(self.size, text):
            return _delegate.match(self.pattern, text)
        return self._search(text)


def takes_long(size: int, text: str) -> bool:
    """Whether matching may take longer than some 40 ms: each byte of the text may take a nanosecond for each
    instruction of the pattern."""
    return size * len(text) * (1 if text.isascii() else _MAX_CHARACTER) > AT_ONCE


class _PatternCache:
    """The compiled patterns of this process, for all its threads: those that a query uses, and some of the
    recently used ones."""

    def __init__(self) -> None:
        self.compiling = Lock()  # one pattern at a time: other threads may have the interpreter in between
        self._lock = Lock()
        self._kept: OrderedDict[str, Pattern] = OrderedDict()
        self._used: WeakValueDictionary[str, Pattern] = WeakValueDictionary()
        self._memory = 0  # bytes of the kept patterns

    def get(self, pattern: str) -> Pattern | None:
        found = self._kept.get(pattern)
        if found is not None:
            found.used = True
            return found
        return self._used.get(pattern)

    def keep(self, pattern: str, compiled: Pattern) -> None:
        with self._lock:
            self._used[pattern] = compiled
            while self._kept and self._memory + compiled.memory > MAX_KEPT:
                name, oldest = self._kept.popitem(last=False)
                if oldest.used:
                    oldest.used = False
                    self._kept[name] = oldest
                else:
                    self._memory -= oldest.memory
            before = self._kept.get(pattern)
            self._memory += compiled.memory - (before.memory if before is not None else 0)
            self._kept[pattern] = compiled


_cache = _PatternCache()


def literal(pattern: str) -> tuple[bool, str, bool] | None:
    """The parts of a pattern of literal characters: whether ^ is before it, the text, whether $ is behind it;
    None for any other pattern."""
    found = _literal.fullmatch(pattern)
    if found is None:
        return None
    return bool(found[1]), _escaped.sub(r"\1", found[2]), bool(found[3])


def is_small(pattern: str) -> bool:
    """Whether a pattern surely compiles in a tenth of a millisecond, here and in the engine of schemas.
    Others may, too, which a worker process or a thread finds out."""
    folded = "(?" in pattern and "[" in pattern  # a class without case may take a hundred times as long
    return not folded and _small.fullmatch(pattern) is not None


def is_known(pattern: str) -> bool:
    """Whether a pattern is compiled already."""
    return _cache.get(pattern) is not None


def check(pattern: str) -> int:
    """How many instructions a pattern, which is not literal, compiles to. Raises ValueError, which says what
    is wrong with it."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters")
    if _re2 is None:
        raise ValueError(
            "only literal patterns, with ^ before and $ behind them if wanted, are supported here: "
            "the gateway's host has no google-re2"
        )
    return compiled(pattern).size


def compiled(pattern: str) -> Pattern:
    """The compiled pattern; it stays compiled at least as long as the caller holds it. Raises ValueError."""
    found = _cache.get(pattern)
    if found is not None:
        return found
    if is_small(pattern):  # the event loop may call this, which must not wait for another thread
        found = _compile(pattern)
        _cache.keep(pattern, found)
        return found
    with _cache.compiling:
        found = _cache.get(pattern)  # another thread may have compiled it meanwhile
        if found is None:
            began = monotonic()
            found = _compile(pattern)
            _cache.keep(pattern, found)
            took = monotonic() - began
            if took > _LONG and current_thread() is not main_thread():
                sleep(min(took, 0.02))
    return found


def compiled_all(patterns: Iterable[str]) -> list[Pattern]:
    """As compiled, of many patterns; to be called in a thread. Raises ValueError."""
    return [compiled(pattern) for pattern in patterns]


def search(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a text has a match of the pattern. $ is the end of the text. Raises
    ValueError."""
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
    return Pattern(pattern, lambda text: found.search(text) is not None, found.programsize, options.max_mem)
