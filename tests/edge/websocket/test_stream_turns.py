"""What open streams may do in one turn of the event loop: bounded, and shared fairly by the tenants."""

from __future__ import annotations

import asyncio

import pytest

from gateway.edge.websocket import stream_turns
from gateway.edge.websocket.stream_turns import StreamTurns

pytestmark = pytest.mark.asyncio


class Worker:
    """Has so many units to do, and notes in which round it did them."""

    def __init__(self, taking: StreamTurns, key: str, units: int, done: list[tuple[int, str, int]]) -> None:
        self._turns, self._key, self.left, self._done = taking, key, units, done

    def go_on(self, most: int) -> int:
        used = min(most, self.left)
        self.left -= used
        self._done.append((self._turns.rounds, self._key, used))
        if self.left:
            self._turns.wait(self._key, self.go_on)
        return used


async def finished(*workers: Worker) -> None:
    while any(worker.left for worker in workers):
        await asyncio.sleep(0)


async def test_a_turn_has_room_for_so_much_and_the_rest_goes_on_in_the_next_ones() -> None:
    taking, done = StreamTurns(), list[tuple[int, str, int]]()
    workers = [Worker(taking, "noisy", 2 * stream_turns.TURN, done) for _ in range(5)]
    for worker in workers:
        taking.wait("noisy", worker.go_on)
    await finished(*workers)
    rounds: dict[int, int] = {}
    for number, _, used in done:
        rounds[number] = rounds.get(number, 0) + used
    assert max(rounds.values()) < stream_turns.TURN + stream_turns.SLICE
    assert len(rounds) <= 11
    assert taking.waiting == 0


async def test_a_quiet_tenant_has_its_turn_however_many_connections_another_one_floods() -> None:
    taking, done = StreamTurns(), list[tuple[int, str, int]]()
    noisy = [Worker(taking, "noisy", 1000, done) for _ in range(200)]
    for worker in noisy:
        taking.wait("noisy", worker.go_on)
    await asyncio.sleep(0)
    quiet = Worker(taking, "quiet", stream_turns.SLICE, done)
    taking.wait("quiet", quiet.go_on)
    came = taking.rounds
    await finished(quiet)
    assert [number for number, key, _ in done if key == "quiet"] == [came + 1]
    await finished(*noisy)


async def test_what_comes_is_done_at_once_up_to_the_tenants_share_and_never_before_who_waits() -> None:
    taking, done = StreamTurns(), list[tuple[int, str, int]]()
    assert taking.now("noisy") == stream_turns.SLICE
    taking.spend("noisy", stream_turns.SHARE)
    assert taking.now("noisy") == 0
    assert taking.now("quiet") == stream_turns.SLICE
    worker = Worker(taking, "late", 10, done)
    taking.wait("late", worker.go_on)
    assert taking.now("late") == 0
    taking.spend("other", stream_turns.TURN)
    assert taking.now("quiet") == 0
    await finished(worker)
    await asyncio.sleep(0)
    assert taking.now("noisy") == taking.now("quiet") == taking.now("late") == stream_turns.SLICE


async def test_a_bug_in_one_of_them_keeps_nobody_from_its_turn() -> None:
    taking, done = StreamTurns(), list[tuple[int, str, int]]()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: failures.append(what))

    def broken(most: int) -> int:
        raise ValueError

    worker = Worker(taking, "b", 10, done)
    taking.wait("a", broken)
    taking.wait("b", worker.go_on)
    await finished(worker)
    assert len(failures) == 1
