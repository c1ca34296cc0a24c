"""Rates that several processes share: together they let through what one would; where the burst is large, at
most a slice more.

Each member is the limits of one process; the book and the time are in the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import Call
from gateway.core.errors import ClientLimit, TenantLimit
from gateway.core.http.head import Head
from gateway.core.model import Route, Tenant, TenantId, TrustedProxies
from gateway.core.policy.limits import FieldsForm, LimitRules, Rate, take
from gateway.core.routing.snapshot import Snapshot
from gateway.core.shared.rates import RateBook, slice_of
from gateway.limits.leases import IDLE, TICK, SharedRates
from gateway.limits.shared_rates import SharedLimits
from gateway.shared.master import Books
from tests.limits.test_rates import Clock


class NoQuota:
    left_today = 0.0

    def used(self, tenant: str) -> int:
        return 0

    def count(self, tenant: str) -> None:
        raise AssertionError("nothing has a quota")

    def asks(self, tenant: str, quota: int) -> bool:
        return False

    def ask(self, tenant: str, quota: int) -> None:
        raise AssertionError("nothing has a quota")


class Member:
    """One process. down: its exchange does not respond."""

    def __init__(self, fleet: Fleet, name: str, fields: FieldsForm) -> None:
        self.fleet, self.name, self.down = fleet, name, False
        self.kicked = False
        self.rates = SharedRates(self.kick, members=1)
        self.limits = SharedLimits(self, self.rates, NoQuota(), fleet.clock, lambda: 0.0)
        rules = LimitRules(fleet.client, fields)
        self.snapshot = Snapshot(1, 0.0, "", None, {}, {}, TrustedProxies(), rules)  # type: ignore[arg-type]
        self.taken = self.refused = 0

    def kick(self) -> None:
        self.kicked = True

    def wait(self) -> asyncio.Future[None]:
        self.exchange()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def exchange(self) -> None:
        now = self.fleet.clock.now
        self.kicked = False
        report = self.rates.report(now)
        if report is None:
            return
        self.fleet.exchanges += 1
        if self.down:
            self.rates.lost(now)
        else:
            self.rates.granted(self.fleet.books.settle(self.name, {"rates": report})["rates"], now)

    def call(self, rate: Rate | None, key: str = "acme") -> Call:
        call = Call("GET", "/", Head(), "192.0.2.1", self.snapshot)
        call.route = Route("r", "/", "t", None)  # type: ignore[assignment,arg-type]
        call.tenant = Tenant(TenantId(key), key, rate)
        return call

    def take(self, rate: Rate, key: str = "acme") -> bool:
        """Whether a call of the tenant is let through, after a wait if need be."""
        call = self.call(rate, key)
        self.fleet.alone.take(rate, self.fleet.clock.now)
        taken = self._waits(call, self.limits.take)
        self.taken += taken
        self.refused += not taken
        return taken

    def take_client(self) -> bool:
        """The same of a call of the client's address."""
        return self._waits(self.call(None), self.limits.take_client)

    def take_client_now(self) -> bool:
        """The same of one that cannot wait."""
        try:
            self.limits.take_client_now(self.call(None))
        except ClientLimit:
            return False
        return True

    def _waits(self, call: Call, take: Callable[[Call], bool]) -> bool:
        try:
            for _ in range(3):
                if take(call):
                    return True
                self.exchange()
        except (TenantLimit, ClientLimit) as error:
            assert int(error.headers["Retry-After"]) >= 1
        return False


class OneProcess:
    """What one process with the same limit would do with all the calls."""

    def __init__(self) -> None:
        self.bucket: float | None = None
        self.taken = 0
        self.took = False  # the last one

    def take(self, rate: Rate, now: float) -> None:
        self.bucket, wait = take(self.bucket, now, rate)
        self.took = wait == 0.0
        self.taken += self.took


class Fleet:
    """alone: what one process would have done in their place, for calls of one tenant."""

    def __init__(self, members: int = 2, client: Rate | None = None, fields: FieldsForm = "none") -> None:
        self.clock = Clock()
        self.client = client
        self.exchanges = 0
        self.alone = OneProcess()
        self.book = RateBook()
        self.books = Books({"rates": self.book}, self.clock)
        self.members = [Member(self, str(number), fields) for number in range(members)]

    @property
    def taken(self) -> int:
        return sum(member.taken for member in self.members)

    def run(self, seconds: float, rate: Rate, loads: list[float], step: float = 0.002) -> None:
        """Calls at each member, so many a second; exchanges as shared/exchange.py has them."""
        owed, told = [0.0] * len(loads), [self.clock.now] * len(loads)
        for _ in range(round(seconds / step)):
            self.clock.now += step
            now = self.clock.now
            for at, member in enumerate(self.members[: len(loads)]):
                owed[at] += loads[at] * step
                while owed[at] >= 1:
                    owed[at] -= 1
                    member.take(rate)
                if now - told[at] >= (0.01 if member.kicked else 0.1):
                    told[at] = now
                    member.exchange()


