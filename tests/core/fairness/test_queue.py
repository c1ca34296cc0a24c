"""Who goes next: by seat time and weight, with a reserve for the light ones, on a simulated clock."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.fairness.queue import FairQueue
from gateway.core.fairness.usage import WINDOW, Usage
from tests.core.fairness.simulation import Sender, Simulation, evenly


def near(mean: float, rng: random.Random) -> Callable[[], float]:
    return lambda: mean * rng.uniform(0.95, 1.05)


def spaced(every: float, rng: random.Random, start: float = 0.003):
    """Arrivals evenly spaced +-5 %."""
    at = start
    while True:
        yield at
        at += every * rng.uniform(0.95, 1.05)


# --- the two scenarios that it is for --------------------------------------------------------------


def noisy_and_quiet(reserve: int, noisy: int = 1, service: float = 0.05) -> Simulation:
    """8 seats. Noisy tenants send 400/s each, the quiet one 10/s of 50 ms."""
    rng = random.Random(1)
    senders = {f"noisy{i}": Sender(evenly(400, i * 0.0007), near(service, rng)) for i in range(noisy)}
    senders["quiet"] = Sender(spaced(0.1, rng), near(0.05, rng))
    simulation = Simulation(FairQueue(8, reserve), senders)
    simulation.run(30)
    return simulation


def used(simulation: Simulation, since: float, until: float) -> float:
    return sum(s for ends in simulation.seat_time.values() for at, s in ends if at > since) / (until - since)


@pytest.mark.parametrize(("noisy", "service"), [(1, 0.05), (2, 0.05), (1, 1.0)])
def test_with_a_reserve_a_quiet_tenant_does_not_notice_noisy_ones(noisy: int, service: float) -> None:
    simulation = noisy_and_quiet(1, noisy, service)
    assert simulation.wait_percentile("quiet", 0.99, since=10) < 0.001
    assert not simulation.left["quiet"]
    assert simulation.idle <= 1
    assert used(simulation, 10, 30) > 0.91 * 8


@pytest.mark.parametrize("noisy", [1, 2, 3])
@pytest.mark.parametrize("service", [3.0, 5.0, 10.0])
def test_a_quiet_tenant_keeps_its_seat_when_noisy_ones_come_with_requests_of_many_seconds(
    noisy: int, service: float
) -> None:
    """What they hold counts at once: their time is known when it is over, and by then all is theirs."""
    rng = random.Random(1)
    senders = {f"noisy{i}": Sender(evenly(100, 1 + i * 0.0007), near(service, rng)) for i in range(noisy)}
    senders["quiet"] = Sender(spaced(0.1, rng), near(0.05, rng))
    simulation = Simulation(FairQueue(8, 1), senders)
    simulation.run(40)
    assert simulation.wait_percentile("quiet", 1.0, since=0) < 0.001 and not simulation.left["quiet"]
    assert used(simulation, 10, 40) > 0.9 * 8


def test_without_a_reserve_a_quiet_tenant_waits_for_one_seat_and_none_is_idle() -> None:
    simulation = noisy_and_quiet(0)
    assert simulation.wait_percentile("quiet", 0.99, since=10) < 0.05
    assert not simulation.left["quiet"]
    assert simulation.idle == 0
    assert used(simulation, 10, 30) > 0.99 * 8


@pytest.mark.parametrize("reserve", [0, 1])
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_shares_follow_the_weights_whatever_the_rates(weight: float, reserve: int) -> None:
    rng, senders = random.Random(2), {}
    for i in range(20):
        rate = 400 if i == 0 else 20
        senders[f"t{i}"] = Sender(evenly(rate, i * 0.0011), near(0.05, rng), weight if i < 10 else 1.0)
    simulation = Simulation(FairQueue(8, reserve), senders)
    simulation.run(40)
    total = sum(sender.weight for sender in senders.values())
    for name, sender in senders.items():
        assert simulation.share(name, since=10) == pytest.approx(sender.weight / total, rel=0.05), name


def test_a_tenant_with_slow_requests_gets_no_more_seat_time_than_one_with_quick_ones() -> None:
    rng = random.Random(3)
    services: dict[str, Callable[[], float]] = {
        "quick": near(0.01, rng),
        "slow": near(0.5, rng),
        "mixed": lambda: 1.0 if rng.random() < 0.1 else 0.01,
    }
    senders = {name: Sender(evenly(600), service) for name, service in services.items()}
    simulation = Simulation(FairQueue(8, 0), senders)
    simulation.run(60)
    for name in senders:
        assert simulation.share(name, since=10) == pytest.approx(1 / 3, rel=0.07), name


# --- properties ------------------------------------------------------------------------------------

TENANTS = st.lists(
    st.tuples(
        st.floats(0.5, 60),  # arrivals per second
        st.floats(0.005, 2.0),  # mean service time
        st.sampled_from([0.2, 1.0, 3.0]),
        st.floats(0.0, 2.0),  # first arrival
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(TENANTS, st.integers(1, 8), st.integers(0, 3), st.integers(0, 2**32))
def test_seats_are_never_exceeded_nor_idle_and_nobody_waits_for_ever(
    tenants: list[tuple[float, float, float, float]], seats: int, reserve: int, seed: int
) -> None:
    """Inside <= seats at every event (the simulation asserts it). At most `reserve` seats are idle while
    somebody waits, none with a reserve of 0. All that came is served once arrivals end."""
    rng, senders = random.Random(seed), {}
    for i, (rate, service, weight, start) in enumerate(tenants):
        arrivals = [start + n / rate for n in range(int(rate * 3))]
        senders[f"t{i}"] = Sender(
            arrivals, lambda mean=service: mean * rng.expovariate(1.0) + 1e-4, weight, patience=1e9
        )
    queue: FairQueue[int] = FairQueue(seats, reserve)
    simulation = Simulation(queue, senders)
    simulation.run(5000)
    assert simulation.idle <= queue.reserve <= reserve
    assert queue.waiting == queue.inside == 0
    for name, sender in senders.items():
        assert len(simulation.waits[name]) == len(list(sender.arrivals))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 1),
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=5),
)
def test_shares_of_those_who_always_wait_converge_to_the_weights(
    seed: int, reserve: int, weights: list[float]
) -> None:
    """Whatever their service times."""
    rng, seats, senders = random.Random(seed), 6, {}
    for i, weight in enumerate(weights):
        service = rng.choice([0.05, 0.1, 0.5])
        senders[f"t{i}"] = Sender(evenly(1.2 * seats / service), near(service, rng), weight, patience=1e9)
    simulation = Simulation(FairQueue(seats, reserve), senders)
    simulation.run(30)
    one_more = 0.5 / (seats * (30 - 5))  # the longest request, which may end just after
    for name, sender in senders.items():
        due = sender.weight / sum(weights)
        assert simulation.share(name, since=5) == pytest.approx(due, abs=0.08 * due + one_more)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.floats(0, 1)), max_size=200),
    st.integers(0, 2),
)
def test_whatever_happens_the_books_balance(steps: list[tuple[int, int, float]], reserve: int) -> None:
    """Taking, leaving, ending and resizing in any order: all counts are what they count."""
    queue: FairQueue[int] = FairQueue(3, reserve)
    now, inside, places = 0.0, [], {}
    for number, (what, who, passed) in enumerate(steps):
        now += passed
        if what == 0:
            flow = queue.try_take(f"t{who}", 1.0 + who % 3, now)
            if flow is None:
                places[number] = queue.wait(number, f"t{who}", 1.0 + who % 3, now)
            else:
                inside.append((flow, flow.charged, now))
        elif what == 1 and inside:
            queue.end(*inside.pop(who % len(inside)), now)
        elif what == 2 and places:
            item = sorted(places)[who % len(places)]
            assert queue.leave(places.pop(item), item)
        elif what == 3:
            queue.resize(1 + who % 5, reserve)
        while (found := queue.next(now)) is not None:
            places.pop(found[0])
            inside.append((found[1], found[1].charged, now))
        assert queue.inside == len(inside)
        assert {item for _, item in queue.items()} == set(places)
        assert queue.waiting == len(places)
        assert queue._heavy_inside == sum(flow.inside for flow in queue.flows.values() if flow.heavy)
        assert queue._weight == pytest.approx(sum(flow.weight for flow in queue.flows.values()))
        waiting = sum(flow.weight for flow in queue.flows.values() if flow.queue)
        assert queue._waiting_weight == pytest.approx(waiting)
    for seat in inside:
        queue.end(*seat, now)
    for item, flow in places.items():
        queue.leave(flow, item)
    for second in range(1, 30):
        queue.tick(now + second)
    assert not queue.flows
    assert not queue._debts
    assert not queue._review
    assert not queue.inside


# --- what being idle is worth ----------------------------------------------------------------------


def test_an_idle_tenant_gains_no_credit() -> None:
    """After 20 s without a request, a tenant shares from then on: it is not owed what it did not ask for."""
    rng = random.Random(4)
    senders = {
        "steady": Sender(evenly(200), near(0.05, rng)),
        "late": Sender(evenly(200, 20), near(0.05, rng)),
    }
    simulation = Simulation(FairQueue(4, 0), senders)
    simulation.run(23)
    assert simulation.share("late", since=20.5) == pytest.approx(0.5, rel=0.1)


def test_an_idle_tenant_keeps_its_debt_until_virtual_time_passes_it() -> None:
    queue: FairQueue[str] = FairQueue(1, 0)
    flow = queue.try_take("a", 1.0, 0.0)
    assert flow is not None
    queue.wait("b1", "b", 1.0, 0.0)
    queue.wait("b2", "b", 1.0, 0.0)
    queue.end(flow, flow.charged, 0.0, 0.5)  # measured: ten times what was charged
    assert queue.next(0.5)[0] == "b1"
    queue.wait("a2", "a", 1.0, 0.5)
    assert flow.tag > queue.virtual
    b = queue.flows["b"]
    queue.end(b, b.charged, 0.5, 0.6)
    assert queue.next(0.6)[0] == "b2", "a owes half a second"


def test_when_nobody_is_there_any_more_nobody_owes_anything() -> None:
    queue: FairQueue[str] = FairQueue(1, 0)
    flow = queue.try_take("a", 1.0, 0.0)
    assert flow is not None
    queue.end(flow, flow.charged, 0.0, 3.0)
    assert queue.virtual >= flow.tag


def test_a_debt_outlives_the_memory_of_its_tenant() -> None:
    queue: FairQueue[str] = FairQueue(2, 0)
    steady, debtor = queue.try_take("steady", 1.0, 0.0), queue.try_take("debtor", 1.0, 0.0)
    assert steady is not None
    assert debtor is not None
    queue.end(debtor, debtor.charged, 0.0, 20.0)
    for tick in range(20):
        queue.tick(20 + tick)
    assert list(queue.flows) == ["steady"]
    queue.resize(1, 0)
    queue.wait("d", "debtor", 1.0, 40.0)
    queue.wait("n", "new", 1.0, 40.0)
    queue.end(steady, steady.charged, 40.0, 40.0)
    assert queue.next(40.0)[0] == "n"


def test_a_crowd_that_has_gone_leaves_no_room_taken() -> None:
    queue: FairQueue[str] = FairQueue(8, 0)
    empty = sys.getsizeof(queue.flows)
    for number in range(5_000):
        flow = queue.try_take(f"tenant-{number}", 1.0, 0.0)
        assert flow is not None
        queue.end(flow, flow.charged, 0.0, 0.01)
    assert sys.getsizeof(queue.flows) > 100 * empty
    for tick in range(150):
        queue.tick(10.0 + tick)
    assert not queue.flows and sys.getsizeof(queue.flows) < 50 * empty


def test_who_takes_a_seat_that_is_free_begins_at_the_virtual_time_too() -> None:
    queue: FairQueue[str] = FairQueue(2, 0)
    for now in range(10):
        flow = queue.try_take("steady", 1.0, now)
        assert flow is not None
        queue.end(flow, flow.charged, now, now + 1)
    late = queue.try_take("late", 1.0, 10.0)
    assert late is not None
    assert late.tag > queue.virtual >= 9


def test_an_estimate_that_was_too_high_costs_a_newcomer_nothing() -> None:
    """Eight quick requests that were taken for slow ones: who comes then does not wait for eight seconds."""
    queue: FairQueue[int] = FairQueue(8, 0)
    queue.estimate = 1.0
    for item in range(60):
        queue.wait(item, "quick", 1.0, 0.0)
    inside = [queue.next(0.0)[1] for _ in range(8)]
    for flow in inside:
        queue.end(flow, 1.0, 0.0, 0.01)
    queue.wait(100, "new", 1.0, 0.01)
    queue.wait(101, "new", 1.0, 0.01)
    assert "new" in [queue.next(0.01)[1].key for _ in range(3)]


def test_a_correction_counts_for_those_who_wait_already() -> None:
    queue: FairQueue[str] = FairQueue(2, 0)
    queue.estimate = 10.0
    a, b = queue.try_take("a", 1.0, 0.0), queue.try_take("b", 1.0, 0.0)
    assert a is not None
    assert b is not None
    queue.wait("b1", "b", 1.0, 0.0)
    queue.wait("a1", "a", 1.0, 0.0)
    queue.end(a, a.charged, 0.0, 0.1)
    assert queue.next(0.1)[0] == "a1", "a has used a tenth of a second, b is charged ten"


def test_nobody_overtakes_who_could_go() -> None:
    queue: FairQueue[str] = FairQueue(1, 0)
    first = queue.try_take("a", 1.0, 0.0)
    assert first is not None
    queue.wait("b1", "b", 1.0, 0.0)
    queue.end(first, first.charged, 0.0, 0.1)
    assert queue.must_wait("c", 1.0, 0.1)
    assert queue.try_take("c", 1.0, 0.1) is None
    assert queue.next(0.1)[0] == "b1"


def test_new_tenants_without_end_do_not_keep_an_old_one_waiting() -> None:
    """Twice as many come as are served, each for the first time; they wait a second and leave."""
    queue: FairQueue[str] = FairQueue(1, 0)
    flow = queue.try_take("old", 1.0, 0.0)
    assert flow is not None
    queue.end(flow, flow.charged, 0.0, 0.0)
    queue.virtual, flow.tag = 0.0, 0.2  # it owes four requests
    queue.wait("here", "old", 1.0, 0.0)
    places = []
    for number in range(4000):
        now = number * 0.05
        places += [(name, queue.wait(name, name, 1.0, now)) for name in (f"a{number}", f"b{number}")]
        for name, gone in places[:-40]:
            queue.leave(gone, name)
        del places[:-40]
        item, served = queue.next(now)
        if item == "here":
            return
        queue.end(served, served.charged, now, now + 0.05)
        queue.tick(now + 0.05)
    raise AssertionError("it waits still")


# --- heavy and light -------------------------------------------------------------------------------


def test_heavy_tenants_together_leave_the_reserve_free_and_a_light_one_takes_it() -> None:
    queue: FairQueue[str] = FairQueue(4, 1)
    taken = [queue.try_take("heavy", 1.0, 0.0) for _ in range(4)]
    assert None not in taken, "alone, it has all seats"
    queue.tick(4.0)
    assert queue.try_take("light", 1.0, 4.0) is None  # all are taken
    queue.wait("light1", "light", 1.0, 4.0)
    queue.wait("heavy1", "heavy", 1.0, 4.0)
    queue.end(taken[0], taken[0].charged, 0.0, 4.0)
    item, light = queue.next(4.0)
    assert item == "light1"
    queue.end(light, light.charged, 4.0, 4.1)
    assert queue.next(4.1) is None, (
        "three seats are inside a heavy tenant's requests, the fourth is the reserve"
    )
    assert queue.try_take("light", 1.0, 4.1) is not None, "which a light one takes, though somebody waits"


def test_a_heavy_tenant_does_not_take_the_reserve_even_when_nobody_waits() -> None:
    queue: FairQueue[str] = FairQueue(4, 1)
    quick = queue.try_take("light", 1.0, 0.0)
    assert quick is not None
    for _ in range(3):
        assert queue.try_take("heavy", 1.0, 0.0) is not None
    queue.end(quick, quick.charged, 0.0, 0.1)
    queue.tick(3.0)
    assert queue.try_take("heavy", 1.0, 3.0) is None
    assert queue.try_take("light", 1.0, 3.0) is not None


@pytest.mark.parametrize("order", ["aabb", "abab", "baab"])
def test_tenants_that_nobody_knows_leave_the_last_seat_to_one_that_is_known_to_be_quick(order: str) -> None:
    """A first wave of requests of 5 s, all at once, and a second one as soon as the first is over."""
    queue: FairQueue[str] = FairQueue(8, 1)

    def quick(now: float) -> bool:
        flow = queue.try_take("quiet", 1.0, now)
        if flow is not None:
            queue.end(flow, flow.charged, now, now + 0.001)
        return flow is not None

    assert quick(0.9)
    now, inside = 1.0, []
    for number in range(40):
        for key in order:
            flow = queue.try_take(key, 1.0, now)
            if flow is None:
                queue.wait(f"{key}{number}", key, 1.0, now)
            else:
                inside.append(flow)
        assert quick(now)
    assert len(inside) == 7, "no seat but the reserve is idle"
    for _ in range(3):
        for tenth in range(50):
            assert quick(now + tenth / 10)
            if tenth % 5 == 0:
                queue.tick(now + tenth / 10)
        now += 5.0
        ended, inside = inside, []
        for flow in ended:
            queue.end(flow, flow.charged, now - 5.0, now)
            while (taken := queue.next(now)) is not None:
                inside.append(taken[1])
            assert quick(now)
        assert len(inside) == 7


def test_a_newcomer_has_the_last_seat_where_no_other_tenant_is_quick() -> None:
    queue: FairQueue[str] = FairQueue(4, 1)
    first = queue.try_take("a", 1.0, 0.0)
    assert first is not None
    queue.end(first, first.charged, 0.0, 2.0)
    for _ in range(3):
        assert queue.try_take("a", 1.0, 2.0) is not None
    assert queue.try_take("b", 1.0, 2.0) is not None
    assert queue.try_take("c", 1.0, 2.0) is None


def test_nobody_waits_beside_free_seats_when_what_was_new_gets_known() -> None:
    """It waits in another lane from then on."""
    queue: FairQueue[str] = FairQueue(2, 1)
    inside = [queue.try_take("b", 1.0, 0.0), queue.try_take("b", 1.0, 0.1)]
    assert queue.try_take("a", 1.0, 0.1) is None
    queue.wait("first", "a", 1.0, 0.1)
    queue.wait("second", "a", 1.0, 0.2)
    for key, used, now in (("b", 0.1, 0.3), ("a", 0.001, 0.3), ("b", 0.001, 0.4)):
        flow = next(one for one in inside if one is not None and one.key == key)
        inside.remove(flow)
        queue.end(flow, flow.charged, now - used, now)
        while (taken := queue.next(now)) is not None:
            inside.append(taken[1])
    assert inside and not queue.waiting


def test_what_is_known_of_a_tenant_is_forgotten_with_it() -> None:
    queue: FairQueue[str] = FairQueue(4, 1)
    for key, seconds in (("a", 0.001), ("b", 0.001), ("c", 3.0), ("b", 5.0)):
        flow = queue.try_take(key, 1.0, 0.0)
        assert flow is not None
        queue.end(flow, flow.charged, 0.0, seconds)
    assert queue._classes and sum(queue._flows_by_class.values()) == 3
    queue.tick(5.0 + 2 * WINDOW)
    assert not queue.flows and not queue._classes and not sum(queue._flows_by_class.values())


def test_a_heavy_tenant_is_heavy_no_more_once_its_seat_time_is_old() -> None:
    queue: FairQueue[str] = FairQueue(4, 1)
    seats = [queue.try_take("a", 1.0, 0.0) for _ in range(4)]
    queue.wait("b", "b", 1.0, 0.0)
    queue._reassess(seats[0], 3.0)
    assert seats[0].heavy
    for flow in seats:
        queue.end(flow, flow.charged, 0.0, 3.0)
    queue._reassess(seats[0], 3.0 + WINDOW)
    assert not seats[0].heavy


def test_a_lone_tenant_has_all_seats_for_as_long_as_it_is_alone() -> None:
    rng = random.Random(5)
    simulation = Simulation(FairQueue(8, 1), {"only": Sender(evenly(400), near(0.05, rng))})
    simulation.run(15)
    assert simulation.idle == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_the_window_counts_the_seat_time_of_the_last_five_seconds(steps: list[tuple[float, bool]]) -> None:
    usage, now, began, spans = Usage(0.0), 0.0, [], []
    for passed, takes in steps:
        now += passed
        usage.advance(now)
        if takes:
            usage.inside += 1
            began.append(now)
        elif began:
            usage.inside -= 1
            spans.append((began.pop(), now))
    all_spans = spans + [(at, now) for at in began]
    true = sum(max(0.0, end - max(at, now - WINDOW)) for at, end in all_spans)
    most = sum(max(0.0, end - max(at, now - WINDOW - 0.5)) for at, end in all_spans)
    assert true - 0.5 * len(all_spans) - 1e-6 <= usage.recent(now) <= most + 1e-6


# --- what it costs ---------------------------------------------------------------------------------


def _operations(work: Callable[[], None]) -> int:
    """Calls of functions, Python's and C's."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def _waiting(tenants: int, reserve: int) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue(8, reserve)
    rng = random.Random(6)
    for number in range(tenants):
        for item in range(3):
            queue.wait(number * 3 + item, f"t{number}", rng.choice([1.0, 2.0]), 0.0)
    return queue


