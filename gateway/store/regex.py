"""Regular expressions whose time grows with the text alone: RE2's, where google-re2 is installed.

Patterns of literal characters, with ^ before and $ behind them if wanted, need no engine and always work.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

try:
    _re2: Any = importlib.import_module("re2")
except ImportError:  # an optional dependency
    _re2 = None

AVAILABLE = _re2 is not None
MAX_PATTERN = 1000
_MAX_MEMORY = 1024 * 1024  # bytes for one compiled pattern
_CACHED = 256

# A literal: characters that mean themselves, and escaped punctuation.
_literal = re.compile(r"(\^?)((?:[^\\.^$*+?{}\[\]|()]|\\[^A-Za-z0-9\s])*)(\$?)")
_escaped = re.compile(r"\\(.)", re.DOTALL)


def literal(pattern: str) -> tuple[bool, str, bool] | None:
    """A pattern of literal characters: whether ^ stands before it, the text, whether $ behind; or None."""
    found = _literal.fullmatch(pattern)
    if found is None:
        return None
    return bool(found[1]), _escaped.sub(r"\1", found[2]), bool(found[3])


def check(pattern: str) -> None:
    """Raises ValueError with what is wrong with a pattern that is not literal."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters")
    if _re2 is None:
        raise ValueError(
            "only literal patterns, with ^ before and $ behind them if wanted, are supported here: "
            "the gateway's host has no google-re2"
        )
    search(pattern)


@lru_cache(_CACHED)
def search(pattern: str) -> Callable[[str], bool]:
    """Whether a text holds a match. $ is the end of the text. Raises ValueError."""
    options = _re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    options.never_nl = False
    try:
        compiled = _re2.compile(pattern, options=options)
    except _re2.error:
        raise ValueError("the pattern is not in RE2's syntax, or too large") from None
    return lambda text: compiled.search(text) is not None
