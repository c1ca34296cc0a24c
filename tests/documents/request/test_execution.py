"""A write goes on when its client has left; what becomes of it is not lost."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.core.errors import Conflict
from gateway.documents.request.execution import run_to_end


class Held:
    size = 10**6

    def __init__(self) -> None:
        self.given_back = 0

    def hand_over(self) -> Any:
        def give_back() -> None:
            self.given_back += 1

        return give_back


class Call:
    def __init__(self) -> None:
        self.held = Held()


@pytest.mark.parametrize(("error", "logged"), [(LookupError("a bug"), True), (Conflict("taken"), False)])
async def test_a_bug_in_it_is_logged_when_nobody_is_left_to_be_told(
    error: Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    call, go_on = Call(), asyncio.Event()

    async def write() -> None:
        await go_on.wait()
        raise error

    task = asyncio.create_task(run_to_end(cast(Any, call), write()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert call.held.given_back == 0
    go_on.set()
    while not call.held.given_back:
        await asyncio.sleep(0)
    assert ("failed a write whose client had left" in caplog.text) is logged