@pytest.mark.parametrize("reserve", [0, 1])
def test_a_decision_does_not_cost_more_with_ten_thousand_tenants_waiting(reserve: int) -> None:
    """Heap operations are C's and logarithmic; all else is as much for ten tenants as for 10,000."""

    def decide(queue: FairQueue[int]) -> Callable[[], None]:
        def work() -> None:
            now, inside = 1.0, []
            for _ in range(20):
                while (found := queue.next(now)) is not None:
                    inside.append((found[1], found[1].charged, now))
                now += 0.05
                queue.end(*inside.pop(0), now)

        return work

    few, many = _operations(decide(_waiting(20, reserve))), _operations(decide(_waiting(10_000, reserve)))
    assert many < 1.5 * few


def test_idle_tenants_cost_no_memory() -> None:
    queue: FairQueue[int] = FairQueue(8, 1)
    now = 0.0
    for number in range(2000):
        flow = queue.try_take(f"t{number}", 1.0, now)
        assert flow is not None
        queue.end(flow, flow.charged, now, now + 0.01)
        now += 0.01
    assert queue.flows
    for _ in range(60):
        now += 0.5
        queue.tick(now)
    assert (len(queue.flows), len(queue._debts), len(queue._review)) == (0, 0, 0)
    assert sum(map(len, queue._heaps)) == 0
