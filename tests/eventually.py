"""The only waits of the tests: for what must come true, with an end that no busy machine reaches.

A test never proves by its own clock that something was fast, and never sleeps so that something may happen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Never, TypeVar

END = 60.0  # seconds: reached by what never comes, not by what comes late
AT_ONCE = 4.0  # seconds: where the next thing to end a wait is a time-out of ours, of 5 s and more
_PAUSE = 0.02

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
        pause = _longer(pause)


async def eventually_await(
    condition: Callable[[], Awaitable[T]], told: Callable[[], object] = lambda: "", end: float = END
) -> T:
    """As `eventually`, with a condition that is asked by awaiting it."""
    deadline, pause = time.monotonic() + end, 0.0
    while not (value := await condition()):
        if time.monotonic() > deadline:
            _never(condition, told, None)
        await asyncio.sleep(pause)
        pause = _longer(pause)
    return value


def poll(condition: Callable[[], T], told: Callable[[], object] = lambda: "", end: float = END) -> T:
    """As `eventually`, for a test without an event loop."""
    deadline, pause = time.monotonic() + end, 0.0
    while True:
        value, failed = _look(condition)
        if value:
            return value
        if time.monotonic() > deadline:
            _never(condition, told, failed)
        time.sleep(pause)
        pause = _longer(pause)


async def at_rest(value: Callable[[], T], quiet: float = 0.4) -> T:
    """The value once it has stood still for `quiet` seconds: what piles up goes on growing."""
    seen, since = value(), time.monotonic()
    end = since + END
    while time.monotonic() - since < quiet:
        await asyncio.sleep(_PAUSE)
        if (now := value()) != seen:
            seen, since = now, time.monotonic()
        assert time.monotonic() < end, f"it does not come to rest: {seen}"
    return seen


async def nothing_for(seconds: float) -> None:
    """Gives what must not happen the time to happen. A busy machine makes such a test pass, never fail."""
    await asyncio.sleep(seconds)


async def nothing_comes(what: Awaitable[object], seconds: float = 0.3) -> None:
    """As `nothing_for`, for what would end by itself if it came. It is cancelled."""
    try:
        async with asyncio.timeout(seconds):
            came = await what
    except TimeoutError:
        return
    raise AssertionError(f"it came: {came!r}")


async def takes(seconds: float) -> None:
    """How long something takes that a test plays: the work of a backend, a client between two bytes."""
    await asyncio.sleep(seconds)


async def passes(seconds: float) -> None:
    """Lets a time of the configuration pass, and a bit more. The test must hold when more has passed."""
    await asyncio.sleep(seconds)


async def head_start(seconds: float) -> None:
    """Lets the other side get on, where nothing shows how far it is. The test must hold when it did not."""
    await asyncio.sleep(seconds)


def meanwhile(seconds: float) -> None:
    """Stands still, as `takes` and `nothing_for` do, for a test without an event loop."""
    time.sleep(seconds)


def _longer(pause: float) -> float:
    """Short at first: some tests wait for a state that does not last."""
    return min(max(pause * 1.1, 0.001), _PAUSE)


def _look(condition: Callable[[], Any]) -> tuple[Any, AssertionError | None]:
    try:
        return condition(), None
    except AssertionError as failed:
        return None, failed


def _never(condition: object, told: Callable[[], object], failed: AssertionError | None) -> Never:
    name = getattr(condition, "__qualname__", condition)
    raise NeverCame(f"{name} did not come true: {told()}") from failed
