"""Secrets out of a text that people get to see: a config quotes what was pasted into it."""

from __future__ import annotations

import re
from collections.abc import Iterator

HIDDEN = "***"
_PIECE = 4096  # characters, half a millisecond of work
# A password in a URL, a token of three parts, what follows `Bearer` or `Basic`, a key in PEM.
_SECRET = re.compile(
    r"(?<=://)[^/\s@'\"]+(?=@)"
    r"|\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_=-]*){1,4}"
    r"|(?<=\bBearer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=\bBasic )[A-Za-z0-9+/=]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL | re.IGNORECASE,
)
# In a comment also what is called a secret. A key of the config may be a tenant named `token`.
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
_CALLED = re.compile(
    r"((?:password|passwd|secret|token|credential|api[_-]?key|private[_-]?key)s?\s*[:=]\s*)(\S+)",
    re.IGNORECASE,
)
_MARKS = ("://", "eyj", "bearer ", "basic ", "-----begin", "pass", "secret", "token", "credential", "key")


def redact(text: str) -> str:
    """The text with *** for each secret; a text without one is given as it is."""
    text = _SECRET.sub(HIDDEN, text)
    return _COMMENT.sub(lambda comment: _CALLED.sub(rf"\g<1>{HIDDEN}", comment[0]), text)


def line(text: str) -> str:
    """As `redact`, for a line that a program printed: also without what it calls a secret. Quick where
    nothing hints at one, for a program may print much.
    """
    small = text.lower()
    if not any(mark in small for mark in _MARKS):
        return text
    return _CALLED.sub(rf"\g<1>{HIDDEN}", _SECRET.sub(HIDDEN, text))


def pieces(text: str) -> Iterator[str]:
    """The same in pieces of some lines, for a large text; an empty one stands for the work of the one before.
    A text with a key in PEM, which goes over lines, is one piece."""
    lines = [text] if "-----BEGIN" in text.upper() else text.splitlines(keepends=True)
    gathered: list[str] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _PIECE:
            yield redact("".join(gathered))
            yield ""
            gathered, size = [], 0
    yield redact("".join(gathered))
