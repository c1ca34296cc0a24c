"""A backend's connection reads on in another turn of the loop when it, or all of them, have read much."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from gateway.core.errors import GatewayError
from gateway.core.http.response_head import ResponseHead
from gateway.core.model import Address, Timeouts
from gateway.edge.backend.connection import USER, Connection
from gateway.edge.backend.exchange import Exchange
from gateway.edge.reading import BACKENDS_TURN, LARGE_COST, REST_COST, ReadTurns
from tests import harness
from tests.eventually import END, eventually
from tests.fakes import Backend, Heard, always, then_close
from tests.support.wire import Wire

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


def connected(reads: ReadTurns) -> tuple[Connection, Transport]:
    connection, transport = Connection(Address("a", "127.0.0.1", 1), reads), Transport()
    connection.connection_made(cast(Any, transport))
    connection.carry(User())
    return connection, transport


async def test_a_large_read_is_followed_by_the_next_one_in_another_turn_and_a_small_one_at_once() -> None:
    connection, transport = connected(ReadTurns())
    connection.data_received(LARGE[1:])
    assert transport.reads
    connection.data_received(LARGE)
    assert not transport.reads
    await eventually(lambda: transport.reads)


async def test_who_holds_a_connection_holds_it_also_when_its_turn_comes() -> None:
    connection, transport = connected(ReadTurns())
    connection.data_received(LARGE)
    connection.pause_reading(USER)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not transport.reads
    connection.resume_reading(USER)
    assert transport.reads


async def test_so_many_large_reads_and_no_more_are_made_in_one_turn() -> None:
    reads = ReadTurns()
    most = BACKENDS_TURN // LARGE_COST
    both = [connected(reads) for _ in range(3 * most)]
    for connection, _ in both:
        connection.data_received(LARGE)
    turns = []
    while not all(transport.reads for _, transport in both):
        await asyncio.sleep(0)
        turns.append(sum(transport.reads for _, transport in both))
    assert [later - before for before, later in zip([0, *turns], turns, strict=False)].count(most) == 3


async def test_so_many_small_reads_are_followed_by_the_next_one_at_once_and_then_by_turns() -> None:
    """Of answers that go on: each of three hundred streams has something in each turn of the loop."""
    reads = ReadTurns()
    both = [connected(reads) for _ in range(300)]
    fed = [0] * len(both)
    for _ in range(40):
        for number, (connection, transport) in enumerate(both):
            if transport.reads:
                connection.data_received(b"an event")
                fed[number] += 1
        before = sum(fed)
        await asyncio.sleep(0)
        assert sum(transport.reads for _, transport in both) <= 2 * BACKENDS_TURN
    assert before > 20 * BACKENDS_TURN / 2, "the turns are used"
    assert max(fed) - min(fed) <= 2, "each has as much as any other"


async def test_an_answer_that_ends_with_a_small_read_leaves_its_connection_ready() -> None:
    reads = ReadTurns()
    both = [connected(reads) for _ in range(3 * BACKENDS_TURN)]
    for connection, transport in both:
        _, reusable = answered(connection)
        connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert reusable == [True]
        assert transport.reads


COUNT = 20_000
TINY = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;x\r\na\r\n" * COUNT + b"0\r\n\r\n"


class Answer:
    """A sink that keeps what came in each piece."""

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self.error: GatewayError | None = None
        self.ended = False

    def interim(self, head: ResponseHead) -> None: ...
    def begin(self, head: ResponseHead) -> None: ...
    def flush(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.pieces.append(len(data))

    def end(self) -> None:
        self.ended = True

    def fail(self, error: GatewayError) -> None:
        self.error = error


def answered(connection: Connection) -> tuple[Answer, list[bool]]:
    """The sink of an exchange on it, and whether the connection can be used again, once that is known."""
    sink, reusable = Answer(), list[bool]()
    Exchange(connection, "GET", sink, Timeouts(), 0.0, lambda _, keep: reusable.append(keep))
    return sink, reusable


async def test_an_answer_of_tiny_chunks_is_taken_apart_by_turns_and_stays_whole() -> None:
    connection, transport = connected(ReadTurns())
    sink, reusable = answered(connection)
    connection.data_received(TINY)
    assert not transport.reads, "nothing more comes before that is done"
    assert 0 < sum(sink.pieces) <= 512
    await eventually(lambda: sink.ended)
    assert sum(sink.pieces) == COUNT and max(sink.pieces) <= 512
    assert reusable == [True] and transport.reads


async def test_answers_of_tiny_chunks_share_a_turn() -> None:
    reads = ReadTurns()
    sinks = []
    for _ in range(10):
        connection, _ = connected(reads)
        sinks.append(answered(connection)[0])
        connection.data_received(TINY)
    before = sum(len(sink.pieces) for sink in sinks)
    for _ in range(20):
        await asyncio.sleep(0)
        after = sum(len(sink.pieces) for sink in sinks)
        assert after - before <= BACKENDS_TURN // REST_COST
        before = after
    await eventually(lambda: all(sink.ended for sink in sinks))


async def test_what_came_before_the_end_of_the_connection_counts() -> None:
    connection, _ = connected(ReadTurns())
    sink, reusable = answered(connection)
    connection.data_received(TINY)
    connection.connection_lost(None)
    assert sink.ended and sink.error is None and sum(sink.pieces) == COUNT
    assert reusable == [False]


async def test_what_breaks_off_among_tiny_chunks_does_not_look_whole() -> None:
    connection, _ = connected(ReadTurns())
    sink, reusable = answered(connection)
    connection.data_received(TINY[:-5])
    connection.connection_lost(None)
    assert sink.error is not None and not sink.ended
    assert reusable == [False]


async def test_a_bug_in_one_turn_lets_the_others_read_on() -> None:
    reads, told = ReadTurns(), list[str]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    def broken() -> None:
        raise RuntimeError("a bug")

    done: list[bool] = []
    reads.later(broken, 1)
    reads.later(lambda: done.append(True), 1)
    await eventually(lambda: done)
    assert told == ["a bug"]


async def test_clients_get_answers_of_tiny_chunks_whole(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (then_close if "close" in heard.line else always)(TINY)(heard, reader, writer)

    async with Backend(script) as backend:
        backends = {"app": {"kind": "uvicorn", "addresses": [backend.address]}}
        routing = harness.routing([harness.route("svc", "app", public=True)], backends=backends)
        async with harness.running(tmp_path, routing) as gateway:
            wire = await Wire.connect(harness.address(gateway))
            for path in ("x", "y", "close"):
                wire.received = b""
                wire.send(f"GET /svc/{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                (answer,) = await wire.answers(["GET"], END)
                assert (answer.status, answer.body) == (200, b"a" * COUNT)
            wire.close()
