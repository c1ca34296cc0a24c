"""Leases of seats: together never more than there are, whatever is lost or late; and fair to tenants."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.shared.holding import Holding
from gateway.core.shared.seats import Grant, Pool, Report, fair_shares

Demand = dict[str, tuple[float, int]]


class World:
    """A pool and its holders, whose messages wait until somebody delivers them."""

    def __init__(self, seats: dict[str, int], reserve: int = 0) -> None:
        self.pool, self.seats, self.reserve, self.now = Pool(), seats, reserve, 0.0
        self.holders: dict[str, One] = {}

    def join(self, name: str) -> One:
        self.holders[name] = One(self, name)
        return self.holders[name]

    def settle(self) -> None:
        """Deliver everything, and let everybody give back and ask, until nothing changes."""
        for _ in range(50):
            before = self.known()
            for one in self.holders.values():
                one.report()
                one.deliver()
                one.answer()
                one.holding.give_back(one.busy)
            if before == self.known():
                return

    def known(self) -> list[object]:
        held = {name: holder.held for name, holder in self.pool.holders.items()}
        return [held, *((one.holding.part, dict(one.holding.lease)) for one in self.holders.values())]

    def held(self, address: str) -> int:
        return sum(one.holding.lease.get(address, 0) for one in self.holders.values())


class One:
    """A holder: what it has inside, and what of its exchange is on the way."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.holding = world, name, Holding()
        self.demand: Demand = {}
        self.busy: dict[str, int] = {}
        self.reports: deque[Report] = deque()
        self.grants: deque[Grant] = deque()

    def want(self, **demand: int | tuple[float, int]) -> One:
        self.demand = {k: v if isinstance(v, tuple) else (1.0, v) for k, v in demand.items()}
        return self

    def report(self) -> None:
        if not self.reports and not self.grants:
            demand = [(tenant, weight, count) for tenant, (weight, count) in self.demand.items()]
            w = self.world
            held = {address: count for address, count in self.holding.lease.items() if count}
            self.reports.append({"seats": w.seats, "reserve": w.reserve, "held": held, "demand": demand})

    def deliver(self) -> None:
        if self.reports:
            self.grants.append(self.world.pool.exchange(self.name, self.reports.popleft(), self.world.now))

    def answer(self) -> None:
        if self.grants:
            self.holding.granted(self.grants.popleft(), sum(count for _, count in self.demand.values()))


STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "report", "deliver", "answer", "use", "end", "give", "die", "time"]),
              st.integers(0, 3), st.integers(0, 12)),
    max_size=120,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 3), STEPS)
