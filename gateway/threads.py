"""Threads for what blocks: the event loop touches no disk while it serves.

Each kind has threads of its own, so that a disk that hangs, or a resolver (asyncio asks it in its default
threads), holds up only those who wait for it anyway. Threads are made when they are first needed.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SPOOL = ThreadPoolExecutor(8, "spool")  # bodies and answers in temporary files
WATCH = ThreadPoolExecutor(4, "watch")  # the config, the keys, the processes, the quotas
PARSE = ThreadPoolExecutor(4, "parse")  # large bodies and documents


def run(threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> Future[T]:
    """What `work` gives, done in a thread. Cancelling the future does not end work that has begun."""
    return asyncio.get_running_loop().run_in_executor(threads, partial(work, *args, **more))
