"""What may stand in a log of a URL: a query without its secrets, an address without its user. Pure."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote

from gateway.core.redact import HIDDEN, redact

Queries = Literal["no", "yes", "all"]
# Wherever a credential may stand: access_token, X-Amz-Signature, api_key, a code that buys a token.
_secret_name = re.compile(
    r"token|secret|passw|passphrase|pwd|auth|api.?key|^key$|private|credential|sig$|signature|session|^sid$|jwt"
    r"|assertion|^code$|nonce|otp|^pin$|saml|csrf|xsrf",
    re.IGNORECASE,
).search
_separators = re.compile("([&;])").split
_user = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#]*@").sub


def query(text: str, queries: Queries) -> str:
    """The query of a request (without its `?`). no: nothing of it. yes: with *** for what may be a secret.
    all: as it came."""
    if queries == "no" or not text:
        return ""
    if queries == "all":
        return text
    return "".join(part if part in "&;" else _part(part) for part in _separators(text))


def _part(part: str) -> str:
    name, equals, value = part.partition("=")
    if equals and _secret_name(unquote(name)):
        return f"{name}={HIDDEN}" if value else part
    return redact(part)


def url(text: str, queries: Queries) -> str:
    """A URL or a path with a query: without a fragment and a user, its query as `query` gives it."""
    text = _user(r"\1", text.partition("#")[0])
    before, mark, after = text.partition("?")
    shown = query(after, queries)
    return f"{before}{mark}{shown}" if shown else before
