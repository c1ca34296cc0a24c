"""How a command gets into the parser: what it is called and what it takes.

What does its work is imported when it runs. All that commands import together takes longer than most of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gateway.cli.process_config import PLACES


def imported(work: str) -> Callable[..., Any]:
    """The function that does a command's work. work: as `module:function`."""
    module, _, function = work.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def runs(work: str) -> Callable[[argparse.Namespace], int]:
    """What imports this function when the command runs, and calls it with the arguments."""
    return lambda arguments: int(imported(work)(arguments))


@dataclass(frozen=True, slots=True)
class Commands:
    """Where commands are added: below `gateway`, or below a group such as `gateway keys`. of: argparse's
    subparsers."""

    of: Any

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int],
        about: str,
        example: str,
        *,
        config: bool = True,
    ) -> argparse.ArgumentParser:
        """Add a command. about: one line. config: whether it takes a process config."""
        added = self._parser(name, about, example)
        if config:
            default = "default: the first there is of " + ", ".join(PLACES)
            added.add_argument("-c", "--config", help=f"the process config ({default})")
        added.set_defaults(run=run)
        return added

    def group(self, name: str, about: str, example: str) -> Commands:
        """Add a command with commands below it."""
        return below(self._parser(name, about, example))

    def _parser(self, name: str, about: str, example: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = self.of.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return made


def below(parser: argparse.ArgumentParser) -> Commands:
    """Where commands below this parser are added."""
    return Commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
