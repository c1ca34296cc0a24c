"""The request that `gateway explain` is given: headers and a credential, as one writes them in a shell."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.admin.explain import certificate
from gateway.admin.explain.certificate import Shown
from gateway.runtime.files import read_text

_MAX_FILE = 256 * 1024  # bytes of a file of headers
_BEARER = re.compile(r"(?:authorization\s*:\s*)?(?:bearer\s+)?(\S+)", re.IGNORECASE)


def read_token(given: str, option: str = "--token") -> str:
    """The credential in the argument of an option: itself, `Bearer ...`, `Authorization: Bearer ...`, `-` for
    standard input, @file for a file with any of these. Raises ValueError, FileUnusable; neither repeats the
    token."""
    text = _content(given) if given == "-" or given.startswith("@") else given
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith("authorization:")]
    found = _BEARER.fullmatch((named or lines or [""])[0])
    if found is None or (len(lines) > 1 and not named):
        where = f" in {given}" if given == "-" or given.startswith("@") else ""
        what = "token" if option == "--token" else "key"
        raise ValueError(f"{option}: there is no {what}{where}; write it, @FILE or - (standard input)")
    return found[1]


def _content(given: str) -> str:
    return sys.stdin.read(_MAX_FILE) if given in ("-", "@-") else read_text(Path(given[1:]), _MAX_FILE)


def read_certificate(file: str, tls: str) -> Shown:
    """The client's certificate in a file of PEM. tls: as `certificate.read` has it. Raises ValueError,
    FileUnusable."""
    try:
        return certificate.read(read_text(Path(file), _MAX_FILE), tls)
    except ValueError as error:
        raise ValueError(f"--certificate: {file}: {error}") from None


def parse_headers(lines: Iterable[str], token: str | None) -> CIMultiDictProxy[str]:
    """Headers from `Name: value` lines; @file for a file of such lines, as curl takes them. token: as
    `read_token` takes it. Raises ValueError, FileUnusable."""
    headers: CIMultiDict[str] = CIMultiDict()
    for given in lines:
        for line in _content(given).splitlines() if given.startswith("@") else [given]:
            name, colon, value = line.partition(":")
            if not colon and line.strip():
                shown = f"a line of {given}" if given.startswith("@") else repr(line)
                raise ValueError(f"-H: {shown} is no header; write 'Name: value'")
            if colon:
                headers.add(name.strip(), value.strip())
    if token is not None:
        headers[hdrs.AUTHORIZATION] = f"Bearer {read_token(token)}"
    return CIMultiDictProxy(headers)
