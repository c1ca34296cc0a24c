"""The fair queue in front of a backend: its seats go to the tenant that has used the least seat time.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) over several seats. Each
tenant has a tag in virtual time: its seat time divided by its weight. Of the tenants that wait, the one with
the smallest tag goes next. When a seat is taken, an estimate is charged; when it is given back, the charge is
corrected by the measured time. A tenant that arrives starts at the virtual time, so that being idle earns
nothing, or at its tag where that is ahead: a debt remains until virtual time has passed it.

A fair order does not help a quick tenant while all seats are held by slow requests of another. So a tenant is
heavy while its seat time over the last 5 s, or the charge for one more seat, exceeds half its fair share; or
while it holds its whole fair share of the seats, and more than one (requests of many seconds have used
nothing yet when they take the last seat). It is also heavy while its requests take, or before the first
measurement may take, many times as long as those of another active tenant that uses little: the reserve is
for those who give the seat back soon. While more than one tenant is active, the heavy ones together hold at
most `seats - reserve`. Active means: held or waited for a seat within that time. With a reserve of 0 no seat
is idle while a request waits; else at most `reserve` seats are.

Times are seconds of any monotonic clock. A decision costs O(log n) in the number of tenants that wait,
amortised.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from math import frexp
from typing import Any, Generic, TypeVar

from gateway.core.fairness.forecast import WaitingTenants, first_free, until_served
from gateway.core.fairness.usage import WINDOW, Estimate, Usage

T = TypeVar("T")
_FIRST = 0.05  # seconds: charged before anything was measured
_UNKNOWN = 1.0  # seconds that the requests of a tenant not measured yet may take
_LONG = 0.02  # seconds: a request that takes less is never slow
_SLOWER = 3  # a power of two: a request that takes so many times as long as another's is slow
_LEARN = 0.125  # weight of a new measurement in the estimate of a tenant
_LEARN_ALL = 0.0625  # and in that of the backend
_CLASSES = 32  # of durations, by powers of two, from 2 ** -32 s
_TICKS = 10  # in the window
_REVIEWED = 64  # tenants that a tick reviews, at least
_MANY_FLOWS = 64  # a dict never shrinks, so it is rebuilt after it has held so many
LIGHT, HEAVY, NEW = range(3)  # lanes, each with a heap


class Flow(Usage, Generic[T]):
    """The state of one active tenant in a fair queue; T is what waits.

    tag: start tag in virtual time. pending: seat time charged and not measured yet. estimate: of the next
    request's seat time, 0.0 while unknown. service: how long the tenant's requests take. charged: the last
    charge. duration_class: of its requests, a power of two, while the tenant uses little.
    standing_since: since when its queue has not been drained (see FairQueue.set_short_wait). queue: what
    waits, and since when; None while nothing does. Times in seconds.
    """

    __slots__ = (
        "charged",
        "duration_class",
        "entry",
        "estimate",
        "heavy",
        "key",
        "lane",
        "pending",
        "per_weight",
        "queue",
        "service",
        "standing_since",
        "tag",
        "uses_much",
        "weight",
    )

    def __init__(self, key: str, weight: float, tag: float, now: float) -> None:
        super().__init__(now)
        self.key = key
        self.weight = weight
        self.per_weight = 1.0 / weight
        self.tag = tag
        self.pending = 0.0
        self.charged = 0.0
        self.estimate = 0.0
        self.duration_class: int | None = None
        self.service = Estimate()
        self.standing_since = now
        self.heavy = False
        self.uses_much = False  # whether it is heavy because of its own usage
        self.lane = 0  # the heap with its entry; an entry in the wrong one is moved when it comes up
        self.queue: OrderedDict[T, float] | None = None
        self.entry: Any = None  # its entry in a heap: (tag, number, flow)

    @property
    def settled(self) -> float:
        """The tag without what was charged and not measured yet."""
        return self.tag - self.pending * self.per_weight


class FairQueue(Generic[T]):
    """The seats of one backend and what waits for them, by tenant.

    T: what waits, hashable. seats: math.inf for no limit. reserve: seats that heavy tenants leave free.
    inside, waiting: how many hold a seat, and wait for one. virtual: the virtual time. estimate: the charge
    for a tenant not measured yet. service: how long requests take. flows: the active tenants, by key.
    """

    def __init__(self, seats: float = math.inf, reserve: int = 0) -> None:
        self.inside = 0
        self.waiting = 0
        self.virtual = 0.0
        self._short_wait = 0.0
        self.estimate = 0.0
        self.service = Estimate()
        self.flows: dict[str, Flow[T]] = {}
        self._heavy_inside = 0
        self._classes = 0  # a bit for each class of durations that a tenant has
        self._flows_by_class: dict[int, int] = {}  # number of tenants, by bit
        # By lane: of light tenants, of heavy ones, and of those with no measured request yet.
        self._heaps: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        self._number = 0
        self._queues = 0
        self._most_flows = 0
        self._weight = 0.0
        self._waiting_weight = 0.0
        self._per_weight = 0.0
        self._horizon = 0.0  # the greatest tag of the tenants that hold no seat
        self._last_change = -math.inf  # when a seat was taken, or given back after use
        self._used = 0.0  # seat time of all tenants, until _used_at
        self._used_at = 0.0
        self._history: deque[tuple[float, float]] = deque(maxlen=_TICKS)  # (_used, when)
        self._waiting_tenants: WaitingTenants | None = None
        self._began = 0.0  # sum of the times at which the requests inside began
        self._debts: dict[str, float] = {}  # tags of tenants of which all else was forgotten
        self._review: deque[Flow[T]] = deque()
        self.resize(seats, reserve)

    def forget_times(self) -> None:
        """Discard the measured times: other servers are behind the seats now."""
        self.service.forget()
        for flow in self.flows.values():
            flow.service.forget()

    def resize(self, seats: float, reserve: int) -> None:
        """Set the number of seats. Requests inside keep theirs; call `next` for those who wait."""
        self.seats = seats
        self.reserve = int(max(0, min(reserve, seats - 1)))
        self._open = seats - self.reserve  # with fewer inside, any tenant may take a seat

    def set_short_wait(self, seconds: float) -> None:
        """Set the wait of the first request up to which a queue counts as drained: Flow.standing_since
        then restarts."""
        self._short_wait = seconds

    # --- seats ---

    def try_take(self, key: str, weight: float, now: float) -> Flow[T] | None:
        """A seat for a tenant now, without overtaking any request that could have it; None when it must
        wait."""
        flow = self.flows.get(key)
        if flow is None or flow.weight != weight:
            flow = self._active(key, weight, now)
        if (self.inside >= self._open or self.waiting) and not self._may_take(flow, now):
            return None
        if flow.tag < self.virtual:
            flow.tag = self.virtual
        self._begin(flow, now)
        return flow

    def enter(self, key: str, weight: float, now: float) -> Flow[T]:
        """A seat regardless of those who wait, and of the number of seats."""
        flow = self._active(key, weight, now)
        flow.tag = max(flow.tag, self.virtual)
        self._begin(flow, now)
        return flow

    def must_wait(self, key: str, weight: float, now: float) -> bool:
        """Whether `try_take` would return None."""
        return (self.inside >= self._open or self.waiting > 0) and not self._may_take(
            self._active(key, weight, now), now
        )

    def _may_take(self, flow: Flow[T], now: float) -> bool:
        if flow.queue or self.inside >= self.seats:
            return False
        self._reassess(flow, now)
        if flow.heavy and self._heavy_at_limit():
            return False
        if not self.waiting:
            return True
        others_could = self._first_light(self._first_new(now), now) is not None or not self._heavy_at_limit()
        return not others_could

    def end(self, flow: Flow[T], charged: float, since: float, now: float, *, learn: bool = True) -> None:
        """Give a seat back. charged: `flow.charged` when it was taken, at the time `since`. learn: whether
        the time measures how long requests take."""
        seconds = now - since
        flow.pending -= charged
        flow.tag += (seconds - charged) * flow.per_weight
        self.virtual += seconds * self._per_weight
        if learn:
            known = flow.estimate
            flow.estimate = known = known + (seconds - known) * _LEARN if known else seconds
            if (duration_class := frexp(known)[1]) != flow.duration_class and not flow.uses_much:
                self._set_duration_class(flow, duration_class)
            known = self.estimate
            self.estimate = known + (seconds - known) * _LEARN_ALL if known else seconds
            if not flow.service.mean and self.service.mean:
                flow.service.guess(self.service.mean)
            flow.service.learn(seconds)
            self.service.learn(seconds)
            self._last_change = now
        self._used += self.inside * (now - self._used_at)
        self._used_at = now
        self._began -= since
        if now >= flow.slot_end:  # Usage.advance, inlined
            flow.close_slots(now)
        flow.slot += flow.inside * (now - flow.at)
        flow.at = now
        flow.inside -= 1
        self.inside -= 1
        if flow.heavy:
            self._heavy_inside -= 1
        if flow.tag > self._horizon:
            self._horizon = flow.tag
        if self.waiting:
            self._reassess(flow, now)
            if flow.entry is not None and flow.tag < flow.entry[0]:
                self._push(flow)  # an entry with a tag that has risen is corrected when it comes up
        elif not self.inside and self.virtual < self._horizon:
            self.virtual = self._horizon  # the busy period is over: all debts are paid

    def _begin(self, flow: Flow[T], now: float) -> None:
        flow.charged = charge = flow.estimate or self.estimate or _FIRST
        flow.pending += charge
        flow.tag += charge * flow.per_weight
        if now >= flow.slot_end:  # Usage.advance, inlined
            flow.close_slots(now)
        flow.slot += flow.inside * (now - flow.at)
        flow.at = now
        flow.inside += 1
        self._used += self.inside * (now - self._used_at)
        self._used_at = self._last_change = now
        self._began = self._began + now if self.inside else now
        self.inside += 1
        if flow.heavy:
            self._heavy_inside += 1
        elif self.reserve and (flow.inside > 1 or not flow.estimate):
            self._set_heavy(flow, uses_much=flow.inside > 1 and self._holds_its_share(flow))

    # --- waiting ---

    def wait(self, item: T, key: str, weight: float, now: float) -> Flow[T]:
        """Append an item to its tenant's queue. Returns the tenant's flow, for `leave`."""
        flow = self._active(key, weight, now)
        if flow.queue is None:
            flow.queue = OrderedDict()
            flow.standing_since = now
            flow.tag = max(flow.tag, self.virtual)
            self._queues += 1
            self._waiting_weight += flow.weight
            self._reassess(flow, now)
            flow.lane = int(flow.heavy) if self._is_known(flow) else NEW
            self._push(flow)
        flow.queue[item] = now
        self.waiting += 1
        return flow

    def leave(self, flow: Flow[T], item: T) -> bool:
        """Remove an item from its queue; False when it has left it already."""
        if flow.queue is None or item not in flow.queue:
            return False
        del flow.queue[item]
        self._dequeued(flow)
        return True

    def next(self, now: float) -> tuple[T, Flow[T]] | None:
        """The item that gets the next seat, with the flow charged for it; None when none may have one."""
        if not self.waiting or self.inside >= self.seats:
            return None
        new = self._first_new(now)  # first: it moves tenants measured meanwhile to the other lanes
        light = self._first_light(new, now)
        heavy = self._first_heavy(new, now)
        flow = light or heavy
        if flow is None:
            return None
        if light is not None and heavy is not None and heavy.entry < light.entry:
            flow = heavy
        assert flow.queue is not None
        item, since = flow.queue.popitem(last=False)
        if now - since <= self._short_wait:
            flow.standing_since = now
        self.virtual = max(self.virtual, flow.settled)
        self._begin(flow, now)
        self._dequeued(flow)
        return item, flow

    def items(self) -> Iterator[tuple[Flow[T], T]]:
        """All items that wait, by tenant."""
        for flow in self.flows.values():
            for item in flow.queue or ():
                yield flow, item

    def forecast(self, key: str, weight: float, now: float) -> tuple[float, float]:
        """How many seconds a request of this tenant would wait, and how many without the tenant's own
        requests before it. 0.0 while nothing was measured."""
        flow = self.flows.get(key)
        ahead = len(flow.queue) if flow is not None and flow.queue else 0
        service = (flow.service.mean if flow is not None else 0.0) or self.service.mean
        if not service:
            return 0.0, 0.0
        first = 0.0
        if self.inside:
            age = now - self._began / self.inside
            silence = now - self._last_change if self.inside >= self.seats else 0.0
            service, first = first_free(service, self.seats, age, silence)
        own, tag = ahead * service, max(flow.tag, self.virtual) if flow is not None else self.virtual
        waiting_tenants = self._waiting_tenants
        if waiting_tenants is None or not waiting_tenants.is_current(self.waiting, now):
            waiting_tenants = WaitingTenants(self._heaps, self._review, self.service.mean, self.waiting, now)
            self._waiting_tenants = waiting_tenants
        free = self._left_to_waiting(flow, weight, own, waiting_tenants, now)
        wait = until_served(first, own, tag + own / weight, waiting_tenants.rivals, flow, free)
        return wait, until_served(first, 0.0, self.virtual, waiting_tenants.rivals, flow, free)

    def _left_to_waiting(
        self, own: Flow[T] | None, weight: float, work: float, waiting_tenants: WaitingTenants, now: float
    ) -> float:
        """How many seats serve those who wait and one more request of `own`, which has `work` seconds of seat
        time waiting. Assumes that the other tenants keep using what they used of late, up to their fair
        share, and that heavy ones leave the reserve."""
        recent = own.recent(now) if own is not None else 0.0
        others = max(0.0, self._rate(now) - recent / WINDOW)
        idle = max(0.0, others - waiting_tenants.seats_used(own))
        total = self._weight + (weight if own is None else 0.0)
        waiting = self._waiting_weight + (0.0 if own is not None and own.queue else weight)
        seats = self.seats
        if (
            self.reserve
            and total > weight
            and (
                recent + work > seats * WINDOW * weight / total / 2
                or (own is not None and self._holds_its_share(own))
                or self._is_slow(own.estimate if own is not None else 0.0)
            )
        ):
            seats -= max(0.0, self.reserve - others * waiting_tenants.light_share(own))
        return max(seats - idle, seats * waiting / total, 1e-9)

    def _rate(self, now: float) -> float:
        """The mean number of seats in use over the last ticks."""
        if not self._history:
            return 0.0
        used, at = self._history[0]
        return (self._used + self.inside * (now - self._used_at) - used) / (now - at) if now > at else 0.0

    def fair_seats(self, weight: float) -> float:
        """The fair share of an active tenant of this weight, in seats."""
        return self.seats * weight * self._per_weight

    # --- heavy or light ---

    def _reassess(self, flow: Flow[T], now: float) -> None:
        """Update whether a tenant is heavy, which matters only where there is a reserve."""
        if not self.reserve:
            return
        fair = self.seats * WINDOW * flow.weight * self._per_weight
        used = max(flow.recent(now), flow.estimate)
        self._set_heavy(flow, uses_much=used > fair / 2 or self._holds_its_share(flow))

    def _set_heavy(self, flow: Flow[T], *, uses_much: bool) -> None:
        if uses_much is not flow.uses_much:
            flow.uses_much = uses_much
            uncounted = uses_much or not flow.estimate
            self._set_duration_class(flow, None if uncounted else frexp(flow.estimate)[1])
        heavy = uses_much or self._is_slow(flow.estimate)
        if heavy is not flow.heavy:
            flow.heavy = heavy
            self._heavy_inside += flow.inside if heavy else -flow.inside

    def _holds_its_share(self, flow: Flow[T]) -> bool:
        """Whether a tenant holds its fair share of the seats now, and more than one; where only the reserve
        is left, whether one more would exceed the share."""
        fair = self.seats * flow.weight * self._per_weight
        if self.inside >= self._open and fair >= 1.0:
            return flow.inside > 0 and flow.inside + 1 > fair
        return flow.inside > 1 and flow.inside >= fair

    def _is_slow(self, estimate: float) -> bool:
        """Whether requests of so many seconds (0.0: unknown) take many times as long as those of another
        active tenant that uses little."""
        seconds = estimate or _UNKNOWN
        if seconds < _LONG:
            return False
        quick = frexp(seconds)[1] - 1 - _SLOWER  # quick ones take less than 2 ** quick seconds
        return bool(self._classes & ((2 << quick + _CLASSES) - 1))

    def _set_duration_class(self, flow: Flow[T], duration_class: int | None) -> None:
        """duration_class: the power of two that its requests' seconds are below; None when the tenant is not
        to be counted any more."""
        for number, change in ((flow.duration_class, -1), (duration_class, 1)):
            if number is not None:
                bit = max(0, number + _CLASSES)
                self._flows_by_class[bit] = self._flows_by_class.get(bit, 0) + change
                self._classes = self._classes & ~(1 << bit) | (bool(self._flows_by_class[bit]) << bit)
        flow.duration_class = duration_class

    def _heavy_at_limit(self) -> bool:
        """Whether the heavy tenants hold all the seats that they may."""
        return len(self.flows) > 1 and self._heavy_inside >= self._open

    def _first_light(self, new: Flow[T] | None, now: float) -> Flow[T] | None:
        light = self._heaps[LIGHT]
        while (flow := self._top(light)) is not None:
            self._reassess(flow, now)
            if not flow.heavy:
                break
            self._move_to(flow, light, HEAVY)
        return flow if self._is_slow(0.0) else _sooner(flow, new)

    def _first_heavy(self, new: Flow[T] | None, now: float) -> Flow[T] | None:
        """The first in the heavy lane, if it may take a seat: there is room, or it is not heavy any more."""
        flow = self._top(self._heaps[HEAVY])
        if flow is not None and self._heavy_at_limit():
            self._reassess(flow, now)
            return None if flow.heavy else flow
        if self._is_slow(0.0) and not self._heavy_at_limit():
            return _sooner(flow, new)
        return flow

    def _first_new(self, now: float) -> Flow[T] | None:
        """The first of the tenants not measured yet, all of which are slow, or none."""
        new = self._heaps[NEW]
        while (flow := self._top(new)) is not None:
            self._reassess(flow, now)
            if not self._is_known(flow):
                break
            self._move_to(flow, new, int(flow.heavy))
        return flow

    def _is_known(self, flow: Flow[T]) -> bool:
        """Whether its lane depends on the tenant alone."""
        return not self.reserve or bool(flow.estimate) or self._holds_its_share(flow)

    def _move_to(self, flow: Flow[T], heap: list[Any], lane: int) -> None:
        """Move the flow at the top of a heap to another lane."""
        flow.lane = lane
        heappush(self._heaps[lane], heappop(heap))

    def _top(self, heap: list[Any]) -> Flow[T] | None:
        """The flow with the smallest tag. A void entry is dropped when it comes up; when its flow's tag has
        risen since, the entry is put back with the new tag."""
        while heap:
            entry = heap[0]
            flow: Flow[T] = entry[2]
            if flow.entry is not entry:
                heappop(heap)
            elif flow.tag > entry[0]:
                self._number += 1
                flow.entry = (flow.tag, self._number, flow)
                heapreplace(heap, flow.entry)
            else:
                return flow
        return None

    def _push(self, flow: Flow[T]) -> None:
        """Add an entry with its tag to its lane; the entry that it had before becomes void."""
        self._number += 1
        flow.entry = (flow.tag, self._number, flow)
        heap = self._heaps[flow.lane]
        heappush(heap, flow.entry)
        if len(heap) > 4 * self._queues + 1000:  # many left the queue without a seat
            heap[:] = [entry for entry in heap if entry[2].entry is entry]
            heapify(heap)

    def _dequeued(self, flow: Flow[T]) -> None:
        self.waiting -= 1
        if not flow.queue:
            flow.queue = flow.entry = None
            self._queues -= 1
            self._waiting_weight = self._waiting_weight - flow.weight if self._queues else 0.0

    # --- active tenants ---

    def _active(self, key: str, weight: float, now: float) -> Flow[T]:
        """The flow of a tenant, with the weight that it has now; made where there is none."""
        flow = self.flows.get(key)
        if flow is None:
            flow = self.flows[key] = Flow(key, weight, self._debts.pop(key, 0.0), now)
            self._review.append(flow)
            self._add_weight(weight)
        elif flow.weight != weight:
            if flow.queue is not None:
                self._waiting_weight += weight - flow.weight
            self._add_weight(weight - flow.weight)
            flow.weight, flow.per_weight = weight, 1.0 / weight
        return flow

    def _add_weight(self, change: float) -> None:
        self._weight = self._weight + change if self.flows else 0.0
        self._per_weight = 1.0 / self._weight if self.flows else 0.0

    def tick(self, now: float) -> None:
        """Call it about twice a second. Tenants idle for 5 s are forgotten, but for a debt that virtual time
        has not passed; the others are reassessed."""
        self._history.append((self._used + self.inside * (now - self._used_at), now))
        for _ in range(min(len(self._review), max(_REVIEWED, len(self._review) // 10))):
            flow = self._review.popleft()
            if flow.inside or flow.queue or now - flow.at < WINDOW:
                idle_since = flow.at
                self._reassess(flow, now)
                flow.at = flow.at if flow.inside or flow.queue else idle_since
                self._review.append(flow)
                continue
            del self.flows[flow.key]
            self._set_duration_class(flow, None)
            self._add_weight(-flow.weight)
            if flow.tag > self.virtual:
                self._debts[flow.key] = flow.tag
        self._shrink()
        if not self.inside and not self.waiting:
            self.virtual = max(self.virtual, self._horizon)
            self._debts.clear()
        for key in list(self._debts)[:_REVIEWED]:
            tag = self._debts.pop(key)
            if tag > self.virtual:
                self._debts[key] = tag

    def _shrink(self) -> None:
        """Free the memory of many flows that are gone."""
        self._most_flows = max(self._most_flows, len(self.flows))
        if self._most_flows >= _MANY_FLOWS and len(self.flows) < self._most_flows // 4:
            self.flows = dict(self.flows)
            self._most_flows = len(self.flows)


def _sooner(one: Flow[T] | None, other: Flow[T] | None) -> Flow[T] | None:
    """Of two flows, the one with the earlier entry."""
    if one is None or other is None:
        return one or other
    return one if one.entry < other.entry else other