def over(fleet: Fleet, rate: Rate, seconds: float) -> float:
    """Calls let through beyond what one process would."""
    return fleet.taken - (rate.burst + rate.per_second * seconds)


@pytest.mark.parametrize("loads", [[300, 300], [900, 100], [150, 150, 300], [30, 800]], ids=str)
@pytest.mark.parametrize("rate", [Rate(100, 50), Rate(20, 5), Rate(400, 1)], ids=str)
def test_under_too_much_load_all_together_get_the_rate(rate: Rate, loads: list[float]) -> None:
    fleet, slices = Fleet(len(loads)), len(loads) * slice_of(rate.per_second)
    fleet.run(0.5, rate, loads)
    assert over(fleet, rate, 0.5) <= slices
    before, alone = fleet.taken, fleet.alone.taken
    fleet.run(2.5, rate, loads)
    taken = fleet.taken - before
    assert 0.95 * (fleet.alone.taken - alone) <= taken <= 1.05 * rate.per_second * 2.5
    assert over(fleet, rate, 3.0) <= slices


@pytest.mark.parametrize("loads", [[45, 45], [85, 5], [90, 0]], ids=str)
def test_below_its_rate_a_tenant_is_never_refused(loads: list[float]) -> None:
    fleet, rate = Fleet(2), Rate(100, 20)
    fleet.run(4.0, rate, loads)
    assert [member.refused for member in fleet.members] == [0, 0]


@given(
    st.sampled_from(
        [Rate(1, 1), Rate(1, 5), Rate(10, 1), Rate(10, 5), Rate(100, 1), Rate(100, 50), Rate(1, 63)]
    ),
    st.lists(
        st.tuples(
            st.integers(0, 2),  # the member
            st.integers(1, 70),  # its calls
            st.booleans(),  # its exchange turns, too
            st.sampled_from([0.0, 0.0, 0.0031, 0.0113, 0.0971, 0.3003, 1.0013, 2.5017]),  # seconds later
        ),
        max_size=40,
    ),
)
@settings(max_examples=100)
def test_of_a_small_burst_each_call_gets_what_one_process_would_have_said(rate: Rate, steps: Any) -> None:
    fleet = Fleet(3)
    for number, calls, exchanges, later in steps:
        member = fleet.members[number]
        for _ in range(calls):
            assert member.take(rate) == fleet.alone.took
        if exchanges:
            member.exchange()
        fleet.clock.now += later


def test_a_burst_is_counted_together() -> None:
    fleet, rate = Fleet(2), Rate(10, 20)
    first = [fleet.members[number % 2].take(rate) for number in range(60)]
    assert first == [True] * 20 + [False] * 40


def test_a_burst_at_one_of_them_is_served_whole() -> None:
    fleet, rate = Fleet(2), Rate(10, 20)
    assert [fleet.members[0].take(rate) for _ in range(25)].count(True) == 20


def test_what_a_killed_member_held_is_lost_and_no_more() -> None:
    fleet, rate = Fleet(2), Rate(100, 100)
    fleet.run(1.0, rate, [200, 200])
    before = fleet.taken
    fleet.run(2.0, rate, [200])  # the other one is gone, without a word
    assert fleet.taken - before == pytest.approx(200, abs=12)
    assert over(fleet, rate, 3.0) <= 2 * slice_of(100)


def test_what_is_not_used_goes_back_within_a_second() -> None:
    fleet, rate = Fleet(2), Rate(0.01, 100)
    one, other = fleet.members
    assert one.take(rate)
    one.exchange()  # holds one more by now
    fleet.clock.now += IDLE + 0.2
    one.exchange()
    assert [other.take(rate) for _ in range(100)].count(True) == 99


