"""gateway explain: what would happen to a request, and why."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.admin.explain import certificate, rows
from gateway.admin.explain.certificate import Shown
from gateway.admin.explain.run import Asking
from gateway.admin.explain.run import run as explain_request
from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.auth.store import FILE as AUTH_STORE
from gateway.call import Call
from gateway.cli import console, process_config
from gateway.cli.credentials.given import MAX_FILE, content, read_token
from gateway.cli.routing.compiled import compile_file
from gateway.core.errors import GatewayError
from gateway.core.http.hops import Via
from gateway.core.process.settings import ProcessConfig
from gateway.runtime.files import read_text


def run(arguments: argparse.Namespace) -> int:
    """gateway explain: 1 when the request would be refused."""
    config = process_config.load(arguments.config)
    headers = parse_headers(arguments.header, arguments.token)
    asking = Asking(Path(config.data) / AUTH_STORE)
    compiled = compile_file(config, asking.chain)
    via = _own_via(config) if "Via" in headers else None
    local = config.tokens if compiled.local_issuer else None
    # Without a credential no key is needed.
    shown = any(name in headers for name in ("Authorization", "X-API-Key", "Sec-WebSocket-Protocol"))

    shows = _shown(arguments.certificate, arguments.tls, config)

    async def ask() -> tuple[Call, GatewayError | None, list[tuple[str, str]]]:
        asked = compiled, asking.chain, arguments.method, arguments.path, headers, via, shows
        async with asking.of(local if shown else None, compiled.issuers if shown else {}):
            call, refused = await explain_request(*asked)
            return call, refused, await asking.revocations(call, refused, console.program())

    call, refused, revoked = asyncio.run(ask())
    found = rows.explanation(call, refused, asking.issuers, revoked)
    if arguments.json:
        print(json.dumps(dict(found), indent=2))
    else:
        console.out.print(console.pairs(found))
    return 0 if refused is None else 1


def _own_via(config: ProcessConfig) -> Via | None:
    """The name by which the gateway knows its own requests; None before it ran. Raises KeysUnusable."""
    secret = Path(config.data) / CURSOR_KEY
    if secret.exists():
        return config.own_via(ensure_secret(secret))
    return config.own_via(b"") if config.via else None


# --- the request, as one writes it in a shell ---------------------------------------------------------


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


def _shown(file: str | None, tls: str, config: ProcessConfig) -> Shown | None:
    """The certificate that is shown, to the listener of this section. Raises ValueError, FileUnusable."""
    sections = [one.name for one in config.tls]
    if tls and tls not in sections:
        path = console.short(config.path)
        raise ValueError(f"--tls: {path} has no section [tls:{tls}]{console.near(tls, sections)}")
    if tls and not file:
        raise ValueError("--tls says where a certificate is shown: name its file with --certificate")
    return _read_certificate(file, tls) if file else None


def _read_certificate(file: str, tls: str) -> Shown:
    """The client's certificate in a file of PEM. tls: as `certificate.read` has it. Raises ValueError,
    FileUnusable."""
    try:
        return certificate.read(read_text(Path(file), MAX_FILE), tls)
    except ValueError as error:
        raise ValueError(f"--certificate: {file}: {error}") from None
