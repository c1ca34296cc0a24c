"""However a client's bytes are cut and timed, they mean the same requests in the same order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.core.model import Address
from gateway.edge.backend.pool import Pool
from gateway.edge.client.connection import ClientConnection
from tests import harness
from tests.eventually import AT_ONCE, eventually, head_start, takes
from tests.fakes import Backend, Heard, RawClient, answer


def config(backend: Backend) -> dict[str, Any]:
    backends = {"app": {"kind": "http", "addresses": [backend.address]}}
    return harness.routing([harness.route("svc", "app", public=True)], backends=backends)


async def echo(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = heard.line.split()[1]
    if "slow" in path:
        await takes(0.2)
    writer.write(answer(path.encode() + heard.body))


def get(path: str, headers: str = "") -> bytes:
    return f"GET /svc{path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode()


def connection_of(gateway: Gateway) -> ClientConnection:
    (connection,) = gateway.listener.connections
    return connection


async def warm(gateway: Gateway) -> RawClient:
    client = await RawClient.connect(harness.address(gateway))
    client.send(get("/warm"))
    await client.answer()
    return client


async def test_what_looks_like_a_request_in_the_middle_of_a_header_is_none(tmp_path: Path) -> None:
    """The first request goes the long way (no warm connection); the second one's head comes in two parts, and
    the second part, read alone, would be a request."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/slow"))
        await head_start(0.05)
        client.send(b"GET /svc/second HTTP/1.1\r\nHost: a\r\nX-A: ")
        assert (await client.answer())[1] == b"/slow"
        await head_start(0.05)
        client.send(get("/smuggled"))
        head, _ = await client.answer()
        assert [heard.line.split()[1] for heard in backend.heard] in (["/slow"], ["/slow", "/second"]), head
        client.close()


async def test_what_looks_like_a_request_in_the_middle_of_a_body_is_none(tmp_path: Path) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/slow"))
        await head_start(0.05)
        inner = get("/smuggled")
        client.send(f"POST /svc/second HTTP/1.1\r\nHost: a\r\nContent-Length: {len(inner)}\r\n\r".encode())
        assert (await client.answer())[1] == b"/slow"
        await head_start(0.05)
        client.send(b"\n" + inner)
        assert (await client.answer())[1] == b"/second" + inner
        assert [heard.line.split()[1] for heard in backend.heard] == ["/slow", "/second"]
        client.close()


async def test_bytes_that_come_just_as_an_answer_ends_stay_behind_those_that_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop may find the client readable in the same turn as the backend, just after the answer's end."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        connection = connection_of(gateway)
        client.send(get("/slow"))
        await eventually(lambda: connection.busy)
        connection.data_received(b"GET /svc/second HTTP/1.1\r\nHost: a\r\nX-A: ")
        done = ClientConnection.done

        def racing(self: ClientConnection, *, keep_alive: bool, expected: bool = True) -> None:
            monkeypatch.undo()
            done(self, keep_alive=keep_alive, expected=expected)
            self.data_received(get("/smuggled"))

        monkeypatch.setattr(ClientConnection, "done", racing)
        assert (await client.answer())[1] == b"/slow"
        await client.answer()
        assert [heard.line.split()[1] for heard in backend.heard] in (
            ["/warm", "/slow"],
            ["/warm", "/slow", "/second"],
        )
        client.close()


async def test_a_connection_that_its_server_has_closed_is_not_taken(tmp_path: Path) -> None:
    async with Backend(echo) as backend:
        host, port = backend.address.removeprefix("http://").split(":")
        pool = Pool(Address("a", host, int(port)), 5.0)
        connection = await pool.connect(1.0)
        pool.give_back(connection, reusable=True)
        connection.eof_received()  # connection_lost follows a turn later
        assert pool.take(fresh=False) is None
        connection.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("ready", ["warm", "cold"])
async def test_an_answer_that_breaks_before_any_byte_of_it_has_left_is_502(
    tmp_path: Path, ready: str
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "warm" in heard.line:
            writer.write(answer())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway) if ready == "warm" else await RawClient.connect(harness.address(gateway))
        client.send(get("/broken"))
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 502 ")
        assert b"backend_malformed" in body
        client.send(get("/warm"))
        assert (await client.answer())[1] == b"ok"
        client.close()


async def test_no_task_waits_for_the_rest_of_a_body_whose_client_has_left(tmp_path: Path) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        before = asyncio.all_tasks()
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert (await client.head()).startswith("HTTP/1.1 404 ")
        client.close()
        await eventually(lambda: not asyncio.all_tasks() - before and not gateway.listener.connections)


