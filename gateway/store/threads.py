"""Threads for large JSON: apart from asyncio's own, which may all be waiting for a resolver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_JSON = ThreadPoolExecutor(4, "large-json")


async def apart(work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """What `work` gives, done in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_JSON, partial(work, *arguments, **more))
