"""What a client sends ahead is held to a bound, is answered in order, and takes turns with everybody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.fairness.turns import Turns
from gateway.core.http.request_reader import RequestReader
from gateway.edge.client.intake import AHEAD
from tests import harness
from tests.documents.api import ALL, SCOPES
from tests.eventually import END, at_rest, eventually
from tests.fakes import Backend, Heard, Script, always, answer
from tests.support.wire import Wire

pytestmark = pytest.mark.asyncio
_READ = 256 * 1024  # bytes that come from a socket at once, at most
_AHEAD = b"GET /documents/c/d HTTP/1.1\r\nHost: a\r\n\r\n"


def config(backend: Backend) -> dict[str, Any]:
    routes = [
        harness.route("documents", "documents", scopes=SCOPES),
        harness.route("svc", "app", public=True, body_limit="64MiB"),
    ]
    return harness.routing(routes, backends={"app": {"kind": "uvicorn", "addresses": [backend.address]}})


def once(may_answer: asyncio.Event) -> Script:
    """A backend that answers when it is told to."""

    async def answers(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(END):
            await may_answer.wait()
        writer.write(answer())

    return answers


@pytest.mark.parametrize("reads", [True, False], ids=["read", "never read"])
async def test_requests_without_credentials_are_held_to_a_bound(
    tmp_path: Path, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    feed = RequestReader.feed

    def watched(self: RequestReader, data: bytes) -> None:
        nonlocal most
        feed(self, data)
        most = max(most, self.held)

    monkeypatch.setattr(RequestReader, "feed", watched)
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        reader, writer = await asyncio.open_connection(*harness.address(gateway))
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(2000):
                writer.write(_AHEAD * 1000)
                await writer.drain()
                sent += 1

        sending = asyncio.create_task(send())
        if reads:
            answered = 0
            async with asyncio.timeout(END):
                while answered < 3000:
                    answered += (await reader.read(1 << 16)).count(b"HTTP/1.1 401 ")
        else:
            await at_rest(lambda: sent)
            assert sent < 2000, "the client has to wait"
        assert 0 < most <= 64 * 1024 + _READ
        sending.cancel()
        writer.transport.abort()
        await eventually(lambda: not gateway.listener.connections)


async def test_nothing_more_is_read_behind_a_request_with_which_too_much_came_at_once(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async with Backend(once(may_answer)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        wire = await Wire.connect(harness.address(gateway))
        await eventually(lambda: gateway.listener.connections)
        (connection,) = gateway.listener.connections
        connection.data_received(b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n" * 2200)  # as one read gives it
        assert connection.paused_for & AHEAD
        may_answer.set()
        await eventually(lambda: wire.received.count(b"HTTP/1.1 200 ") == 2200)
        assert not connection.paused_for
        wire.close()


async def test_what_is_sent_ahead_is_moved_once_for_each_read_and_not_for_each_request() -> None:
    reader, count = RequestReader(), 5000
    raw = _AHEAD * count
    reader.feed(raw)
    first = reader._data
    for _ in range(count - 1):
        assert reader.read_head() is not None
        assert reader._data is first
    assert reader.read_head() is not None
    assert (reader.held, reader._data) == (0, b""), "and nothing of it is kept"


async def test_thousands_of_reads_that_are_sent_ahead_are_all_answered(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        authorization = harness.bearer(gateway, scope=ALL)["Authorization"]
        head = f"PUT /documents/c/d HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n"
        wire = await Wire.connect(harness.address(gateway))
        wire.send(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        assert [one.status for one in await wire.answers(["PUT"])] == [201]
        wire.received = b""
        count = 3000
        for number in range(count):
            path = "d" if number % 3 else "never"
            head = f"GET /documents/c/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n"
            wire.send(head.encode())
        await eventually(lambda: wire.received.count(b"HTTP/1.1 ") == count)
        answers = await wire.answers(["GET"] * count)
        assert [one.status for one in answers] == [200 if number % 3 else 404 for number in range(count)]
        wire.close()


_BODY = b"0123456789abcdef" * 8192  # 128 KiB
_POST = b"POST /svc/last HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_HEADERS = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 1000) for number in range(61))
_LATE = {
    "a body with a length": _POST + b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY),
    "a body in one chunk": _CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY),
    "a body in tiny chunks": _CHUNKED + b"10\r\n0123456789abcdef\r\n" * 8192 + b"0\r\n\r\n",
    "a head": b"GET /svc/last HTTP/1.1\r\nHost: a\r\n" + _HEADERS + b"\r\n",
}


@pytest.mark.parametrize("ends", [False, True], ids=["stays", "ends its side"])
@pytest.mark.parametrize("late", _LATE.values(), ids=_LATE)
async def test_a_large_request_whose_rest_comes_when_it_is_its_turn_is_answered(
    tmp_path: Path, late: bytes, ends: bool
) -> None:
    """What had come of it was too much to read on behind the request in hand."""
    may_answer = asyncio.Event()

    async with Backend(once(may_answer)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        wire = await Wire.connect(harness.address(gateway))
        some = b"GET /svc/x HTTP/1.1\r\nHost: a\r\nX-A: %b\r\n\r\n" % (b"x" * 2000)
        wire.send(some * 5)
        await eventually(lambda: backend.heard)
        wire.send(late[: 60 * 1024])
        await eventually(lambda: any(one.paused_for & AHEAD for one in gateway.listener.connections))
        assert wire._transport is not None
        wire.send(late[60 * 1024 :])
        if ends:
            wire._transport.write_eof()
        may_answer.set()
        assert [one.status for one in await wire.answers([""] * 6)] == [200] * 6
        if ends:
            await wire.end()
        assert backend.heard[-1].line.endswith(" /last HTTP/1.1")
        assert backend.heard[-1].body == (_BODY if b"POST" in late else b"")
        wire.close()


async def test_a_quiet_client_does_not_wait_for_all_that_others_have_sent_ahead(tmp_path: Path) -> None:
    noisy: list[Wire] = []

    def answered() -> int:
        return sum(wire.received.count(b"HTTP/1.1 401 ") for wire in noisy)

    async def counts(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"%d" % answered()))

    async with Backend(counts) as backend, harness.running(tmp_path, config(backend)) as gateway:
        quiet = await Wire.connect(harness.address(gateway))
        noisy += [await Wire.connect(harness.address(gateway)) for _ in range(20)]
        await eventually(lambda: len(gateway.listener.connections) == 21)
        for wire in noisy:
            wire.send(_AHEAD * 1500)
        await eventually(lambda: all(wire.received for wire in noisy))
        before = answered()
        quiet.send(b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
        (came,) = await quiet.answers(["GET"])
        assert came.status == 200
        assert int(came.body) - before < 2000 < 20 * 1500
        for wire in [*noisy, quiet]:
            wire.close()


async def test_requests_of_many_connections_wait_by_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no share left for anybody, so that all of them wait: a hundred of one tenant, one of another. They
    may not read, so that they are answered in the order in which they begin."""
    monkeypatch.setattr(Turns, "try_begin", lambda self: False)
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        wires = {name: [await Wire.connect(harness.address(gateway)) for _ in range(n)] for name, n in
                 (("acme", 100), ("globex", 1))}  # fmt: skip
        await eventually(lambda: len(gateway.listener.connections) == 101)
        for name in wires:  # each token is known
            raw = _with_token(harness.token(gateway, name))
            for _ in range(2):
                wires[name][0].send(raw)
                await wires[name][0].answers(["GET"])
                wires[name][0].received = b""
        for name, all_of_it in wires.items():
            raw = _with_token(harness.token(gateway, name))
            for wire in all_of_it:
                wire.send(raw)
        for wire in (*wires["acme"], *wires["globex"]):
            assert [one.status for one in await wire.answers(["GET"])] == [403]
            wire.close()
        log = Path(gateway.config.access_log)
    order = [json.loads(line)["tenant"] for line in log.read_text().splitlines()][4:]
    assert len(order) == 101
    assert order.index("globex") < 50, "it did not wait for all of the other tenant's"


