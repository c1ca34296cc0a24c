"""Thread pools for blocking work: the event loop does no disk I/O while it serves.

Each kind of work has a pool of its own, so that a disk that hangs blocks only what needs it anyway. Threads
are started when they are first needed. Nothing uses the default pool of asyncio, where one kind of work would
block another. The store has its own pools (store/sqlite/engine.py), as have the lookup of each backend's name
(edge/backend/resolver.py) and each log.
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

from gateway.runtime.scheduling import NICENESS, lower_priority

P = ParamSpec("P")
T = TypeVar("T")

SPOOL = ThreadPoolExecutor(8, "spool")  # bodies and responses in temporary files
CONFIG = ThreadPoolExecutor(2, "config")  # routing.yaml: stamp, text, compilation
REVISIONS = ThreadPoolExecutor(2, "revisions")  # of the config, in their file
AUDIT = ThreadPoolExecutor(1, "audit")  # its file: new lines
AUDIT_READS = ThreadPoolExecutor(2, "audit reads")  # pages of it, and its verification
AUDIT_COPY = ThreadPoolExecutor(1, "audit copy")  # a file on another disk
TLS = ThreadPoolExecutor(1, "tls")  # the files of certificates
KEYS = ThreadPoolExecutor(2, "keys")  # the file of the keys
AUTH = ThreadPoolExecutor(2, "auth")  # the file of API keys and revocations
QUOTAS = ThreadPoolExecutor(1, "quotas")  # their file
CHILDREN = ThreadPoolExecutor(2, "children")  # the processes of backends
# One thread at normal priority: one that holds the interpreter lock and waits for a processor blocks all
# others.
PATTERNS = ThreadPoolExecutor(1, "patterns")  # of filters, compiled
PARSE = ThreadPoolExecutor(4, "parse", lower_priority, (NICENESS,))  # large bodies and documents


def run(threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> Future[T]:
    """Run `work` in a thread of the pool. The future has its result; to cancel it does not end work that has
    begun."""
    return asyncio.get_running_loop().run_in_executor(threads, partial(work, *args, **more))


async def shutdown(threads: ThreadPoolExecutor) -> None:
    """Shut a pool down and wait for its threads, without blocking the event loop if one hangs."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def set_ended() -> None:
        if not ended.done():
            ended.set_result(None)

    def wait() -> None:
        threads.shutdown()
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(set_ended)

    Thread(target=wait, name="ending threads", daemon=True).start()
    await ended
