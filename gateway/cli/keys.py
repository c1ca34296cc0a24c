"""gateway keys create | list | revoke | rotate: the API keys of tenants' machines.

They work on the file in the data folder, whether the gateway runs or not; one that runs follows it within a
second.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.auth.api_keys import new_key, new_secret
from gateway.auth.store import FILE, AuthStore, read_once
from gateway.cli import console
from gateway.core.api_keys import DEFAULT_LIFE, DEFAULT_OVERLAP, FOREVER, HOUR, ApiKey, id_in, view
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.amounts import parse_lifetime
from gateway.process.folders import data_folder
from gateway.runtime.moments import moment
from gateway.setting_errors import named_by

NEVER = "never"
KEY_ID = "the key's id; or @FILE, - (standard input) with a whole key, which is not shown again"


class AddCommand(Protocol):
    """Adds a command: its name, what runs it, one line about it, an example."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], about: str, example: str, /
    ) -> argparse.ArgumentParser: ...


def add_commands(
    add: AddCommand,
    load: Callable[[str | None], ProcessConfig],
    notes: Callable[[ProcessConfig, str, str], None],
) -> None:
    """Add the commands below `gateway keys`. load: reads the process config. notes: prints what may be wrong
    with a tenant and scopes."""

    def command(
        name: str, run: Callable[[argparse.Namespace, ProcessConfig], int], about: str, example: str
    ) -> argparse.ArgumentParser:
        return add(name, lambda a: run(a, load(a.config)), about, f"gateway keys {example}")

    about = "make an API key; its secret is printed once, alone on standard output"
    example = "create --tenant acme --subject etl --scopes 'documents:read' --expires 90d > key"
    create = command("create", lambda a, config: _create(a, config, notes), about, example)
    create.add_argument("--tenant", required=True)
    create.add_argument("--subject", required=True, help="who calls with it, such as the machine's name")
    create.add_argument("--scopes", default="", help="names separated by spaces")
    help_ = f"such as 12h, 90d, or never (default {DEFAULT_LIFE})"
    create.add_argument("--expires", default=DEFAULT_LIFE, help=help_)
    create.add_argument("--name", default="", help="what it is for")
    listed = command("list", _list, "show the API keys; nobody can show their secrets", "list")
    listed.add_argument("--json", action="store_true", help="the keys as JSON")
    about = "end an API key for good, and the tokens that were made with it"
    revoke = command("revoke", _revoke, about, "revoke 7Kq0ZmP3xA --reason 'it was in a repository'")
    revoke.add_argument("id", help=KEY_ID)
    revoke.add_argument("--reason", default="", help="for those who look at the list")
    about = "give an API key a new secret; what it was before goes on for the overlap"
    rotate = command("rotate", _rotate, about, "rotate 7Kq0ZmP3xA --overlap 7d > key")
    rotate.add_argument("id", help=KEY_ID)
    help_ = f"such as 15m, 7d, or 0 (default {DEFAULT_OVERLAP})"
    rotate.add_argument("--overlap", default=DEFAULT_OVERLAP, help=help_)
    help_ = "such as 90d, or never (default: as long as the secret before)"
    rotate.add_argument("--expires", default=None, help=help_)


def open_store(config: ProcessConfig) -> AuthStore:
    """The store of this process config, made if need be. Raises SQLiteUnusable, FolderUnusable."""
    with named_by("[gateway] data", config.path, config.data):
        store = AuthStore(data_folder(Path(config.data)) / FILE)
        store.ensure()
    return store


def operator() -> str:
    """Who runs this command, for the store: the user, and who became it by sudo."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"#{uid}"
    before = "".join(c for c in os.environ.get("SUDO_USER", "") if c.isprintable())[:100]
    return f"{name} (sudo by {before})" if before else name


def id_of(given: str) -> str:
    """The id of a key: of the argument, or of what the file or standard input holds that it names, as
    read_token takes them. Raises ValueError, FileUnusable; neither repeats a key."""
    if given == "-" or given.startswith("@"):
        from gateway.cli.explain import read_token  # only here: it imports much of the gateway

        given = read_token(given, "ID")
    return id_in(given)


def lifetime(option: str, given: str) -> float:
    """Seconds of an option such as `--expires 90d`. Raises ValueError."""
    try:
        return parse_lifetime(given)
    except ValueError as error:
        raise ValueError(f"{option} {given!r} {error}; write 15m, 12h or 90d") from None


def _hour(begins: float) -> str:
    """The hour that begins then, for a person: more is not kept of when a key was used."""
    first = time.strftime("%Y-%m-%d %H:%M", time.localtime(begins))
    return first + time.strftime("-%H:%M %z", time.localtime(begins + HOUR))


def told(sentence: str) -> None:
    """Print what was done, to standard error."""
    console.err.print(escape(sentence))


def _lasts(given: str) -> float:
    """Seconds of --expires."""
    if given == NEVER:
        return FOREVER
    seconds = lifetime("--expires", given)
    if seconds < 1:
        raise ValueError(f"--expires {given!r}: such a key has expired when it is printed; write 90d")
    return seconds


def _create(
    arguments: argparse.Namespace,
    config: ProcessConfig,
    notes: Callable[[ProcessConfig, str, str], None],
) -> int:
    lasts, wanted = _lasts(arguments.expires), (arguments.tenant, arguments.subject, arguments.scopes)
    key, text = new_key(*wanted, arguments.name, lasts, operator(), time.time())
    open_store(config).create_key(key)
    notes(config, key.tenant, key.scopes)
    until = _until(key.expires)
    told(f"The API key {key.id} of {key.tenant}/{key.subject} is good {until}. It is shown this once:")
    print(text)
    return 0


def _until(expires: float) -> str:
    return "until it is revoked" if expires >= FOREVER else f"until {moment(expires)}"


def _list(arguments: argparse.Namespace, config: ProcessConfig) -> int:
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


def _revoke(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    key = open_store(config).revoke_key(id_of(arguments.id), operator(), time.time(), arguments.reason)
    told(f"The API key {key.id} of {key.tenant}/{key.subject} is revoked.")
    return 0


def _rotate(arguments: argparse.Namespace, config: ProcessConfig) -> int:
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
