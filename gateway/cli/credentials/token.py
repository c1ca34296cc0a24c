"""gateway token: a token that the gateway signs for a tenant."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.auth.keys import ensure_signing_key, issue
from gateway.cli import process_config
from gateway.cli.credentials.notes import print_notes
from gateway.core.routing.amounts import parse_duration
from gateway.setting_errors import named_by


def run(arguments: argparse.Namespace) -> int:
    """Print a token, alone on standard output."""
    config = process_config.load(arguments.config)
    path = Path(config.keys)
    with named_by("[tokens] keys", config.path, config.keys):
        ensure_signing_key(path)
    try:
        ttl = parse_duration(arguments.ttl)
    except ValueError as error:
        raise ValueError(f"--ttl {arguments.ttl!r} {error}; write 90s, 15m or 1h") from None
    if ttl < 1:
        raise ValueError(f"--ttl {arguments.ttl!r}: such a token has expired when it is printed; write 90s")
    token = issue(
        path, config.tokens, arguments.tenant, arguments.scope, arguments.subject, ttl, arguments.kid
    )
    print_notes(config, arguments.tenant, arguments.scope)
    print(token)
    return 0