def test_leases_and_what_the_dead_left_are_never_more_than_the_seats(
    each: list[int], reserve: int, steps: list[tuple[str, int, int]]
) -> None:
    seats = {f"a{number}": count for number, count in enumerate(each)}
    world = World(seats, reserve)
    inside_orphans: list[tuple[str, float]] = []
    for number in range(4):
        world.join(f"w{number}")
    for what, who, amount in steps:
        one = world.holders[f"w{who}"]
        address = f"a{amount % len(each)}"
        if what == "want":
            one.want(**{f"t{who % 2}": amount, "t3": amount // 3})
        elif what == "use" and one.busy.get(address, 0) < one.holding.lease.get(address, 0):
            one.busy[address] = one.busy.get(address, 0) + 1
        elif what == "end" and one.busy.get(address, 0):
            one.busy[address] -= 1
        elif what == "give":
            one.holding.called(amount)
            one.holding.give_back(one.busy)
        elif what == "die":
            until = world.now + amount
            world.pool.lost(one.name, {a: (count, until) for a, count in one.busy.items()})
            inside_orphans += [(a, until) for a, count in one.busy.items() for _ in range(count)]
            world.join(one.name)
        elif what == "time":
            world.now += amount / 3
        elif what in ("report", "deliver", "answer"):
            getattr(one, what)()
        for name, count in seats.items():
            left = sum(1 for a, until in inside_orphans if a == name and until > world.now)
            busy = sum(other.busy.get(name, 0) for other in world.holders.values())
            assert busy + left <= world.held(name) + left <= count
            assert all(other.busy.get(a, 0) <= other.holding.lease.get(a, 0)
                       for other in world.holders.values() for a in seats)  # fmt: skip


def test_few_wants_get_what_they_want_and_a_float_stays_with_each() -> None:
    world = World({"a": 8})
    one, other = world.join("one"), world.join("other")
    one.want(acme=1)
    world.settle()
    assert one.holding.held >= 2
    assert other.holding.held >= 1
    assert world.held("a") < 8


def test_a_noisy_tenant_on_one_holder_leaves_the_quiet_one_on_the_other_its_seat() -> None:
    world = World({"a": 8}, reserve=1)
    noisy, quiet = world.join("one").want(noisy=400), world.join("other").want(quiet=0)
    world.settle()
    assert (noisy.holding.held, quiet.holding.held) == (7, 1)
    quiet.want(quiet=3)
    noisy.busy = {"a": 7}
    world.settle()
    assert noisy.holding.part == 5
    noisy.busy = {"a": 5}
    world.settle()
    assert (noisy.holding.held, quiet.holding.held) == (5, 3)


def test_alone_a_tenant_has_all_seats() -> None:
    world = World({"a": 8}, reserve=1)
    one = world.join("one").want(noisy=400)
    world.join("other")
    world.settle()
    assert one.holding.held == 8


def test_a_tenant_on_all_holders_has_no_more_than_one_that_is_on_one() -> None:
    world = World({"a": 12})
    wide = [world.join(f"w{number}").want(wide=100) for number in range(3)]
    wide[2].want(wide=100, narrow=100)
    world.settle()
    assert [one.holding.held for one in wide] == [2, 2, 8]


def test_weights_count_over_all_holders() -> None:
    world = World({"a": 8})
    one = world.join("one").want(acme=(3.0, 50))
    other = world.join("other").want(blue=(1.0, 50))
    world.settle()
    assert (one.holding.held, other.holding.held) == (6, 2)


def test_a_tenant_on_two_holders_has_its_seats_where_its_calls_are() -> None:
    world = World({"a": 8})
    one, other = world.join("one").want(acme=500), world.join("other").want(acme=1)
    world.settle()
    assert (one.holding.held, other.holding.held) == (7, 1)


@pytest.mark.parametrize(("seats", "holders"), [(1, 2), (1, 3), (3, 2)])
def test_seats_that_do_not_divide_are_had_by_turns(seats: int, holders: int) -> None:
    world = World({"a": seats})
    had = {f"w{number}": 0.0 for number in range(holders)}
    for name in had:
        world.join(name).want(acme=50)
    for _ in range(400):
        world.now += 0.03
        world.settle()
        for name in had:
            had[name] += world.holders[name].holding.held / 400
    assert all(abs(mean - seats / holders) < 0.05 * seats for mean in had.values())


def test_what_is_called_back_goes_as_seats_get_free() -> None:
    world = World({"a": 4})
    one, other = world.join("one").want(acme=9), world.join("other")
    world.settle()
    one.busy = {"a": 4}
    other.want(blue=9)
    world.settle()
    assert world.pool.calls() == {"one": 2}
    for busy, held in ((3, 1), (2, 2), (1, 2)):
        one.busy = {"a": busy}
        world.settle()
        assert other.holding.held == held
    assert world.pool.calls() == {}


def test_idle_leases_come_back() -> None:
    world = World({"a": 9})
    one = world.join("one").want(acme=9)
    world.join("other")
    world.settle()
    assert one.holding.held == 9
    one.want()
    world.settle()
    assert one.holding.held == 3


def test_fewer_seats_after_a_reload_are_called_back_and_nobody_gets_more() -> None:
    world = World({"a": 8})
    one, other = world.join("one").want(acme=8), world.join("other")
    world.settle()
    one.busy = {"a": 8}
    world.seats = {"a": 4}
    other.want(blue=4)
    world.settle()
    assert (one.holding.held, other.holding.held) == (8, 0)
    one.busy = {"a": 3}
    world.settle()
    assert one.holding.held + other.holding.held == 4


def test_seats_of_the_dead_are_kept_while_their_requests_may_be_inside() -> None:
    world = World({"a": 4})
    one = world.join("one").want(acme=4)
    world.settle()
    other = world.join("other").want(acme=4)
    world.pool.lost("one", {"a": (3, 10.0)})
    one.want()
    one.holding.lease = {}
    world.settle()
    assert other.holding.held == 1
    world.pool.keep("a", 2)
    world.settle()
    assert other.holding.held == 2
    world.now = 10.0
    world.settle()
    assert other.holding.held == 4


def test_what_a_book_that_lost_its_memory_is_told_to_be_held_is_held() -> None:
    world = World({"a": 4})
    one = world.join("one").want(acme=4)
    world.settle()
    world.pool = Pool()
    world.settle()
    other = world.join("other").want(acme=4)
    one.busy = {"a": 4}
    world.settle()
    assert other.holding.held == 0


def test_several_addresses_are_used_evenly() -> None:
    world = World({"a": 4, "b": 4})
    one, other = world.join("one").want(acme=9), world.join("other").want(acme=9)
    world.settle()
    assert one.holding.held == other.holding.held == 4
    assert (world.held("a"), world.held("b")) == (4, 4)


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(1, 9), st.integers(0, 40))),
       st.integers(0, 60))  # fmt: skip
def test_fair_shares_leave_nothing_that_is_wanted(wanted: dict[str, tuple[int, int]], seats: int) -> None:
    shares = fair_shares(wanted, seats)
    total = sum(most for _, most in wanted.values())
    assert abs(sum(shares.values()) - min(seats, total)) < 1e-6
    for name, (weight, most) in wanted.items():
        assert shares[name] <= most
        if shares[name] < most - 1e-6:  # whoever is short has no less for its weight than anybody
            assert all(shares[o] / wanted[o][0] <= shares[name] / weight + 1e-6 for o in wanted)


def test_the_order_of_reports_does_not_decide_who_starves() -> None:
    rng = random.Random(3)
    world = World({"a": 2})
    had = {"w0": 0.0, "w1": 0.0, "w2": 0.0}
    for name in had:
        world.join(name).want(**{name: 20})
    for _ in range(400):
        world.now += rng.random() * 0.06
        world.settle()
        for name in had:
            had[name] += world.holders[name].holding.held / 400
    assert min(had.values()) > 0.6