def test_who_was_refused_gets_what_another_one_gives_back_long_before_the_rate_brings_one() -> None:
    fleet, rate = Fleet(2), Rate(0.01, 100)
    one, other = fleet.members
    assert one.take(rate)
    one.exchange()  # holds one more by now
    assert [other.take(rate) for _ in range(100)].count(True) == 98
    for _ in range(2):
        fleet.clock.now += IDLE + 0.2
        one.exchange()
    assert [other.take(rate) for _ in range(2)] == [True, False]


async def test_what_a_call_waited_for_and_did_not_take_goes_back_at_the_next_looks() -> None:
    """Its client has left meanwhile."""
    fleet, rate = Fleet(2), Rate(0.01, 1)
    one, other = fleet.members
    assert not one.limits.take(one.call(rate))
    one.exchange()
    for _ in range(2):
        fleet.clock.now += TICK + 0.01
        one.exchange()
    assert other.take(rate)


def test_what_calls_wait_for_is_asked_before_all_else() -> None:
    member, rate = Fleet(1).members[0], Rate(1, 5)
    for number in range(5000):
        member.limits.take(member.call(Rate(1, 100), str(number)))
    assert [member.take(rate) for _ in range(6)] == [True] * 5 + [False]


def test_nothing_is_exchanged_for_what_is_idle() -> None:
    fleet, rate = Fleet(1), Rate(100, 100)
    fleet.run(1.0, rate, [50])
    fleet.run(2.0, rate, [0])
    before = fleet.exchanges
    fleet.run(5.0, rate, [0])
    assert fleet.exchanges == before
    assert fleet.members[0].rates.due(fleet.clock.now) is None


def test_a_busy_rate_needs_a_few_exchanges_a_second() -> None:
    fleet, rate = Fleet(2), Rate(1000, 1000)
    fleet.run(1.0, rate, [400, 400])
    before = fleet.exchanges
    fleet.run(2.0, rate, [400, 400])
    assert fleet.exchanges - before <= 2 * 2 * 30


def test_a_rate_far_above_what_is_used_is_asked_for_seldom_and_its_burst_is_left_to_all() -> None:
    fleet, rate = Fleet(2), Rate(100_000, 100_000)
    fleet.run(1.0, rate, [400, 400])
    before = fleet.exchanges
    fleet.run(2.0, rate, [400, 400])
    assert fleet.exchanges - before <= 2 * 2 * 4
    small = Rate(1000, 64)
    fleet.run(2.0, small, [20, 0])
    assert [fleet.members[1].take(small) for _ in range(60)] == [True] * 60


def test_what_is_used_up_is_refused_without_asking_again() -> None:
    fleet, rate = Fleet(1), Rate(0.1, 1)
    member = fleet.members[0]
    member.take(rate)
    member.take(rate)
    before = fleet.exchanges
    assert not any(member.take(rate) for _ in range(100))
    assert fleet.exchanges == before


def test_a_refusal_names_the_time_at_which_the_book_has_one() -> None:
    fleet, rate = Fleet(2), Rate(0.1, 1)
    fleet.members[0].take(rate)
    fleet.members[0].exchange()
    member = fleet.members[1]
    member.take(rate)
    with pytest.raises(TenantLimit) as caught:
        member.limits.take(member.call(rate))
    assert caught.value.headers["Retry-After"] == "10"


def test_a_raised_rate_counts_soon() -> None:
    fleet = Fleet(1)
    member = fleet.members[0]
    assert member.take(Rate(1 / 3600, 1))
    assert not member.take(Rate(1 / 3600, 1))
    assert not member.take(Rate(1 / 3600, 1))
    fleet.run(3.0, Rate(1000, 10), [100])
    assert member.taken >= 100  # once what is owed at the new rate is over


async def test_a_call_that_waits_for_the_book_is_counted_once() -> None:
    fleet, rate = Fleet(1), Rate(5, 5)
    member = fleet.members[0]
    call = member.call(rate)
    assert not member.limits.take(call)
    await member.limits.take_later(call)
    taken = 1
    with suppress(TenantLimit):
        while True:
            await member.limits.take_later(member.call(rate))
            taken += 1
    assert taken == 5


async def test_who_gets_no_answer_has_its_part_of_the_burst_and_is_refused_after_it() -> None:
    fleet, rate = Fleet(2), Rate(1, 10)
    for member in (*fleet.members, fleet.members[0]):  # which hears of the other one by its second report
        assert member.take(Rate(1, 5), "globex")
    member.down = True
    assert not member.limits.take(member.call(rate))
    await member.limits.take_later(member.call(rate))
    assert [member.take(rate) for _ in range(6)] == [True] * 4 + [False] * 2


