"""gateway keys create | list | revoke | rotate: the API keys of tenants' machines.

They work on the file in the data folder, whether the gateway runs or not; one that runs follows it within a
second.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from gateway.auth.api_keys import new_key, new_secret
from gateway.auth.store import read_once
from gateway.cli import console, process_config
from gateway.cli.credentials.given import id_of, lifetime
from gateway.cli.credentials.notes import print_notes
from gateway.cli.credentials.store import open_store, operator, told
from gateway.core.api_keys import FOREVER, HOUR, ApiKey, view
from gateway.runtime.moments import moment

NEVER = "never"


def _hour(begins: float) -> str:
    """The hour that begins then, for a person: more is not kept of when a key was used."""
    first = time.strftime("%Y-%m-%d %H:%M", time.localtime(begins))
    return first + time.strftime("-%H:%M %z", time.localtime(begins + HOUR))


def _lasts(given: str) -> float:
    """Seconds of --expires."""
    if given == NEVER:
        return FOREVER
    seconds = lifetime("--expires", given)
    if seconds < 1:
        raise ValueError(f"--expires {given!r}: such a key has expired when it is printed; write 90d")
    return seconds


def create(arguments: argparse.Namespace) -> int:
    """Make a key, and print it alone on standard output."""
    config = process_config.load(arguments.config)
    lasts, wanted = _lasts(arguments.expires), (arguments.tenant, arguments.subject, arguments.scopes)
    key, text = new_key(*wanted, arguments.name, lasts, operator(), time.time())
    open_store(config).create_key(key)
    print_notes(config, key.tenant, key.scopes)
    until = _until(key.expires)
    told(f"The API key {key.id} of {key.tenant}/{key.subject} is good {until}. It is shown this once:")
    print(text)
    return 0


def _until(expires: float) -> str:
    return "until it is revoked" if expires >= FOREVER else f"until {moment(expires)}"


def list_(arguments: argparse.Namespace) -> int:
    """Print all keys, without their secrets."""
    config = process_config.load(arguments.config)
    keys, now = read_once(open_store(config).path).keys.values(), time.time()
    if arguments.json:
        print(json.dumps([view(key, now) for key in keys], indent=2))
    else:
        console.out.print(_table(keys, now))
    return 0


def _table(keys: Iterable[ApiKey], now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ID", "STATE", "TENANT", "SUBJECT", "SCOPES", "NAME", "CREATED", "EXPIRES", "LAST USED"):
        table.add_column(title, overflow="fold")
    for key in keys:
        said = key.state(now)
        overlap = sum(secret.until > now for secret in key.secrets[1:]) if said == "active" else 0
        also = [", rotating"] if overlap else []
        also += [", public key"] if key.jwks else []
        row: list[Any] = [
            key.id,
            said + "".join(also),
            key.tenant,
            key.subject,
            key.scopes,
        ]
        expires = NEVER if key.expires >= FOREVER else moment(key.expires)
        row += [key.name, moment(key.created), expires, _hour(key.used) if key.used else NEVER]
        table.add_row(*map(Text, row), style="" if said == "active" else "dim")
    return table


def revoke(arguments: argparse.Namespace) -> int:
    """End a key for good."""
    config = process_config.load(arguments.config)
    key = open_store(config).revoke_key(id_of(arguments.id), operator(), time.time(), arguments.reason)
    told(f"The API key {key.id} of {key.tenant}/{key.subject} is revoked.")
    return 0


def rotate(arguments: argparse.Namespace) -> int:
    """Give a key a new secret, and print the key alone on standard output."""
    config = process_config.load(arguments.config)
    lasts = None if arguments.expires is None else _lasts(arguments.expires)
    overlap, id_ = lifetime("--overlap", arguments.overlap), id_of(arguments.id)
    text, digest = new_secret(id_)
    key = open_store(config).rotate_key(id_, digest, time.time(), overlap, operator(), lasts)
    before = moment(key.secrets[1].until)
    told(
        f"The API key {key.id} of {key.tenant}/{key.subject} has a new secret, good {_until(key.expires)};"
        f" the one before ends at {before}. It is shown this once:"
    )
    print(text)
    return 0
