"""gateway up | serve: the gateway itself, which this process becomes."""

from __future__ import annotations

import argparse
import shlex

from gateway.cli import console, process_config
from gateway.process import signals

_USUAL_END = 1.0  # seconds that the interpreter's shutdown may take after serving


def up(arguments: argparse.Namespace) -> int:
    """Serve, and run the supervised backends."""
    return _run_gateway(arguments, supervise=True)


def serve(arguments: argparse.Namespace) -> int:
    """Serve alone."""
    return _run_gateway(arguments, supervise=False)


def _run_gateway(arguments: argparse.Namespace, *, supervise: bool) -> int:
    signals.survive_stray()  # the import of ASAB below takes a second
    process_config.load(arguments.config)  # reports problems before anything starts
    from gateway import application
    from gateway.cli import banner

    option = "" if arguments.config == process_config.find() else f" -c {shlex.quote(arguments.config)}"
    code = application.run(
        arguments.config,
        supervise=supervise,
        prepare=banner.prepare if supervise else None,
        on_ready=lambda gateway: banner.show(gateway, arguments.config, with_demo=supervise, option=option),
    )
    console.out.forgive()  # a closed standard output does not end a gateway that serves
    signals.exit_within(_USUAL_END, code)
    return code
