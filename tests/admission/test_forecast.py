"""Who is refused at once: only who truly could not have a seat in time, on a simulated clock that knows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gateway.core.errors import BackendSaturated, TenantQueueFull
from gateway.core.fairness.queue import FairQueue
from gateway.core.fairness.usage import Estimate
from gateway.core.model import Address
from tests.admission.simulation import PATIENCE, Request, Simulation, threaded, wrong
from tests.core.fairness.test_queue import _operations

Times = Callable[[float, random.Random], float]
WRONG = 0.02  # of the requests, in either direction


def even(mean: float, rng: random.Random) -> float:
    return mean * rng.uniform(0.8, 1.2)


def exactly(mean: float, rng: random.Random) -> float:
    return mean


def learnt(service: float, rng: random.Random, times: Times = even) -> list[Request]:
    """So many requests that it is known how long they take, one after the other from 0.0 on."""
    return [Request(number * service * 1.3, times(service, rng)) for number in range(60)]


def burst(at: float, count: int, service: float, rng: random.Random, **more) -> list[Request]:
    times = more.pop("times", even)
    return [Request(at + number * 1e-5, times(service, rng), **more) for number in range(count)]


def end(requests: list[Request]) -> float:
    return requests[-1].at + requests[-1].service


def check(requests: list[Request], threads: int, since: float) -> None:
    """At most 2 % are wrong in either direction; of few requests, one."""
    requests = sorted(requests, key=lambda request: request.at)
    refused, late, count = wrong(requests, threaded(threads), since)
    allowed = max(1, WRONG * count)
    assert refused <= allowed, f"{refused} of {count} were refused that would have had a seat in time"
    assert late <= allowed, f"{late} of {count} waited in vain"


# --- bursts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [0.3, 0.9, 3.0])  # of what can be served in the time that a call may wait
@pytest.mark.parametrize("threads", [1, 4, 8])
@pytest.mark.parametrize("service", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("gap", [0.1, 12.0, 60.0, 3600.0])
def test_a_burst_after_a_pause_is_refused_as_far_as_it_cannot_be_served(
    gap: float, service: float, threads: int, load: float
) -> None:
    rng, times = random.Random(1), exactly if gap == 60.0 else even
    before = learnt(service, rng, times)
    at = end(before) + gap
    count = min(900, max(2, int(load * threads * PATIENCE / service)))
    check(before + burst(at, count, service, rng, times=times), threads, at)


@pytest.mark.parametrize("gap", [0.1, 12.0, 3600.0])
def test_three_hundred_at_once_on_eight_quick_threads_are_all_served(gap: float) -> None:
    rng = random.Random(2)
    before = learnt(0.005, rng)
    outcome = Simulation(before + burst(end(before) + gap, 300, 0.005, rng), threaded(8)).run()
    assert not outcome.refused and not outcome.late


def test_thirty_at_once_on_four_threads_after_twelve_idle_seconds_are_all_served() -> None:
    rng = random.Random(3)
    before = learnt(0.005, rng)
    outcome = Simulation(before + burst(end(before) + 12, 30, 0.005, rng), threaded(4)).run()
    assert not outcome.refused and max(outcome.waits.values()) < 0.1


@pytest.mark.parametrize("threads", [1, 4, 8])
@pytest.mark.parametrize("service", [0.005, 0.05, 0.5])
def test_of_what_nothing_is_known_nobody_is_refused(service: float, threads: int) -> None:
    rng = random.Random(4)
    count = min(900, int(0.9 * threads * PATIENCE / service))
    outcome = Simulation(burst(0.0, count, service, rng), threaded(threads)).run()
    assert not outcome.refused and not outcome.late


def test_of_requests_that_vary_much_as_many_are_kept_as_can_be_served() -> None:
    """Exponential times: one burst may be luckier than another, many together are not."""
    refused = late = count = 0
    for seed in range(12):
        rng = random.Random(seed)

        def times(mean: float, rng: random.Random) -> float:
            return mean * rng.expovariate(1.0)

        before = [request for _ in range(3) for request in learnt(0.05, rng, times)]
        before = [replace(request, at=number * 0.07) for number, request in enumerate(before)]
        at = end(before) + 12
        found = wrong(before + burst(at, 900, 0.05, rng, times=times), threaded(4), at)
        refused, late, count = refused + found[0], late + found[1], count + found[2]
    assert refused < 0.05 * count
    assert late < 0.05 * count


# --- service times that change ---------------------------------------------------------------------


@pytest.mark.parametrize("load", [0.5, 0.9])
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize(
    ("before", "after"), [(0.01, 0.1), (0.05, 0.5), (0.5, 0.05), (0.1, 0.01), (0.05, 0.005)]
)
def test_times_that_change_tenfold_are_followed(
    before: float, after: float, threads: int, load: float
) -> None:
    rng, rate = random.Random(5), load * threads / after
    steady = 0.6 * threads / before
    known = [Request(number / steady, even(before, rng)) for number in range(200)]
    at = end(known)
    changed = [Request(at + number / rate, even(after, rng)) for number in range(min(2000, int(rate * 30)))]
    check(known + changed, threads, at)


@pytest.mark.parametrize(("before", "after"), [(0.005, 0.05), (0.05, 0.005)])
def test_a_burst_soon_after_a_change_is_judged_by_the_new_times(before: float, after: float) -> None:
    rng = random.Random(6)
    known = learnt(before, rng)
    changed = [Request(end(known) + number * after, even(after, rng)) for number in range(40)]
    at = end(changed) + 1
    check(known + changed + burst(at, 900, after, rng), 4, at)


def test_a_backend_that_hung_and_is_back_is_believed_soon() -> None:
    """All eight threads hang for 30 s; a second after the end of it, 300 come at once."""
    rng = random.Random(7)
    known = learnt(0.01, rng)
    hung = [Request(end(known) + number * 0.01, 30.0) for number in range(8)]
    back = end(hung)
    after = [Request(back + number * 0.02, even(0.01, rng)) for number in range(50)]
    check([*known, *hung, *after, *burst(back + 1, 300, 0.01, rng)], 8, back)


def test_while_a_backend_hangs_nobody_waits_in_vain_for_long() -> None:
    rng = random.Random(8)
    known = learnt(0.01, rng)
    hung = [Request(end(known) + number * 0.01, 60.0) for number in range(8)]
    calls = [Request(hung[-1].at + 0.5 + number * 0.1, 0.01) for number in range(500)]
    outcome = Simulation([*known, *hung, *calls], threaded(8)).run()
    assert max(number for number in outcome.late) - len(known) - len(hung) < 60, "for six seconds at most"
    assert all(isinstance(error, BackendSaturated | TenantQueueFull) for error in outcome.refused.values())


def test_a_mean_follows_a_change_and_is_not_moved_by_chance() -> None:
    estimate, rng = Estimate(), random.Random(9)
    means = []
    for _ in range(3000):
        estimate.learn(0.1 * rng.expovariate(1.0))
        means.append(estimate.mean)
    late = sorted(means[200:])
    assert late[len(late) // 100] > 0.07 and late[-len(late) // 100] < 0.14
    for _ in range(5):
        estimate.learn(1.0)
    assert estimate.mean == pytest.approx(1.0)
    for _ in range(32):
        estimate.learn(0.01)
    assert estimate.mean == pytest.approx(0.01)


# --- several tenants -------------------------------------------------------------------------------


def others(count: int, threads: int, service: float, rng: random.Random) -> Iterator[Request]:
    """Tenants that together use half of the seats for 12 s; weights of 1 to 3."""
    rate = 0.5 * threads / service / count
    for one in range(count):
        begins = rng.random() / rate
        for number in range(int(rate * 12)):
            yield Request(begins + number / rate, even(service, rng), f"other-{one}", 1.0 + one % 3)


@pytest.mark.parametrize("load", [0.8, 2.0])  # of what the others leave
@pytest.mark.parametrize("weight", [1.0, 3.0])
@pytest.mark.parametrize("count", [5, 20])
@pytest.mark.parametrize("threads", [4, 8])
def test_a_burst_beside_tenants_that_go_on_is_judged_by_what_they_leave(
    threads: int, count: int, weight: float, load: float
) -> None:
    rng, service = random.Random(10), 0.05
    size = int(load * 0.5 * threads * PATIENCE / service)
    requests = [*others(count, threads, service, rng), *burst(6.0, size, service, rng, weight=weight)]
    check(requests, threads, 5.9)


@pytest.mark.parametrize("each", [1, 5, 20])
@pytest.mark.parametrize("count", [5, 20])
@pytest.mark.parametrize("threads", [4, 8])
@pytest.mark.parametrize("service", [0.01, 0.05])
def test_tenants_with_short_queues_are_not_counted_as_if_they_had_long_ones(
    service: float, threads: int, count: int, each: int
) -> None:
    """One tenant comes with 300 requests, behind others that have a few."""
    rng = random.Random(11)
    known = learnt(service, rng)
    at = end(known) + 30
    small = [
        Request(at + 0.004 * rng.random(), even(service, rng), f"other-{one}", 1.0 + one % 3)
        for one in range(count)
        for _ in range(each)
    ]
    check(known + small + burst(at + 0.05, 300, service, rng, tenant="big"), threads, at + 0.05)


def test_a_forecast_does_not_cost_more_with_ten_thousand_tenants_waiting() -> None:
    def work(tenants: int) -> int:
        queue: FairQueue[int] = FairQueue(8, 1)
        queue.service.guess(0.05)
        for number in range(tenants):
            queue.wait(number, f"t{number}", 1.0, 0.0)
        for _ in range(8):
            queue.next(0.0)
        return _operations(lambda: queue.forecast("late", 1.0, 1.0))

    assert work(10_000) < 1.5 * work(31)


# --- a queue that stands ---------------------------------------------------------------------------


def test_a_queue_that_moves_takes_a_burst_though_it_was_never_empty() -> None:
    """There is always somebody in line, for 60 ms; then 300 come for whom there is time."""
    rng = random.Random(12)
    steady = [Request(number * 0.0125, 0.05) for number in range(1440)]
    first = burst(0.0, 5, 0.05, rng)
    requests = sorted([*first, *steady, *burst(15.0, 300, 0.05, rng)], key=lambda request: request.at)
    outcome = Simulation(requests, threaded(4)).run()
    early = [wait for number, wait in outcome.waits.items() if number < 1000]
    assert max(early) < 0.2
    assert min(early[20:]) > 0, "never empty"
    assert not outcome.refused and not outcome.late


def test_with_three_times_too_much_to_do_those_who_wait_do_so_for_half_a_second() -> None:
    requests = [Request(number / 480, 0.05) for number in range(480 * 25)]
    outcome = Simulation(requests, threaded(8)).run()
    waits = sorted(wait for number, wait in outcome.waits.items() if requests[number].at > 12)
    assert waits[-1] < 0.7
    assert len(waits) > 0.97 * 13 * 160, "and no thread is idle"
    assert len(outcome.late) <= 1


# --- reload ----------------------------------------------------------------------------------------


def test_seats_that_a_reload_takes_away_are_not_taken_for_stuck_ones() -> None:
    """Of eight threads one is left, and it has had a request for a moment: others may wait for it."""
    rng = random.Random(13)
    known = learnt(0.05, rng)
    at = end(known) + 600
    simulation = Simulation([*known, *burst(at, 1, 0.05, rng), *burst(at + 0.02, 50, 0.05, rng)], threaded(8))
    simulation.at(at + 0.01, lambda: simulation.queue.configure(threaded(1)))
    outcome = simulation.run()
    assert not outcome.refused and not outcome.late


def test_what_was_measured_of_other_servers_is_forgotten() -> None:
    """Requests took 2 s; then the backend gets another address. One that is kept keeps what is known."""
    for addresses, refused in (((Address("new"),), False), ((Address("a"), Address("new")), True)):
        rng = random.Random(14)
        known = learnt(2.0, rng)
        at = end(known) + 1
        simulation = Simulation([*known, *burst(at, 100, 0.05, rng)], threaded(2))
        new = replace(threaded(2), addresses=addresses)
        simulation.at(at - 0.1, lambda simulation=simulation, new=new: simulation.queue.configure(new))
        assert bool(simulation.run().refused) is refused
