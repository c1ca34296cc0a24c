"""When the slots of a listener are taken, a new client gets one of somebody who only holds it."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import pytest

from gateway.edge.client import slots
from gateway.edge.client.slots import (
    ConnectionLimits,
    ConnectionSlots,
    OpenDescriptors,
    admin_limits,
    public_limits,
)


class Transport:
    def __init__(self) -> None:
        self.closing = False

    def abort(self) -> None:
        assert not self.closing
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class Client:
    def __init__(self, clients: set[Client], peer: str, idle_since: float, *, busy: bool = False) -> None:
        self.peer, self.idle_since, self.busy = peer, idle_since, busy
        self.tunnel: Any = None
        self.transport: asyncio.Transport | None = cast(Any, Transport())
        clients.add(self)


def left(clients: set[Client]) -> set[Client]:
    """Those that are not closed; a turn of the loop later these are all."""
    return {
        client for client in clients if client.transport is not None and not client.transport.is_closing()
    }


def test_below_its_bounds_nobody_is_closed() -> None:
    clients: set[Client] = set()
    Client(clients, "a", 1.0)
    assert ConnectionSlots(ConnectionLimits(2, 100), clients, "x", lambda: 100).admit()
    assert len(clients) == 1


@pytest.mark.parametrize(
    ("limits", "in_use"), [(ConnectionLimits(3, 100), 9), (ConnectionLimits(9, 100), 101)]
)
def test_the_oldest_of_the_address_that_holds_most_gives_its_place(
    limits: ConnectionLimits, in_use: int
) -> None:
    clients: set[Client] = set()
    lonely, busy = Client(clients, "b", 0.5), Client(clients, "a", 0.1, busy=True)
    flood = [Client(clients, "a", float(since)) for since in (3, 2, 4)]
    assert ConnectionSlots(limits, clients, "x", lambda: in_use).admit()
    assert left(clients) == {lonely, busy, flood[0], flood[2]}


def test_who_is_served_keeps_its_place_and_the_new_client_is_refused() -> None:
    clients: set[Client] = set()
    for _ in range(3):
        Client(clients, "a", 1.0, busy=True)
    Client(clients, "a", 1.0).tunnel = object()
    assert not ConnectionSlots(ConnectionLimits(4, 100), clients, "x", lambda: 9).admit()
    assert len(left(clients)) == 4


def test_a_flood_looks_at_all_connections_for_some_new_ones_only() -> None:
    """Sorting thousands of connections for each new one would be the attack."""
    looks = 0

    class Counted(set[Client]):
        def __iter__(self) -> Any:
            nonlocal looks
            looks += 1
            return super().__iter__()

    clients = Counted()
    for number in range(800):
        Client(clients, "a", float(number))
    full = ConnectionSlots(ConnectionLimits(800, 10**6), clients, "x", lambda: 9)
    for number in range(800):
        assert full.admit()
        Client(clients, "a", 1000.0 + number)
    assert looks <= 2 * 8 + 2


def test_a_flood_that_finds_nobody_to_spare_does_not_look_each_time() -> None:
    looks = 0

    class Counted(set[Client]):
        def __iter__(self) -> Any:
            nonlocal looks
            looks += 1
            return super().__iter__()

    clients = Counted()
    Client(clients, "a", 1.0, busy=True)
    full = ConnectionSlots(ConnectionLimits(1, 100), clients, "x", lambda: 9)
    full._scan_at = slots.monotonic() + 1000.0
    assert not any(full.admit() for _ in range(100))
    assert looks == 0


def test_in_one_turn_of_the_loop_nobody_is_closed_twice() -> None:
    """Else each of them would count for two, and the descriptors would be gone after all."""
    clients: set[Client] = set()
    for number in range(20):
        Client(clients, "a", float(number))
    full = ConnectionSlots(ConnectionLimits(2**31, 20), clients, "x", lambda: 30)
    assert [full.admit() for _ in range(21)] == [True] * 20 + [False]
    assert not left(clients)


@pytest.mark.parametrize("limit", [64, 256, 512, 1024, 20_000, 2**20])
def test_the_two_sides_leave_each_other_descriptors(limit: int) -> None:
    public, admin = public_limits(limit), admin_limits(limit)
    assert admin.connections <= (limit - public.descriptors) / 2
    assert limit / 2 <= public.descriptors < admin.descriptors <= limit


def test_where_descriptors_cannot_be_counted_each_client_counts_for_two() -> None:
    clients: set[Client] = set()
    full = ConnectionSlots(ConnectionLimits(2**31, 20), clients, "x", lambda: 0)
    for number in range(12):
        assert full.admit()
        Client(clients, "a", float(number))
    assert len(left(clients)) == 11


def test_with_many_descriptors_left_they_are_not_counted_for_each_client() -> None:
    counted, clients = 0, set[Client]()

    def in_use() -> int:
        nonlocal counted
        counted += 1
        return 4 * len(clients)  # as many as a client may have

    full = ConnectionSlots(ConnectionLimits(2**31, 4000), clients, "x", in_use)
    for number in range(1001):
        assert full.admit()
        Client(clients, "a", float(number))
        assert 4 * len(left(clients)) <= 4004
    assert counted < 100
    assert len(left(clients)) == 1001
    assert full.admit()  # for one of them
    assert len(left(clients)) == 1000


def test_descriptors_are_counted_by_the_kernel() -> None:
    count = OpenDescriptors()
    try:
        before = count()
        if not before:
            pytest.skip("this kernel does not tell")
        more = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
        after = count()
        for one in more:
            os.close(one)
        assert after == before + 10
        assert count() == before
    finally:
        count.close()
    assert count() == 0