@pytest.mark.parametrize("line", ["GET /svc/x HTTP/2.0", "GET /svc/x HTTP/0.9", "GET /svc/x"])
async def test_other_versions_are_refused_in_http_1_1(tmp_path: Path, line: str) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"{line}\r\nHost: a\r\n\r\n".encode())
        head = await client.head()
        assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
        assert "Connection: close" in head
        await client.rest()
        assert not backend.heard
        client.close()


async def test_a_transfer_coding_in_http_1_0_is_refused(tmp_path: Path) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        head = (
            b"POST /svc/x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.send(head + b"0\r\n\r\n" + get("/inner"))
        received = await client.rest()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"Bad Request\r\n") == 1
        assert not backend.heard
        client.close()


@pytest.mark.parametrize("ready", ["streamed", "whole"])
async def test_a_body_that_breaks_after_its_beginning_is_refused_at_once(tmp_path: Path, ready: str) -> None:
    async with Backend(echo) as backend:
        routing = config(backend)
        if ready == "whole":
            routing["backends"]["app"] |= {"kind": "gunicorn", "threads": 1}
        async with harness.running(tmp_path, routing) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"POST /svc/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await head_start(0.05)
            client.send(b"zz\r\n" + get("/inner"))
            received = await client.rest(AT_ONCE)
            assert received.startswith(b"HTTP/1.1 400 ")
            assert received.count(b"Bad Request\r\n") == 1
            assert not any(gateway.admission.in_use().values())
            client.close()


async def test_bytes_that_come_on_an_idle_connection_end_it_and_reach_nobody(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(heard.line.split()[1].encode()))
        await takes(0.02)
        writer.write(answer(b"for somebody else")[:20])

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        for number in (1, 2, 3):
            client.send(get(f"/{number}"))
            assert (await client.answer())[1] == b"/%d" % number
            await head_start(0.06)
        assert backend.connections == 3
        client.close()


@pytest.mark.parametrize("ready", ["warm", "cold"])
@pytest.mark.parametrize("good", [1, 3])
async def test_requests_before_a_broken_one_in_the_same_segment_are_answered(
    tmp_path: Path, ready: str, good: int
) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway) if ready == "warm" else await RawClient.connect(harness.address(gateway))
        requests = b"".join(get(f"/{n}") for n in range(good))
        client.send(requests + b"GET /svc/broken HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n" + get("/after"))
        for n in range(good):
            assert (await client.answer())[1] == b"/%d" % n
        received = await client.rest()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") == 1
        heard = [heard.line.split()[1] for heard in backend.heard]
        assert heard[-good:] == [f"/{n}" for n in range(good)]
        client.close()


async def test_a_request_with_a_body_before_a_broken_one_in_the_same_segment_is_answered(
    tmp_path: Path,
) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        head = b"POST /svc/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\nabc\r\n0\r\n\r\n" + b"GET /svc/\x00 HTTP/1.1\r\n\r\n")
        assert (await client.answer())[1] == b"/xabc"
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        client.close()


@pytest.mark.parametrize("body", [b"", b"hello", b"GET /svc/inner HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_requests_behind_one_whose_upgrade_is_ignored_are_answered(tmp_path: Path, body: bytes) -> None:
    """However they are cut."""
    upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    first = get("/a", f"{upgrade}Content-Length: {len(body)}\r\n" if body else upgrade) + body
    raw = first + first.replace(b"/a", b"/b") + get("/c")
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        for cut in range(len(first) - len(body) - 4, len(raw), 3):
            client = await RawClient.connect(harness.address(gateway))
            client.send(raw[:cut])
            await head_start(0.001)
            client.send(raw[cut:])
            for path in (b"/a", b"/b", b"/c"):
                head, received = await client.answer()
                assert received == path + (body if path != b"/c" else b""), raw[:cut]
                assert "close" not in head, cut
            client.close()


async def test_requests_behind_a_chunked_body_with_an_ignored_upgrade_are_answered(tmp_path: Path) -> None:
    """However they are cut, and what looks like a request in the next one's body is none."""
    inner = get("/inner")
    upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    first = get("/1", upgrade + "Transfer-Encoding: chunked\r\n") + b"2\r\nhi\r\n0\r\nA: b\r\n\r\n"
    raw = first + get("/2", f"Content-Length: {len(inner)}\r\n") + inner + get("/3")
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        for cut in range(0, len(raw), 3):
            client = await RawClient.connect(harness.address(gateway))
            client.send(raw[:cut])
            await head_start(0.001)
            client.send(raw[cut:])
            received = [(await client.answer())[1] for _ in range(3)]
            assert received == [b"/1hi", b"/2" + inner, b"/3"], raw[:cut]
            client.close()
        assert "/inner" not in [heard.line.split()[1] for heard in backend.heard]