def _with_token(token: str) -> bytes:
    return f"GET /documents/c/d HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def test_a_body_of_tiny_chunks_is_taken_apart_by_turns_and_stays_whole(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        wire = await Wire.connect(harness.address(gateway))
        chunks = 60_000
        head = b"POST /svc/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"2\r\nab\r\n" * chunks + b"0\r\n\r\n"
        wire.send(head + body + b"GET /svc/next HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [one.status for one in await wire.answers(["POST", "GET"])] == [200, 200]
        assert backend.heard[0].body == b"ab" * chunks
        assert backend.heard[1].line == "GET /next HTTP/1.1"
        wire.close()


@pytest.mark.parametrize("chunk", [b"1\r\na\r\n", b"1;a\r\na\r\n", b"10\r\n0123456789abcdef\r\n"])
async def test_one_reading_of_a_body_reads_a_bounded_number_of_chunks(chunk: bytes) -> None:
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 20_000)
    assert reader.read_head() is not None
    body, steps = b"", 0
    while True:
        piece = reader.read_body()
        body += piece
        steps += 1
        assert piece.count(b"a") <= 3072
        if not reader.has_more:
            break
    assert body.count(b"a") == 20_000
    assert steps >= 6


@pytest.mark.parametrize("empty", [0, 1, 2, 3, 1000])
async def test_two_empty_lines_may_stand_before_a_request_and_no_more(tmp_path: Path, empty: int) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        wire = await Wire.connect(harness.address(gateway))
        raw = b"\r\n" * empty + b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n"
        wire.send(raw + raw if empty <= 2 else raw)
        if empty <= 2:
            assert [one.status for one in await wire.answers(["GET", "GET"])] == [200, 200]
        else:
            (refused,) = await wire.answers([""])
            assert refused.status == 400
            assert refused.closes
        wire.close()
