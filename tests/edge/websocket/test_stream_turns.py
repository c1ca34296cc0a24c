"""What open streams may do in one turn of the event loop: bounded, and shared fairly by the tenants."""

from __future__ import annotations

import asyncio

import pytest

from gateway.edge.websocket import stream_turns
from gateway.edge.websocket.stream_turns import StreamTurns

pytestmark = pytest.mark.asyncio


class Worker:
    """Has so many units to do, and notes in which round it did them."""

    def __init__(self, turns: StreamTurns, key: str, units: int, done: list[tuple[int, str, int]]) -> None:
        self._turns, self._key, self.left, self._done = turns, key, units, done

    def go_on(self, most: int) -> int:
        used = min(most, self.left)
        self.left -= used
        self._done.append((self._turns.turns, self._key, used))
        if self.left:
            self._turns.wait(self._key, self.go_on)
        return used


async def finished(*workers: Worker) -> None:
    while any(worker.left for worker in workers):
        await asyncio.sleep(0)


async def test_a_turn_has_room_for_so_much_and_the_rest_goes_on_in_the_next_ones() -> None:
    turns, done = StreamTurns(), list[tuple[int, str, int]]()
    workers = [Worker(turns, "noisy", 2 * stream_turns.TURN, done) for _ in range(5)]
    for worker in workers:
        turns.wait("noisy", worker.go_on)
    await finished(*workers)
    rounds: dict[int, int] = {}
    for number, _, used in done:
        rounds[number] = rounds.get(number, 0) + used
    assert max(rounds.values()) < stream_turns.TURN + stream_turns.SLICE
    assert len(rounds) <= 11
    assert turns.waiting == 0


async def test_a_quiet_tenant_has_its_turn_however_many_connections_another_one_floods() -> None:
    turns, done = StreamTurns(), list[tuple[int, str, int]]()
    noisy = [Worker(turns, "noisy", 1000, done) for _ in range(200)]
    for worker in noisy:
        turns.wait("noisy", worker.go_on)
    await asyncio.sleep(0)
    quiet = Worker(turns, "quiet", stream_turns.SLICE, done)
    turns.wait("quiet", quiet.go_on)
    came = turns.turns
    await finished(quiet)
    assert [number for number, key, _ in done if key == "quiet"] == [came + 1]
    await finished(*noisy)


async def test_what_comes_is_done_at_once_up_to_the_tenants_share_and_never_before_who_waits() -> None:
    turns, done = StreamTurns(), list[tuple[int, str, int]]()
    assert turns.available("noisy") == stream_turns.SLICE
    turns.spend("noisy", stream_turns.SHARE)
    assert turns.available("noisy") == 0
    assert turns.available("quiet") == stream_turns.SLICE
    worker = Worker(turns, "late", 10, done)
    turns.wait("late", worker.go_on)
    assert turns.available("late") == 0
    turns.spend("other", stream_turns.TURN)
    assert turns.available("quiet") == 0
    await finished(worker)
    await asyncio.sleep(0)
    assert {turns.available(name) for name in ("noisy", "quiet", "late")} == {stream_turns.SLICE}


async def test_a_bug_in_one_of_them_keeps_nobody_from_its_turn() -> None:
    turns, done = StreamTurns(), list[tuple[int, str, int]]()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: failures.append(what))

    def broken(most: int) -> int:
        raise ValueError

    worker = Worker(turns, "b", 10, done)
    turns.wait("a", broken)
    turns.wait("b", worker.go_on)
    await finished(worker)
    assert len(failures) == 1
