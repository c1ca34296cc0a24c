"""What is read in one turn of the event loop."""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.edge.reading import CLIENTS_TURN, LARGE_COST, ReadTurns

READS = CLIENTS_TURN // LARGE_COST


async def test_large_reads_go_on_in_another_turn_and_few_in_each() -> None:
    reads, done = ReadTurns(CLIENTS_TURN), list[str]()
    for number in range(READS * 3):
        reads.later(partial(done.append, str(number)), LARGE_COST)
    assert not done
    for turn in (1, 2, 3):
        await asyncio.sleep(0)
        assert len(done) == READS * turn
    assert done == [str(number) for number in range(READS * 3)]