def test_keys_that_calls_wait_for_are_told_in_turns() -> None:
    fleet, rate = Fleet(1), Rate(1, 1)
    member = fleet.members[0]
    calls = {f"t{number}": member.call(rate, f"t{number}") for number in range(5000)}
    assert not any(member.limits.take(call) for call in calls.values())
    told = []
    while (report := member.rates.report(fleet.clock.now)) is not None and len(told) < 5000:
        assert len(report) <= 4096
        told += list(report)
        member.rates.lost(fleet.clock.now)
    assert set(told) == {f"tenant {name}" for name in calls}


def test_what_was_taken_on_credit_is_told_when_the_book_is_back() -> None:
    fleet, rate = Fleet(1), Rate(1, 100)
    member = fleet.members[0]
    member.down = True
    assert member.take(rate)
    member.exchange()
    member.down = False
    member.exchange()
    assert [member.take(rate) for _ in range(110)].count(True) == 99


def test_a_book_that_comes_back_hears_what_was_used_meanwhile_before_it_gives_a_burst() -> None:
    """As Redis after a partition: its bucket has filled, while members went on with another book."""
    fleet, rate = Fleet(2), Rate(50, 500)
    fleet.run(20.0, rate, [160, 160])
    assert over(fleet, rate, 20.0) < 5
    for member in fleet.members:
        member.taken = 0
    fleet.books._books["rates"] = RateBook(epoch="back")
    fleet.run(5.0, rate, [160, 160])
    assert fleet.taken <= 5 * rate.per_second + 3 * slice_of(rate.per_second)


def test_the_fields_say_what_the_book_says() -> None:
    fleet, rate = Fleet(2, fields="draft"), Rate(1, 10)
    for _ in range(2):
        for member in fleet.members:
            member.take(rate)
    member = fleet.members[1]
    call = member.call(rate)
    assert not member.limits.take(call)
    member.exchange()
    assert member.limits.take(call)
    left = int(dict(call.limit_fields)["RateLimit"].partition("r=")[2].partition(";")[0])
    assert left == 5  # of ten, five were taken


def test_calls_of_a_client_that_can_wait_get_one_burst_wherever_they_come() -> None:
    for spread in (1, 2):
        fleet = Fleet(2, client=Rate(1, 10))
        taken = [fleet.members[number % spread].take_client() for number in range(12)]
        assert taken == [True] * 10 + [False] * 2


def test_calls_of_a_client_that_cannot_wait_have_their_part_of_the_burst_at_once() -> None:
    fleet = Fleet(2, client=Rate(1, 10))
    for member in fleet.members:
        member.take(Rate(1, 1))
        member.exchange()
    member = fleet.members[1]
    assert member.rates.members == 2
    assert [member.take_client_now() for _ in range(20)].count(True) == 5


def test_a_call_of_a_client_that_cannot_wait_has_what_those_that_waited_have_left() -> None:
    fleet = Fleet(1, client=Rate(0.01, 3))
    member = fleet.members[0]
    assert member.take_client()
    assert [member.take_client_now() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("spread", [1, 2])
def test_calls_of_a_client_that_cannot_wait_are_not_refused_below_its_rate(spread: int) -> None:
    fleet = Fleet(2, client=Rate(20, 20))
    for number in range(100):
        fleet.clock.now += 1 / 15
        assert fleet.members[number % spread].take_client_now()
        for member in fleet.members:
            member.exchange()


def steps() -> Iterator[Any]:
    yield st.integers(0, 2)  # the member
    yield st.sampled_from(["take", "take", "take", "exchange", "down", "up"])
    yield st.sampled_from([0.0, 0.0, 0.003, 0.05, 0.3, 1.5])


@given(st.sampled_from([Rate(1, 1), Rate(5, 3), Rate(100, 50)]), st.lists(st.tuples(*steps()), max_size=150))
@settings(max_examples=50)
def test_whatever_happens_each_member_is_at_most_a_slice_over(rate: Rate, steps: Any) -> None:
    fleet, began = Fleet(3), 50.0
    for number, what, later in steps:
        fleet.clock.now += later
        member = fleet.members[number]
        if what == "take":
            member.take(rate)
        elif what == "exchange":
            member.exchange()
        else:
            member.down = what == "down"
    ahead = slice_of(rate.per_second)
    room = max(rate.burst, ahead)
    assert fleet.taken <= room + rate.per_second * (fleet.clock.now - began) + 3 * ahead + 1e-6
