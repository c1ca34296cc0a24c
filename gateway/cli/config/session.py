"""How a command runs: with its arguments, the process config where it needs it, and the admin API."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

from gateway.cli import console, process_config
from gateway.cli.config import TOKEN_VARIABLE
from gateway.cli.config import client as admin
from gateway.cli.config.client import V1, AdminClient, Refused
from gateway.config.ports import ConfigRefused
from gateway.core.config.revision import digest_of
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problems


class Session:
    """One run of a command."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments

    @cached_property
    def config(self) -> ProcessConfig:
        """The process config of the gateway on this machine. Raises Problems, OSError, ValueError."""
        return process_config.load(self.arguments.config)

    @cached_property
    def client(self) -> AdminClient:
        """The admin API that the options name, else that of the process config. The local token is for that
        one alone: another URL gets what --token-file or the environment says. Raises OSError, ValueError."""
        arguments = self.arguments
        token = admin.given_token(arguments.token_file)
        if arguments.admin is None:
            return admin.client_of(self.config, token or None)
        hint = f"no token was shown: name one with --token-file, or in {TOKEN_VARIABLE}"
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


def run(work: Callable[[Session], int], arguments: argparse.Namespace) -> int:
    """Run a command. With --json, what went wrong is on standard output too."""
    session = Session(arguments)
    try:
        return work(session)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, Problems, ConfigRefused) as error:
        if session.json:
            print_json(_as_json(error, session))
        raise


def _as_json(error: Exception, session: Session) -> dict[str, Any]:
    """An error for a program: `problems` of a config with its `file`, else `detail`, with all that the admin
    API said of it."""
    if isinstance(error, Problems | ConfigRefused):
        path, found = (
            (error.path, error.problems)
            if isinstance(error, ConfigRefused)
            else (session.arguments.config, error.items)
        )
        problems = [
            {"path": one.where, "line": one.line, "reason": one.reason, "hint": one.hint} for one in found
        ]
        return {"file": str(path), "problems": problems}
    if isinstance(error, Refused):
        return dict(error.problem) or {"status": error.status, "detail": str(error)}
    return {"detail": console.system_error(error) if isinstance(error, OSError) else str(error)}


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
