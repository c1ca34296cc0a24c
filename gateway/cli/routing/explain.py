"""gateway explain: what would happen to a request, and why."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from gateway.admin.explain import rows
from gateway.admin.explain.run import Asking
from gateway.admin.explain.run import run as explain_request
from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.auth.store import FILE as AUTH_STORE
from gateway.call import Call
from gateway.cli import console, process_config
from gateway.cli.routing import request
from gateway.cli.routing.compiled import compile_file
from gateway.core.errors import GatewayError
from gateway.core.http.hops import Via
from gateway.core.process.settings import ProcessConfig


def run(arguments: argparse.Namespace) -> int:
    """gateway explain: 1 when the request would be refused."""
    config = process_config.load(arguments.config)
    headers = request.parse_headers(arguments.header, arguments.token)
    asking = Asking(Path(config.data) / AUTH_STORE)
    compiled = compile_file(config, asking.chain)
    via = _own_via(config) if "Via" in headers else None
    local = config.tokens if compiled.local_issuer else None
    # Without a credential no key is needed.
    shown = any(name in headers for name in ("Authorization", "X-API-Key", "Sec-WebSocket-Protocol"))

    file = arguments.certificate
    certificate = request.read_certificate(file, arguments.tls) if file else None

    async def ask() -> tuple[Call, GatewayError | None, list[tuple[str, str]]]:
        asked = compiled, asking.chain, arguments.method, arguments.path, headers, via, certificate
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
