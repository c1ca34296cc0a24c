"""What the options about credentials take: a token or a key, itself or where it is, and a lifetime."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gateway.core.api_keys import id_in
from gateway.core.routing.amounts import parse_lifetime
from gateway.runtime.files import read_text

MAX_FILE = 256 * 1024  # bytes
_BEARER = re.compile(r"(?:authorization\s*:\s*)?(?:bearer\s+)?(\S+)", re.IGNORECASE)


def read_token(given: str, option: str = "--token") -> str:
    """The credential in the argument of an option: itself, `Bearer ...`, `Authorization: Bearer ...`, `-` for
    standard input, @file for a file with any of these. Raises ValueError, FileUnusable; neither repeats the
    token."""
    text = content(given) if given == "-" or given.startswith("@") else given
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith("authorization:")]
    found = _BEARER.fullmatch((named or lines or [""])[0])
    if found is None or (len(lines) > 1 and not named):
        where = f" in {given}" if given == "-" or given.startswith("@") else ""
        what = "token" if option == "--token" else "key"
        raise ValueError(f"{option}: there is no {what}{where}; write it, @FILE or - (standard input)")
    return found[1]


def content(given: str) -> str:
    """What standard input (-, @-) or the file (@FILE) holds. Raises FileUnusable."""
    return sys.stdin.read(MAX_FILE) if given in ("-", "@-") else read_text(Path(given[1:]), MAX_FILE)


def id_of(given: str) -> str:
    """The id of a key: of the argument, or of what the file or standard input holds that it names, as
    read_token takes them. Raises ValueError, FileUnusable; neither repeats a key."""
    if given == "-" or given.startswith("@"):
        given = read_token(given, "ID")
    return id_in(given)


def lifetime(option: str, given: str) -> float:
    """Seconds of an option such as `--expires 90d`. Raises ValueError."""
    try:
        return parse_lifetime(given)
    except ValueError as error:
        raise ValueError(f"{option} {given!r} {error}; write 15m, 12h or 90d") from None
