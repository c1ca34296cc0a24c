"""What people get to see of texts from outside, in a log or in a view: no secret, and no control character
that reaches a terminal or forges a record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote

HIDDEN = "***"
_PIECE = 4096  # characters, half a millisecond of work

# --- secrets in any text: a config quotes what was pasted into it ---------------------------------

# A password in a URL, a ticket or an operator's token of ours, a token of three parts, an API key of ours
# (but for its id), what follows `Bearer` or `Basic`, a key in PEM.
_SECRET = re.compile(
    r"(?<=://)[^/\s@'\"]+(?=@)"
    r"|gw(?:t|op|cs|ct)_[A-Za-z0-9_-]{43}"
    r"|\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_=-]*){1,4}"
    r"|(?<=gw_[A-Za-z0-9]{10}_)[A-Za-z0-9]{8,}"
    r"|(?<=\bBearer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=\bBasic )[A-Za-z0-9+/=]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL | re.IGNORECASE,
)
# In a comment, also the value of what is named like a secret. (A key may be a tenant that is named `token`.)
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
_NAMED_SECRET = re.compile(
    r"((?:password|passwd|secret|token|credential|api[_-]?key|private[_-]?key)s?\s*[:=]\s*)(\S+)",
    re.IGNORECASE,
)
_MARKS = (
    "://", "eyj", "bearer ", "basic ", "-----begin", "gw", "pass", "secret", "token", "credential",
    "key",
)  # fmt: skip


def redact(text: str) -> str:
    """The text with *** for each secret; a text without a secret is returned unchanged."""
    text = _SECRET.sub(HIDDEN, text)
    return _COMMENT.sub(lambda comment: _NAMED_SECRET.sub(rf"\g<1>{HIDDEN}", comment[0]), text)


def redact_line(text: str) -> str:
    """As `redact`, for a line of a program's output: the values of what is named like a secret are hidden
    too. Cheap where nothing hints at a secret, because a program may print much.
    """
    lowered = text.lower()
    if not any(mark in lowered for mark in _MARKS):
        return text
    return _NAMED_SECRET.sub(rf"\g<1>{HIDDEN}", _SECRET.sub(HIDDEN, text))


def redact_pieces(text: str) -> Iterator[str]:
    """As `redact`, in pieces of some lines, for a large text. An empty piece follows each one, as a mark of
    the work that it took. A text with a key in PEM, which spans lines, is one piece."""
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


# --- URLs in a log -------------------------------------------------------------------------------

Queries = Literal["no", "yes", "all"]
# Wherever a credential may stand: access_token, X-Amz-Signature, api_key, a code that buys a token.
_secret_name = re.compile(
    r"token|ticket|secret|passw|passphrase|pwd|auth|api.?key|^key$|private|credential|sig$|signature|session|^sid$|jwt"
    r"|assertion|^code$|nonce|otp|^pin$|saml|csrf|xsrf",
    re.IGNORECASE,
).search
_tickets = re.compile(r"gwt_[A-Za-z0-9_-]{43}").sub
_separators = re.compile("([&;])").split
_user = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#]*@").sub


def redact_query(text: str, queries: Queries) -> str:
    """The query of a request (without its `?`). no: nothing of it. yes: with *** for what may be a secret.
    all: as it came, but for tickets of ours: one may not be used up."""
    if queries == "no" or not text:
        return ""
    if queries == "all":
        return _tickets(HIDDEN, text)
    return "".join(part if part in "&;" else _redact_parameter(part) for part in _separators(text))


def _redact_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    if equals and _secret_name(unquote(name)):
        return f"{name}={HIDDEN}" if value else part
    return redact(part)


def redact_url(text: str, queries: Queries) -> str:
    """A URL or a path with a query: without fragment and user information, its query as `redact_query` gives
    it."""
    text = _user(r"\1", text.partition("#")[0])
    before, mark, after = text.partition("?")
    query = redact_query(after, queries)
    return f"{before}{mark}{query}" if query else before


# --- control characters --------------------------------------------------------------------------

# C0 but tab and line feed, DEL, C1, the separators that some readers take for line breaks, what turns the
# direction of writing, and lone surrogates, which no file takes.
_unprintable = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_unindented = re.compile(r"\n(?=\S)")


def escape_controls(text: str) -> str:
    """The text as a log may show it: control characters escaped, as in `\\x1b`; each line after the first
    begins with a space, so that none looks like a record of its own."""
    if text.isprintable():
        return text
    return _unindented.sub("\n    ", _unprintable.sub(_escape, text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
