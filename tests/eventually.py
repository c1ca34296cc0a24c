"""The only waits of the tests: for what must come true, with an end that no busy machine reaches.

A test never proves by its own clock that something was fast, and never sleeps so that something may happen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Never, TypeVar

END = 30.0  # seconds: reached by what never comes, not by what comes late
_PAUSE = 0.01

T = TypeVar("T")


class NeverCame(AssertionError):
    """What was waited for did not come true; `told` is what the test knows about why."""


async def eventually(
    condition: Callable[[], T], told: Callable[[], object] = lambda: "", end: float = END
) -> T:
    """The first true value of `condition()`, which may fail an assertion until then. Raises NeverCame after
    `end` seconds, with what `told()` says and the condition's last assertion as the cause."""
    deadline, pause = time.monotonic() + end, 0.0
    while True:
        value, failed = _look(condition)
        if value:
            return value
        if time.monotonic() > deadline:
            _never(condition, told, failed)
        await asyncio.sleep(pause)  # the first time for a turn of the loop alone
        pause = _PAUSE


async def eventually_await(
    condition: Callable[[], Awaitable[T]], told: Callable[[], object] = lambda: "", end: float = END
) -> T:
    """As `eventually`, with a condition that is asked by awaiting it."""
    deadline = time.monotonic() + end
    while not (value := await condition()):
        if time.monotonic() > deadline:
            _never(condition, told, None)
        await asyncio.sleep(_PAUSE)
    return value


def poll(condition: Callable[[], T], told: Callable[[], object] = lambda: "", end: float = END) -> T:
    """As `eventually`, for a test without an event loop."""
    deadline = time.monotonic() + end
    while True:
        value, failed = _look(condition)
        if value:
            return value
        if time.monotonic() > deadline:
            _never(condition, told, failed)
        time.sleep(_PAUSE)


async def turns(count: int = 20) -> None:
    """Let all that is ready to run do so: turns of the event loop, no time. For what must NOT happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def _look(condition: Callable[[], Any]) -> tuple[Any, AssertionError | None]:
    try:
        return condition(), None
    except AssertionError as failed:
        return None, failed


def _never(condition: object, told: Callable[[], object], failed: AssertionError | None) -> Never:
    name = getattr(condition, "__qualname__", condition)
    raise NeverCame(f"{name} did not come true: {told()}") from failed
