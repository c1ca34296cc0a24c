"""Threads for what blocks: the event loop touches no disk while it serves.

Each kind has threads of its own, so that a disk that hangs holds up only those who wait for it anyway. They
are made when they are first needed. Nothing uses asyncio's default ones: what blocks there would be in the
way of whatever else does. The store has its own (store/sqlite/engine.py), each name of a backend has one,
while it is looked up (edge/backend/resolver.py), and each log has one.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import ParamSpec, TypeVar

from gateway.runtime.scheduling import NICER, give_way

P = ParamSpec("P")
T = TypeVar("T")

SPOOL = ThreadPoolExecutor(8, "spool")  # bodies and answers in temporary files
CONFIG = ThreadPoolExecutor(2, "config")  # routing.yaml: its stamp, its text, what it compiles to
KEYS = ThreadPoolExecutor(2, "keys")  # the file of the keys
QUOTAS = ThreadPoolExecutor(1, "quotas")  # their file
CHILDREN = ThreadPoolExecutor(2, "children")  # the processes of backends
# One, and it gives way to nobody: who waits for a processor with the interpreter locked holds up all others.
PATTERNS = ThreadPoolExecutor(1, "patterns")  # of filters, that are compiled
PARSE = ThreadPoolExecutor(4, "parse", give_way, (NICER,))  # large bodies and documents


def run(threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> Future[T]:
    """What `work` gives, done in a thread. Cancelling the future does not end work that has begun."""
    return asyncio.get_running_loop().run_in_executor(threads, partial(work, *args, **more))


async def end(threads: ThreadPoolExecutor) -> None:
    """Wait for its threads to end. Beside the event loop: one that hangs must not stop that too."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    def wait() -> None:
        threads.shutdown()
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(tell)

    Thread(target=wait, name="ending threads", daemon=True).start()
    await ended
