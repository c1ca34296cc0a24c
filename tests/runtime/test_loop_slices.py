"""What takes long on the event loop has one slice of each of its turns, whoever's it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.runtime.loop_slices import SLICE, LoopSlices
from tests.documents.api import NDJSON, serving

pytestmark = pytest.mark.asyncio


class Loop:
    """The turns of a loop and the time, both by hand."""

    def __init__(self) -> None:
        self.time = 100.0
        self.turns = 0
        self.slices = LoopSlices(lambda: False, lambda: self.time, asyncio.get_running_loop().call_soon)
        self.worked: list[tuple[int, str]] = []  # in which turn, and who

    async def work(self, holder: str, steps: int, seconds: float = SLICE) -> None:
        own = self.slices.of(holder)
        for _ in range(steps):
            await own.step()
            self.worked.append((self.turns, holder))
            self.time += seconds

    async def run(self, *tasks: asyncio.Future[None]) -> None:
        while not all(task.done() for task in tasks):
            self.turns += 1
            await asyncio.sleep(0)


async def test_many_requests_have_one_slice_of_a_turn_together() -> None:
    loop = Loop()
    await loop.run(*(asyncio.ensure_future(loop.work("noisy", 5)) for _ in range(50)))
    turns = [turn for turn, _ in loop.worked]
    assert len(turns) == 250 and len(set(turns)) == 250


async def test_within_a_slice_work_goes_on() -> None:
    loop = Loop()
    await loop.run(asyncio.ensure_future(loop.work("one", 40, SLICE / 9.5)))
    assert len({turn for turn, _ in loop.worked}) == 4


async def test_holders_take_turns_however_many_requests_they_have() -> None:
    loop = Loop()
    noisy = [asyncio.ensure_future(loop.work("noisy", 5)) for _ in range(50)]
    await asyncio.sleep(0)
    quiet = asyncio.ensure_future(loop.work("quiet", 5))
    await loop.run(quiet)
    assert sum(holder == "noisy" for _, holder in loop.worked) <= 7
    await loop.run(*noisy)


async def test_one_that_finds_nobody_begins_at_once() -> None:
    loop = Loop()
    own = loop.slices.of("one").step()
    with pytest.raises(StopIteration):
        own.send(None)


async def test_between_two_slices_the_loop_leaves_the_interpreter_to_short_reads() -> None:
    at, soon = 0.0, 0
    loop = asyncio.get_running_loop()

    def now() -> float:
        nonlocal at
        at += SLICE
        return at

    def call_soon(work: Callable[[], None]) -> None:
        nonlocal soon
        soon += 1
        loop.call_soon(work)

    slices = LoopSlices(lambda: True, now, call_soon)
    steps = 0

    async def work() -> None:
        nonlocal steps
        own = slices.of("noisy")
        for _ in range(4):
            await own.step()
            steps += 1

    await asyncio.gather(work(), work(), work())
    assert steps == 12, "they have their slices all the same"
    assert soon <= 3, "where somebody waits for the next slice, it begins by the clock"


async def test_the_slice_of_one_that_leaves_is_the_next_ones() -> None:
    loop = Loop()
    first, *others = [asyncio.ensure_future(loop.work("noisy", 2)) for _ in range(4)]
    await asyncio.sleep(0)
    for task in others[:2]:
        task.cancel()
    await loop.run(first, others[2])
    assert loop.worked.count((loop.worked[0][0], "noisy")) == 1 and len(loop.worked) == 4
    assert not loop.slices._waiting
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not loop.slices._taken  # and the next one begins at once


@pytest.mark.parametrize("path", ["/c/bulk", "/c/import"])
@pytest.mark.parametrize("line", [{"op": "patch", "id": "not there", "data": {}}, {"op": "no such", "id": 1}])
async def test_lines_and_their_outcomes_leave_the_loop_to_others_by_time(
    tmp_path: Path, path: str, line: dict[str, object]
) -> None:
    """The clock goes on by a slice with every look at it: then each line, and each outcome, is a slice."""
    async with serving(tmp_path) as api:
        waits, slices = 0, api.gateway.documents._slices
        take, at = slices.take, 0.0

        def now() -> float:
            nonlocal at
            at += SLICE
            return at

        async def counted(holder: str) -> None:
            nonlocal waits
            waits += holder == "acme"
            await take(holder)

        slices.now, slices.take = now, counted  # type: ignore[method-assign]
        body = (json.dumps(line) + "\n").encode() * 300
        assert (await api("POST", path, body, NDJSON))[0] == 200
        assert waits >= (900 if path == "/c/bulk" else 300)
