"""A backend's connection reads on in another turn of the loop when it has read much."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.core.model import Address
from gateway.edge.connection import USER, Connection
from gateway.edge.pool import _READS, Reads
from tests.eventually import eventually

LARGE = bytes(64 * 1024)


class Transport:
    """Says whether it reads."""

    reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False


class User:
    def feed(self, data: bytes) -> None: ...
    def connection_lost(self) -> None: ...
    def writable(self) -> None: ...


def connected(reads: Reads) -> tuple[Connection, Transport]:
    connection, transport = Connection(Address("a", "127.0.0.1", 1), reads.later), Transport()
    connection.connection_made(cast(Any, transport))
    connection.exchange = User()
    return connection, transport


async def test_a_large_read_is_followed_by_the_next_one_in_another_turn_and_a_small_one_at_once() -> None:
    connection, transport = connected(Reads())
    connection.data_received(LARGE[1:])
    assert transport.reads
    connection.data_received(LARGE)
    assert not transport.reads
    await eventually(lambda: transport.reads)


async def test_who_holds_a_connection_holds_it_also_when_its_turn_comes() -> None:
    connection, transport = connected(Reads())
    connection.data_received(LARGE)
    connection.hold(USER)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not transport.reads
    connection.let_go(USER)
    assert transport.reads


async def test_so_many_large_reads_and_no_more_are_made_in_one_turn() -> None:
    reads = Reads()
    both = [connected(reads) for _ in range(3 * _READS)]
    for connection, _ in both:
        connection.data_received(LARGE)
    turns = []
    while not all(transport.reads for _, transport in both):
        await asyncio.sleep(0)
        turns.append(sum(transport.reads for _, transport in both))
    assert [later - before for before, later in zip([0, *turns], turns, strict=False)].count(_READS) == 3
