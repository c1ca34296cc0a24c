"""The request that `gateway explain` is given: headers and a credential, as one writes them in a shell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.admin.explain import certificate
from gateway.admin.explain.certificate import Shown
from gateway.cli.credentials.given import MAX_FILE, content, read_token
from gateway.runtime.files import read_text


def read_certificate(file: str, tls: str) -> Shown:
    """The client's certificate in a file of PEM. tls: as `certificate.read` has it. Raises ValueError,
    FileUnusable."""
    try:
        return certificate.read(read_text(Path(file), MAX_FILE), tls)
    except ValueError as error:
        raise ValueError(f"--certificate: {file}: {error}") from None


def parse_headers(lines: Iterable[str], token: str | None) -> CIMultiDictProxy[str]:
    """Headers from `Name: value` lines; @file for a file of such lines, as curl takes them. token: as
    `read_token` takes it. Raises ValueError, FileUnusable."""
    headers: CIMultiDict[str] = CIMultiDict()
    for given in lines:
        for line in content(given).splitlines() if given.startswith("@") else [given]:
            name, colon, value = line.partition(":")
            if not colon and line.strip():
                shown = f"a line of {given}" if given.startswith("@") else repr(line)
                raise ValueError(f"-H: {shown} is no header; write 'Name: value'")
            if colon:
                headers.add(name.strip(), value.strip())
    if token is not None:
        headers[hdrs.AUTHORIZATION] = f"Bearer {read_token(token)}"
    return CIMultiDictProxy(headers)
