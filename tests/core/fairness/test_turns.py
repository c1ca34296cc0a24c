"""Who is served next: by turns among the holders, and never longer than a share of the loop's turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.fairness.turns import SHARE, WAITING_SHARE, Turns


class Loop:
    """An event loop that turns when told, and a clock that each piece of work moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self._next: list[Callable[[], None]] = []

    def call_soon(self, work: Callable[[], None]) -> None:
        self._next.append(work)

    def now(self) -> float:
        return self.time

    def turn(self) -> None:
        now, self._next = self._next, []
        for work in now:
            work()


class Site:
    def __init__(self) -> None:
        self.loop = Loop()
        self.turns = Turns(self.loop.call_soon, self.loop.now)
        self.done: list[str] = []

    def work(self, name: str, takes: float = 0.0) -> Callable[[], None]:
        def work() -> None:
            self.loop.time += takes
            self.done.append(name)

        return work


def test_requests_begin_at_once_until_the_share_of_a_turn_is_used() -> None:
    site = Site()
    begun = 0
    while site.turns.try_begin():
        begun += 1
        site.loop.time += SHARE / 20
        assert begun < 100
    assert 20 <= begun <= 40, "the clock is read for every eighth one"
    assert not site.turns.try_begin()
    site.loop.turn()
    assert site.turns.try_begin(), "another turn, another share"


def test_a_loop_that_turns_between_them_never_makes_a_request_wait() -> None:
    site = Site()
    for _ in range(200):
        assert site.turns.try_begin()
        site.loop.time += SHARE / 2
        site.loop.turn()


def test_nobody_begins_at_once_while_others_wait_for_their_turn() -> None:
    site = Site()
    site.turns.later("a", site.work("a"))
    assert not site.turns.try_begin()
    site.loop.turn()
    assert site.turns.try_begin()


def test_holders_take_turns_however_much_each_has() -> None:
    site = Site()
    for number in range(50):
        site.turns.later("noisy", site.work(f"noisy {number}"))
        site.turns.later("another", site.work(f"another {number}"))
    site.turns.later("quiet", site.work("quiet"))
    site.loop.turn()
    assert site.done.index("quiet") <= 5
    noisy = [name for name in site.done if name.startswith("noisy")]
    assert noisy == [f"noisy {number}" for number in range(50)], "each in its own order"


def test_who_is_new_goes_first_and_keeps_nobody_from_a_turn() -> None:
    site = Site()
    site.turns.later("old", site.work("old", WAITING_SHARE))
    site.turns.later("old", site.work("old", WAITING_SHARE))
    site.turns.later("old", site.work("old", WAITING_SHARE))
    site.loop.turn()
    for number in range(10):
        site.turns.later(f"new {number}", site.work(f"new {number}", WAITING_SHARE * 0.6))
        site.turns.later(f"more {number}", site.work(f"more {number}", WAITING_SHARE * 0.6))
        site.loop.turn()
    assert site.done.count("old") == 3
    assert site.done[1] == "new 0"


def test_a_turn_ends_when_its_share_is_used_and_the_rest_comes_in_the_next_ones() -> None:
    site = Site()
    for number in range(10):
        site.turns.later("a", site.work(str(number), WAITING_SHARE / 2))
    turns = 0
    while len(site.turns):
        before = len(site.done)
        site.loop.turn()
        assert len(site.done) - before == 2
        turns += 1
    assert turns == 5


def test_a_bug_in_one_piece_of_work_costs_nobody_else_a_turn() -> None:
    site = Site()

    def bug() -> None:
        raise ValueError("a bug")

    site.turns.later("a", bug)
    site.turns.later("a", site.work("a"))
    site.turns.later("b", site.work("b"))
    with pytest.raises(ValueError, match="a bug"):
        site.loop.turn()
    site.loop.turn()
    assert sorted(site.done) == ["a", "b"]
