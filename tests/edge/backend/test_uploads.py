"""Bodies are sent to a threaded backend a few at a time, and none waits for a backend that takes nothing."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession

from gateway.edge.backend.connection import Connection
from gateway.edge.backend.uploads import AT_ONCE, SECONDS, Turn, Uploads
from tests import harness
from tests.eventually import END, eventually
from tests.fakes import Backend, always, answer

pytestmark = pytest.mark.asyncio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Drain:
    """A connection whose backend takes more when it is told to."""

    def __init__(self, *, takes: bool = True) -> None:
        self.writable = None if takes else asyncio.Event()

    async def drained(self) -> None:
        if self.writable is not None:
            await self.writable.wait()


async def drained(turn: Turn, connection: Drain) -> None:
    await turn.drained(cast(Connection, connection))


async def waiting(turn: Turn) -> asyncio.Task[None]:
    task = asyncio.create_task(turn.wait())
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_so_many_bodies_are_sent_at_once_and_the_next_one_when_one_has_ended() -> None:
    uploads = Uploads(now=Clock())
    turns = [uploads.turn() for _ in range(AT_ONCE + 2)]
    tasks = [await waiting(turn) for turn in turns]
    assert [task.done() for task in tasks] == [True] * AT_ONCE + [False, False]
    await turns[0].wait()  # another piece of a body whose turn it is
    turns[0].end()
    turns[0].end()
    async with asyncio.timeout(END):
        await tasks[AT_ONCE]
    assert not tasks[-1].done()
    tasks[-1].cancel()


async def test_a_long_body_lets_the_others_have_their_turns() -> None:
    clock = Clock()
    uploads = Uploads(1, clock)
    long, other = uploads.turn(), uploads.turn()
    await long.wait()
    task = await waiting(other)
    clock.now = SECONDS * 0.9
    await drained(long, Drain())
    assert not task.done()
    clock.now = SECONDS
    await drained(long, Drain())
    async with asyncio.timeout(END):
        await task
    again = await waiting(long)
    assert not again.done()
    other.end()
    async with asyncio.timeout(END):
        await again


async def test_a_backend_that_takes_nothing_of_one_body_keeps_no_other_waiting() -> None:
    uploads = Uploads(1, Clock())
    stuck, other = uploads.turn(), uploads.turn()
    await stuck.wait()
    connection = Drain(takes=False)
    stands = asyncio.create_task(drained(stuck, connection))
    async with asyncio.timeout(END):
        await other.wait()
    assert not stands.done()
    assert connection.writable is not None
    connection.writable.set()
    await stands
    async with asyncio.timeout(END):
        await stuck.wait()  # a backend that reads slowly needs no protection from the body: it has no turns


async def test_one_that_leaves_while_it_waits_takes_no_turn() -> None:
    uploads = Uploads(1, Clock())
    first, left, last = uploads.turn(), uploads.turn(), uploads.turn()
    await first.wait()
    gone, task = await waiting(left), await waiting(last)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    left.end()
    first.end()
    async with asyncio.timeout(END):
        await task


@pytest.mark.parametrize("kind", ["gunicorn", "uvicorn"])
async def test_bodies_of_many_clients_come_whole(tmp_path: Path, kind: str) -> None:
    backends: dict[str, Any] = {}
    async with Backend(always(answer())) as backend:
        backends["app"] = {"kind": kind, "addresses": [backend.address]}
        backends["app"] |= {"threads": 8} if kind == "gunicorn" else {}
        route = harness.route("svc", "app", public=True, body_limit="8MiB")
        async with harness.running(tmp_path, harness.routing([route], backends=backends)) as gateway:
            async with ClientSession() as session:
                bodies = [bytes([number]) * (3_000_000 + number) for number in range(8)]

                async def send(body: bytes) -> int:
                    async with session.post(harness.url(gateway, "/svc/x"), data=BytesIO(body)) as response:
                        return response.status

                assert await asyncio.gather(*map(send, bodies)) == [200] * 8
                await eventually(lambda: len(backend.heard) == 8)
                assert sorted(heard.body for heard in backend.heard) == sorted(bodies)
