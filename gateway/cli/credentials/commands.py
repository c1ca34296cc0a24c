"""The parser of gateway token | keys | revoke."""

from __future__ import annotations

import argparse

from gateway.cli.commands import Commands, runs
from gateway.core.api_keys import DEFAULT_LIFE, DEFAULT_OVERLAP
from gateway.core.process.operators import ISSUER_NAME

_KEY_ID = "the key's id; or @FILE, - (standard input) with a whole key, which is not shown again"


def add_token(commands: Commands) -> None:
    """Add `gateway token`."""
    example = "gateway token --tenant acme --scope 'documents:read documents:write' --ttl 1h"
    run = runs("gateway.cli.credentials.signing_keys:token")
    token = commands.add("token", run, "print a signed token", example)
    token.add_argument("--tenant", required=True)
    token.add_argument("--scope", default="", help="names separated by spaces")
    token.add_argument("--subject", default="operator")
    token.add_argument("--ttl", default="1h", help="such as 90s, 15m, 1h (default 1h)")
    token.add_argument("--kid", default="", help="the key to sign with (default: the newest that may)")


def add_keys(commands: Commands) -> None:
    """Add `gateway keys` and the commands below it."""
    about = "API keys of tenants' machines, and the keys that sign: create, list, revoke, rotate"
    keys = commands.group("keys", about, "gateway keys list")

    def add(name: str, work: str, about: str, example: str) -> argparse.ArgumentParser:
        """work: in which module of this folder, and its function."""
        return keys.add(name, runs(f"gateway.cli.credentials.{work}"), about, f"gateway keys {example}")

    about = "make an API key; its secret is printed once, alone on standard output"
    example = "create --tenant acme --subject etl --scopes 'documents:read' --expires 90d > key"
    _create_arguments(add("create", "keys:create", about, example))
    about = "show the API keys; nobody can show their secrets"
    listed = add("list", "keys:list_", about, "list")
    listed.add_argument("--json", action="store_true", help="the keys as JSON")
    about = "end an API key for good, and the tokens that were made with it"
    revoke = add("revoke", "keys:revoke", about, "revoke 7Kq0ZmP3xA --reason 'it was in a repository'")
    revoke.add_argument("id", help=_KEY_ID)
    revoke.add_argument("--reason", default="", help="for those who look at the list")
    about = "give an API key a new secret; what it was before goes on for the overlap"
    rotate = add("rotate", "keys:rotate", about, "rotate 7Kq0ZmP3xA --overlap 7d > key")
    rotate.add_argument("id", help=_KEY_ID)
    help_ = f"such as 15m, 7d, or 0 (default {DEFAULT_OVERLAP})"
    rotate.add_argument("--overlap", default=DEFAULT_OVERLAP, help=help_)
    help_ = "such as 90d, or never (default: as long as the secret before)"
    rotate.add_argument("--expires", default=None, help=help_)
    about = "make new keys to sign tokens and identities with; those before go on until nobody needs them"
    signing = add("rotate-signing", "signing_keys:rotate", about, "rotate-signing")
    help_ = "how long a new key is published before it signs (default 10m); others keep the set for 5m"
    signing.add_argument("--overlap", help=help_)
    help_ = "the keys leaked: they end now, and whatever they have signed is refused"
    signing.add_argument("--leaked", action="store_true", help=help_)
    about = "register the public keys that the owner of an API key signs client assertions with"
    register = add("register", "signing_keys:register", about, "register 7Kq0ZmP3xA public.jwk")
    register.add_argument("id", help=_KEY_ID)
    help_ = "a JWK or a JWK set, of public keys; it takes the place of the one before (none: remove that)"
    register.add_argument("file", nargs="?", help=help_)


def _create_arguments(create: argparse.ArgumentParser) -> None:
    create.add_argument("--tenant", required=True)
    create.add_argument("--subject", required=True, help="who calls with it, such as the machine's name")
    create.add_argument("--scopes", default="", help="names separated by spaces")
    help_ = f"such as 12h, 90d, or never (default {DEFAULT_LIFE})"
    create.add_argument("--expires", default=DEFAULT_LIFE, help=help_)
    create.add_argument("--name", default="", help="what it is for")


def add_revoke(commands: Commands) -> None:
    """Add `gateway revoke`."""
    about = "refuse credentials from now on, list what is refused, or take it back"
    example = "gateway revoke --subject acme/alice --before now --reason 'lost her laptop'"
    revoke = commands.add("revoke", runs("gateway.cli.credentials.revoke:run"), about, example)
    what = revoke.add_argument_group("what is refused (of several options, what fits all of them)")
    help_ = "one token, as it is sent: it is named by its jti, until it expires"
    what.add_argument("--token", metavar="TOKEN|@FILE|-", help=help_)
    what.add_argument("--jti", default="", help="the token with this jti")
    help_ = "all tokens and API keys of a subject of a tenant"
    what.add_argument("--subject", default="", metavar="TENANT/SUBJECT", help=help_)
    what.add_argument("--tenant", default="", help="all of a tenant")
    help_ = "an API key and the tokens made with it, until it is lifted (for good: gateway keys revoke)"
    what.add_argument("--api-key", default="", metavar="ID", help=help_)
    help_ = f"all tokens of an issuer: its name in the routing config, local, or {ISSUER_NAME}"
    what.add_argument("--issuer", default="", metavar="NAME", help=help_)
    help_ = "only what was issued before: now, 2026-11-28T12:00:00Z, or seconds since the epoch"
    what.add_argument("--before", default="", metavar="TIME", help=help_)
    help_ = "for how long tokens are refused: as long as the longest of them lives (default 30d)"
    revoke.add_argument("--for", dest="for_", default="", metavar="TIME", help=help_)
    revoke.add_argument("--reason", default="", help="for those who look at the list")
    revoke.add_argument("--list", action="store_true", help="show what is refused")
    revoke.add_argument("--lift", type=int, metavar="N", help="take back the revocation with this number")
    revoke.add_argument("--json", action="store_true", help="with --list: as JSON")
