"""Tenant-fair ordering: who goes next into a backend, by the seat time that each tenant has used.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) over several seats.
Each tenant has a tag in virtual time, its seat time divided by its weight; of those that wait, the smallest
tag goes next. An estimate is charged when a seat is taken and corrected by the measured time when it is given
back. A tenant that comes begins at the virtual time, so that being idle earns nothing, or at its tag where
that is ahead: a debt stays until virtual time passes it.

A fair order does not help a quick tenant while all seats are inside another's slow requests. So a tenant is
heavy while its seat time over the last 5 s, or what it would be charged for one more seat, exceeds half its
fair share, or while it holds as many seats as that share is, and more than one: requests of many seconds
have used nothing yet when they take the last seat. It is heavy too while its requests take, or, before one
of them was measured, may take, many times as long as those of another active tenant that is not: the reserve
is for who gives it back soon. While more than one tenant is active the heavy ones together hold at most
`seats - reserve`. Active is who held or waited for a seat within that time. With a reserve of 0 no seat is
idle while somebody waits, else at most `reserve` seats are.

Times are seconds on any monotonic clock. A decision costs O(log n) in the tenants that wait, amortised.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from math import frexp
from typing import Any, Generic, TypeVar

from gateway.core.fairness.estimate import Estimate
from gateway.core.fairness.flow import Flow
from gateway.core.fairness.forecast import Outlook, first_free, until_served
from gateway.core.fairness.usage import WINDOW

T = TypeVar("T")
_FIRST = 0.05  # seconds: charged before anything was measured
_UNKNOWN = 1.0  # seconds that a request may take whose tenant is not known yet
_LONG = 0.02  # seconds: what takes less is never slow
_SLOWER = 3  # a power of two: so many times as long as another's is slow
_LEARN = 0.125  # how far an estimate of a tenant moves towards a new measurement
_LEARN_ALL = 0.0625  # and that of the backend
_KINDS = 32  # of requests, by powers of two: from 2 ** -32 s
_SLICES = 10  # of the window, each as long as the time between two ticks
_REVIEWED = 64  # tenants looked at by a tick, at least
_CROWD = 64  # tenants; a dict never gives back the room that so many took, so it is made anew after them
LIGHT, HEAVY, NEW = range(3)  # lanes


class FairQueue(Generic[T]):
    """The seats of one backend and who waits for them. seats: math.inf for no limit. T is hashable.

    estimate: what a request is charged for at first. service: what was measured of all. calm: a queue whose
    next one waited no longer than that (seconds) begins anew; see Flow.began.
    """

    def __init__(self, seats: float = math.inf, reserve: int = 0) -> None:
        self.inside = 0
        self.waiting = 0
        self.virtual = 0.0
        self.calm = 0.0
        self.estimate = 0.0
        self.service = Estimate()
        self.flows: dict[str, Flow[T]] = {}
        self._heavy_inside = 0
        self._kinds = 0  # which there are, a bit for each
        self._of_kind: dict[int, int] = {}  # tenants, by bit
        # Of light tenants, of heavy ones, and of those whose requests were not measured yet.
        self._heaps: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        self._number = 0
        self._queues = 0
        self._crowd = 0
        self._weight = 0.0
        self._waiting_weight = 0.0
        self._per_weight = 0.0
        self._horizon = 0.0  # no tag of those that hold no seat is beyond it
        self._last_change = -math.inf  # a seat was taken, or given back after use
        self._used = 0.0  # seat time of all, until then
        self._used_at = 0.0
        self._past: deque[tuple[float, float]] = deque(maxlen=_SLICES)  # what it was, and when
        self._outlook: Outlook | None = None
        self._began = 0.0  # the sum of the moments when those inside began
        self._debts: dict[str, float] = {}  # tags of tenants that are forgotten but for that
        self._review: deque[Flow[T]] = deque()
        self.resize(seats, reserve)

    def forget_times(self) -> None:
        """What was measured is no longer true: other servers stand behind the seats."""
        self.service.forget()
        for flow in self.flows.values():
            flow.service.forget()

    def resize(self, seats: float, reserve: int) -> None:
        """What is inside stays; let those in who may go (`next`)."""
        self.seats = seats
        self.reserve = int(max(0, min(reserve, seats - 1)))
        self._open = seats - self.reserve  # with fewer inside, anybody may take a seat

    # --- seats ---

    def try_take(self, key: str, weight: float, now: float) -> Flow[T] | None:
        """A seat for a tenant now, without overtaking anybody who could have it; None when there is none."""
        flow = self.flows.get(key)
        if flow is None or flow.weight != weight:
            flow = self._flow(key, weight, now)
        if (self.inside >= self._open or self.waiting) and not self._may_take(flow, now):
            return None
        if flow.tag < self.virtual:
            flow.tag = self.virtual
        self._begin(flow, now)
        return flow

    def enter(self, key: str, weight: float, now: float) -> Flow[T]:
        """A seat whoever waits, beyond what there are if need be."""
        flow = self._flow(key, weight, now)
        flow.tag = max(flow.tag, self.virtual)
        self._begin(flow, now)
        return flow

    def must_wait(self, key: str, weight: float, now: float) -> bool:
        """Whether `try_take` would give None."""
        return (self.inside >= self._open or self.waiting > 0) and not self._may_take(
            self._flow(key, weight, now), now
        )

    def _may_take(self, flow: Flow[T], now: float) -> bool:
        if flow.queue or self.inside >= self.seats:
            return False
        self._look(flow, now)
        if flow.heavy and self._capped():
            return False
        if not self.waiting:
            return True
        others_could = self._first_light(self._first_new(now), now) is not None or not self._capped()
        return not others_could

    def end(self, flow: Flow[T], charged: float, since: float, now: float, *, learn: bool = True) -> None:
        """A seat is free again. charged: what the flow was charged for it. learn: whether the time says how
        long requests take."""
        seconds = now - since
        flow.pending -= charged
        flow.tag += (seconds - charged) * flow.per
        self.virtual += seconds * self._per_weight
        if learn:
            known = flow.estimate
            flow.estimate = known = known + (seconds - known) * _LEARN if known else seconds
            if (kind := frexp(known)[1]) != flow.kind and not flow.much:
                self._classify(flow, kind)
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
        if now >= flow.slot_end:  # advance(), without the call
            flow._roll(now)
        flow.slot += flow.inside * (now - flow.at)
        flow.at = now
        flow.inside -= 1
        self.inside -= 1
        if flow.heavy:
            self._heavy_inside -= 1
        if flow.tag > self._horizon:
            self._horizon = flow.tag
        if self.waiting:
            self._look(flow, now)
            if flow.entry is not None and flow.tag < flow.entry[0]:
                self._push(flow)  # a tag that has risen is put right when it comes up
        elif not self.inside and self.virtual < self._horizon:
            self.virtual = self._horizon  # the busy period is over: nobody owes anything

    def _begin(self, flow: Flow[T], now: float) -> None:
        flow.charged = charge = flow.estimate or self.estimate or _FIRST
        flow.pending += charge
        flow.tag += charge * flow.per
        if now >= flow.slot_end:  # advance(), without the call
            flow._roll(now)
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
            self._judge(flow, much=flow.inside > 1 and self._holds_much(flow))

    # --- waiting ---

    def wait(self, item: T, key: str, weight: float, now: float) -> Flow[T]:
        """Put an item in its tenant's queue, at the end."""
        flow = self._flow(key, weight, now)
        if flow.queue is None:
            flow.queue = OrderedDict()
            flow.began = now
            flow.tag = max(flow.tag, self.virtual)
            self._queues += 1
            self._waiting_weight += flow.weight
            self._look(flow, now)
            flow.lane = int(flow.heavy) if self._is_known(flow) else NEW
            self._push(flow)
        flow.queue[item] = now
        self.waiting += 1
        return flow

    def leave(self, flow: Flow[T], item: T) -> bool:
        """Take an item out of its queue; False when it is not there any more."""
        if flow.queue is None or item not in flow.queue:
            return False
        del flow.queue[item]
        self._left(flow)
        return True

    def next(self, now: float) -> tuple[T, Flow[T]] | None:
        """Who goes next, with the seat that it takes; None when nobody waits or may go."""
        if not self.waiting or self.inside >= self.seats:
            return None
        new = self._first_new(now)  # before the others, for it puts into their lanes who is known by now
        light = self._first_light(new, now)
        heavy = self._first_heavy(new, now)
        flow = light or heavy
        if flow is None:
            return None
        if light is not None and heavy is not None and heavy.entry < light.entry:
            flow = heavy
        assert flow.queue is not None
        item, since = flow.queue.popitem(last=False)
        if now - since <= self.calm:
            flow.began = now
        self.virtual = max(self.virtual, flow.settled)
        self._begin(flow, now)
        self._left(flow)
        return item, flow

    def items(self) -> Iterator[tuple[Flow[T], T]]:
        """All that wait, by tenant."""
        for flow in self.flows.values():
            for item in flow.queue or ():
                yield flow, item

    def forecast(self, key: str, weight: float, now: float) -> tuple[float, float]:
        """For how many seconds a call of this tenant would wait, and for how many without what the tenant has
        asked for already. 0.0 while nothing was measured."""
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
        look = self._outlook
        if look is None or not look.holds(self.waiting, now):
            look = Outlook(self._heaps, self._review, self.service.mean, self.waiting, now)
            self._outlook = look
        free = self._left_to_waiting(flow, weight, own, look, now)
        wait = until_served(first, own, tag + own / weight, look.rivals, flow, free)
        return wait, until_served(first, 0.0, self.virtual, look.rivals, flow, free)

    def _left_to_waiting(
        self, own: Flow[T] | None, weight: float, work: float, look: Outlook, now: float
    ) -> float:
        """The seats for those who wait and one more of this tenant, which has so much work: others go on
        using what they used of late, up to their fair share, and heavy ones leave the reserve."""
        recent = own.recent(now) if own is not None else 0.0
        others = max(0.0, self._rate(now) - recent / WINDOW)
        idle = max(0.0, others - look.rate(own))
        total = self._weight + (weight if own is None else 0.0)
        waiting = self._waiting_weight + (0.0 if own is not None and own.queue else weight)
        seats = self.seats
        if self.reserve and total > weight and (
            recent + work > seats * WINDOW * weight / total / 2
            or (own is not None and self._holds_much(own))
            or self._is_slow(own.estimate if own is not None else 0.0)
        ):
            seats -= max(0.0, self.reserve - others * look.light_part(own))
        return max(seats - idle, seats * waiting / total, 1e-9)

    def _rate(self, now: float) -> float:
        """How many seats were in use of late, on average."""
        if not self._past:
            return 0.0
        used, at = self._past[0]
        return (self._used + self.inside * (now - self._used_at) - used) / (now - at) if now > at else 0.0

    def fair_seats(self, weight: float) -> float:
        """How many seats are the fair share of an active tenant."""
        return self.seats * weight * self._per_weight

    # --- heavy or light ---

    def _look(self, flow: Flow[T], now: float) -> None:
        """Decide anew whether a tenant is heavy. It matters only where there is a reserve."""
        if not self.reserve:
            return
        fair = self.seats * WINDOW * flow.weight * self._per_weight
        used = max(flow.recent(now), flow.estimate)
        self._judge(flow, much=used > fair / 2 or self._holds_much(flow))

    def _judge(self, flow: Flow[T], *, much: bool) -> None:
        if much is not flow.much:
            flow.much = much
            self._classify(flow, None if much or not flow.estimate else frexp(flow.estimate)[1])
        heavy = much or self._is_slow(flow.estimate)
        if heavy is not flow.heavy:
            flow.heavy = heavy
            self._heavy_inside += flow.inside if heavy else -flow.inside

    def _holds_much(self, flow: Flow[T]) -> bool:
        """Whether a tenant holds its fair share of the seats at this moment, and more than one; where only
        the reserve is left, whether one more would be beyond it."""
        fair = self.seats * flow.weight * self._per_weight
        if self.inside >= self._open and fair >= 1.0:
            return flow.inside > 0 and flow.inside + 1 > fair
        return flow.inside > 1 and flow.inside >= fair

    def _is_slow(self, estimate: float) -> bool:
        """Whether requests of so many seconds, 0.0 if that is not known, take many times as long as those of
        another active tenant that does not use much."""
        seconds = estimate or _UNKNOWN
        if seconds < _LONG:
            return False
        quick = frexp(seconds)[1] - 1 - _SLOWER  # theirs are below two to this
        return bool(self._kinds & ((2 << quick + _KINDS) - 1))

    def _classify(self, flow: Flow[T], kind: int | None) -> None:
        """kind: the power of two that its requests' seconds are below; None when it counts no more."""
        for number, change in ((flow.kind, -1), (kind, 1)):
            if number is not None:
                bit = max(0, number + _KINDS)
                self._of_kind[bit] = self._of_kind.get(bit, 0) + change
                self._kinds = self._kinds & ~(1 << bit) | (bool(self._of_kind[bit]) << bit)
        flow.kind = kind

    def _capped(self) -> bool:
        """Whether the heavy ones hold all that they may."""
        return len(self.flows) > 1 and self._heavy_inside >= self._open

    def _first_light(self, new: Flow[T] | None, now: float) -> Flow[T] | None:
        light = self._heaps[LIGHT]
        while (flow := self._first(light)) is not None:
            self._look(flow, now)
            if not flow.heavy:
                break
            self._move(flow, light, HEAVY)
        return flow if self._is_slow(0.0) else _sooner(flow, new)

    def _first_heavy(self, new: Flow[T] | None, now: float) -> Flow[T] | None:
        """The first in the lane of the heavy ones, if it may go: there is room, or it is heavy no more."""
        flow = self._first(self._heaps[HEAVY])
        if flow is not None and self._capped():
            self._look(flow, now)
            return None if flow.heavy else flow
        if self._is_slow(0.0) and not self._capped():
            return _sooner(flow, new)
        return flow

    def _first_new(self, now: float) -> Flow[T] | None:
        """The first one whose requests were not measured yet: whether they are slow is the same for all."""
        new = self._heaps[NEW]
        while (flow := self._first(new)) is not None:
            self._look(flow, now)
            if not self._is_known(flow):
                break
            self._move(flow, new, int(flow.heavy))
        return flow

    def _is_known(self, flow: Flow[T]) -> bool:
        """Whether it depends on itself alone in which lane it waits."""
        return not self.reserve or bool(flow.estimate) or self._holds_much(flow)

    def _move(self, flow: Flow[T], heap: list[Any], lane: int) -> None:
        """From the top of a heap to another lane."""
        flow.lane = lane
        heappush(self._heaps[lane], heappop(heap))

    def _first(self, heap: list[Any]) -> Flow[T] | None:
        """The one with the smallest tag. An entry that is void is dropped when it comes up, and one whose tag
        has risen since is put where it belongs."""
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
        """Into its lane, where its tag puts it; an entry that it had before is void."""
        self._number += 1
        flow.entry = (flow.tag, self._number, flow)
        heap = self._heaps[flow.lane]
        heappush(heap, flow.entry)
        if len(heap) > 4 * self._queues + 1000:  # many left without anybody going
            heap[:] = [entry for entry in heap if entry[2].entry is entry]
            heapify(heap)

    def _left(self, flow: Flow[T]) -> None:
        self.waiting -= 1
        if not flow.queue:
            flow.queue = flow.entry = None
            self._queues -= 1
            self._waiting_weight = self._waiting_weight - flow.weight if self._queues else 0.0

    # --- who is known ---

    def _flow(self, key: str, weight: float, now: float) -> Flow[T]:
        """The tenant's, with the weight that it has now."""
        flow = self.flows.get(key)
        if flow is None:
            flow = self.flows[key] = Flow(key, weight, self._debts.pop(key, 0.0), now)
            self._review.append(flow)
            self._weigh(weight)
        elif flow.weight != weight:
            if flow.queue is not None:
                self._waiting_weight += weight - flow.weight
            self._weigh(weight - flow.weight)
            flow.weight, flow.per = weight, 1.0 / weight
        return flow

    def _weigh(self, change: float) -> None:
        self._weight = self._weight + change if self.flows else 0.0
        self._per_weight = 1.0 / self._weight if self.flows else 0.0

    def tick(self, now: float) -> None:
        """Call it about twice a second: who was idle for 5 s is forgotten, but for a debt that virtual time
        has not passed; the others are looked at again."""
        self._past.append((self._used + self.inside * (now - self._used_at), now))
        for _ in range(min(len(self._review), max(_REVIEWED, len(self._review) // 10))):
            flow = self._review.popleft()
            if flow.inside or flow.queue or now - flow.at < WINDOW:
                idle_since = flow.at
                self._look(flow, now)
                flow.at = flow.at if flow.inside or flow.queue else idle_since
                self._review.append(flow)
                continue
            del self.flows[flow.key]
            self._classify(flow, None)
            self._weigh(-flow.weight)
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
        """Give back the room of a crowd that has gone."""
        self._crowd = max(self._crowd, len(self.flows))
        if self._crowd >= _CROWD and len(self.flows) < self._crowd // 4:
            self.flows = dict(self.flows)
            self._crowd = len(self.flows)


def _sooner(one: Flow[T] | None, other: Flow[T] | None) -> Flow[T] | None:
    """Whose entry comes first."""
    if one is None or other is None:
        return one or other
    return one if one.entry < other.entry else other
