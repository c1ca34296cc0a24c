"""How a command about documents runs: on an open store, until it is done or interrupted."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.cli import console
from gateway.cli.documents.engine import Engine, Unusable, open_engine, reason
from gateway.cli.documents.meter import Meter
from gateway.core.errors import GatewayError
from gateway.core.process.settings import ProcessConfig

Work = Callable[[argparse.Namespace, Engine], Coroutine[Any, Any, int]]

_OS_HINTS = {
    errno.EACCES: "run this as the user who runs the gateway, or look at the permissions",
    errno.EPERM: "run this as the user who runs the gateway, or look at the permissions",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk",
    errno.EROFS: "its disk is mounted read-only; choose another place",
    errno.ENOENT: "look at the name, or make its folder first",
    errno.ENOTDIR: "a part of the path is a file; look at the name",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place, or move it away",
}


def run(work: Work, arguments: argparse.Namespace, config: ProcessConfig) -> int:
    """Run it on the store that the config names, and print what went wrong. Returns the exit code."""
    logging.getLogger("gateway").addHandler(logging.NullHandler())  # the command prints errors itself

    async def on_store() -> int:
        engine = open_engine(config, meter)
        running, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert running is not None
        loop.add_signal_handler(signal.SIGINT, _interrupt, running, engine)
        try:
            return await work(arguments, engine)
        finally:
            await engine.operator.close()

    try:
        with Meter() as meter:
            return asyncio.run(on_store())
    except asyncio.CancelledError:
        return console.INTERRUPTED
    except (GatewayError, Unusable) as error:
        console.fail(reason(error))
    except OSError as error:
        hint = _OS_HINTS.get(error.errno or 0)
        console.fail(f"{reason(error)}; {hint}" if hint else reason(error))
    return 1


def _interrupt(task: asyncio.Task[Any], engine: Engine) -> None:
    """The first Ctrl-C cancels the work, and a copy that runs is undone; the second ends the process at once,
    which does no harm but may leave a temporary file."""
    if engine.stopped.is_set():
        os._exit(console.INTERRUPTED)
    engine.stopped.set()
    task.cancel()
