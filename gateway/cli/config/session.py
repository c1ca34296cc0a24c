"""What a command has: its arguments, the process config where it needs it, and the admin API."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

from gateway.cli import console
from gateway.cli.config import client as admin
from gateway.cli.config.client import V1, AdminClient
from gateway.core.config.revision import digest_of
from gateway.core.process.settings import ProcessConfig


class Session:
    """One run of a command. load: reads the process config."""

    def __init__(self, arguments: argparse.Namespace, load: Callable[[str | None], ProcessConfig]) -> None:
        self.arguments = arguments
        self._load = load

    @cached_property
    def config(self) -> ProcessConfig:
        """The process config of the gateway on this machine. Raises Problems, OSError, ValueError."""
        return self._load(self.arguments.config)

    @cached_property
    def client(self) -> AdminClient:
        """The admin API that the options name, else that of the process config. The local token is for that
        one alone: another URL gets what --token-file or the environment says. Raises OSError, ValueError."""
        arguments = self.arguments
        token = admin.given_token(arguments.token_file)
        if arguments.admin is None:
            return admin.client_of(self.config, token or None)
        hint = f"no token was shown: name one with --token-file, or in {admin.TOKEN_VARIABLE}"
        named = "--admin names it"
        insecure = arguments.insecure_http
        return AdminClient(arguments.admin, token, named=named, no_token=hint, insecure=insecure)

    @property
    def json(self) -> bool:
        """Whether standard output is for a program."""
        return bool(self.arguments.json)

    @cached_property
    def interactive(self) -> bool:
        """Whether somebody can be asked."""
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    def live(self) -> Live:
        """The live config as it is now. Raises Refused, Unreachable."""
        return Live(self.client.get(f"{V1}/config").json())


class Live:
    """The live config, as GET /admin/v1/config gives it. text: whoever may only look is not shown what may be
    a secret; then it is not `whole`."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.revision: dict[str, Any] = value["revision"]
        self.number: int = self.revision["number"]
        self.digest: str = self.revision["digest"]
        self.text: str = value["text"]
        self.whole = digest_of(self.text) == self.digest
        self.pending: dict[str, Any] | None = value["pending"]


def print_json(value: Any) -> None:
    """To standard output, for a program."""
    print(json.dumps(value, indent=2))


def ask(question: str) -> bool:
    """Ask on the terminal; anything but y or yes is no."""
    console.err.print(f"[bold yellow]?[/] {question} [bold]\\[y/N][/] ", end="")
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except UnicodeDecodeError:
        return False
