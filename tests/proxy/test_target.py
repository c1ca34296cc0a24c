"""The proxy leg over real sockets: what passes both ways, and what does not."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yarl

from gateway.app import Gateway
from tests import harness
from tests.eventually import END, eventually, nothing_for, takes
from tests.fakes import Backend, Busy, Heard, RawClient, always, answer
from tests.support import identity

pytestmark = pytest.mark.asyncio


def config(backend: Backend, kind: str = "http", **more: object) -> dict[str, object]:
    settings: dict[str, object] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        settings["threads"] = 2
    return harness.routing([harness.route("svc", "app", **more)], backends={"app": settings})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
@pytest.mark.parametrize("kind", ["http", "gunicorn"])
async def test_every_method_passes_with_query_and_body(
    tmp_path: Path, session: aiohttp.ClientSession, method: str, kind: str
) -> None:
    async with (
        Backend(
            always(answer(b'{"a":1}', "207 Multi-Status", "Content-Type: application/json\r\n"))
        ) as backend,
        harness.running(tmp_path, config(backend, kind, encoded_slash="pass")) as gateway,
    ):
        async with session.request(
            method,
            harness.url(gateway, "/svc/a%20b/c?x=1&x=%20&y"),
            data=b"payload",
            headers=harness.bearer(gateway),
            skip_auto_headers=["User-Agent"],
        ) as response:
            assert (response.status, response.reason) == (207, "Multi-Status")
            assert await response.read() == b'{"a":1}'
        assert backend.heard[0].line == f"{method} /a%20b/c?x=1&x=%20&y HTTP/1.1"
        assert backend.heard[0].body == b"payload"


async def test_an_encoded_slash_passes_only_where_the_route_says_so(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """WSGI and ASGI servers decode it: /admin%2Fusers would be /admin/users behind another route's scopes."""
    async with Backend(always(answer())) as backend:
        routing = config(backend)
        routing["routes"] += [harness.route("raw", "app", encoded_slash="pass")]  # type: ignore[operator]
        async with harness.running(tmp_path, routing) as gateway:
            for path, status in (("/svc/a%2Fb", 400), ("/svc/a%2fb", 400), ("/raw/a%2Fb", 200)):
                url = yarl.URL(harness.url(gateway, path), encoded=True)
                async with session.get(url, headers=harness.bearer(gateway)) as response:
                    assert response.status == status, path
        assert [heard.line for heard in backend.heard] == ["GET /a%2Fb HTTP/1.1"]


async def test_repeated_headers_pass_both_ways_in_order(tmp_path: Path) -> None:
    raw = answer(headers="Set-Cookie: a=1\r\nX-Two: 1\r\nSet-Cookie: b=2\r\nX-Two: 2\r\n")
    async with (
        Backend(always(raw)) as backend,
        harness.running(tmp_path, config(backend)) as gateway,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        headers = [("X-Many", "1"), ("X-Many", "2"), *harness.bearer(gateway).items()]
        async with session.get(harness.url(gateway, "/svc/"), headers=headers) as response:
            assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
            assert response.headers.getall("X-Two") == ["1", "2"]
        assert backend.heard[0].all("X-Many") == ["1", "2"]


async def test_the_backend_is_told_who_calls_by_us_and_never_by_the_client(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        headers = {
            **harness.bearer(gateway, scope="a b", sub="bob@x"),
            "X-Gateway-Identity": "e.e.e",
            "X-Subject": "root",
            "X-Scopes": "gateway:admin",
            "X-Forwarded-For": "6.6.6.6",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Prefix": "/evil",
            "X-Real-IP": "6.6.6.6",
            "Forwarded": "for=6.6.6.6",
            "X-Request-ID": "mine",
            "Connection": "X-Gateway-Identity, X-Subject, X-Dropped",
            "X-Dropped": "hop",
            "Proxy-Authorization": "Basic abc",
            "TE": "trailers",
        }
        async with session.get(harness.url(gateway, "/svc/p"), headers=headers) as response:
            request_id = response.headers["X-Request-ID"]
        heard, (host, port) = backend.heard[0], harness.address(gateway)
        told = identity.claims(gateway, heard.one("X-Gateway-Identity"), "app")
        assert told == {"tenant": "acme", "sub": "bob@x", "scope": "a b"}
        assert heard.one("X-Request-ID") == request_id != "mine"
        assert heard.one("X-Forwarded-For") == "127.0.0.1"
        assert heard.one("X-Forwarded-Host") == heard.one("Host") == f"{host}:{port}"
        assert heard.one("X-Forwarded-Proto") == "http"
        assert heard.one("X-Forwarded-Port") == str(port)
        assert heard.one("X-Forwarded-Prefix") == "/svc"
        assert heard.one("X-Request-Start") is not None
        for gone in ("Authorization", "X-Real-IP", "Forwarded", "X-Dropped", "Proxy-Authorization", "TE"):
            assert heard.one(gone) is None, gone
        for unsigned in ("X-Tenant", "X-Subject", "X-Scopes"):
            assert heard.one(unsigned) is None, unsigned


async def test_forwarding_headers_of_a_trusted_proxy_are_continued(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer())) as backend:
        trusting = {**config(backend), "trusted_proxies": ["127.0.0.0/8"]}
        async with harness.running(tmp_path, trusting) as gateway:
            headers = {
                **harness.bearer(gateway),
                "X-Forwarded-For": "203.0.113.9",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "api.example",
                "X-Forwarded-Port": "443",
            }
            async with session.get(harness.url(gateway, "/svc/"), headers=headers):
                pass
        heard = backend.heard[0]
        assert heard.one("X-Forwarded-For") == "203.0.113.9, 127.0.0.1"
        assert heard.one("X-Forwarded-Proto") == "https"
        assert heard.one("X-Forwarded-Host") == "api.example"
        assert heard.one("X-Forwarded-Port") == "443"


async def test_authorization_reaches_a_backend_only_where_the_route_says_so(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer())) as backend:
        forwarding = config(backend, forward_authorization=True)
        async with harness.running(tmp_path, forwarding) as gateway:
            bearer = harness.bearer(gateway)
            async with session.get(harness.url(gateway, "/svc/"), headers=bearer):
                pass
        assert backend.heard[0].one("Authorization") == bearer["Authorization"]


async def test_a_public_route_passes_no_identity_on(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend, public=True)) as gateway:
            headers = {"X-Tenant": "acme", "X-Subject": "root"}
            async with session.get(harness.url(gateway, "/svc/"), headers=headers) as response:
                assert response.status == 200
        assert backend.heard[0].one("X-Tenant") is None
        assert backend.heard[0].one("X-Subject") is None


async def test_what_passes_through_is_never_decompressed_redirected_or_renamed(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    squeezed = gzip.compress(b"x" * 1000)
    raw = answer(
        squeezed, "302 Found", "Content-Encoding: gzip\r\nLocation: /elsewhere\r\nServer: theirs\r\n"
    )
    async with Backend(always(raw)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        async with session.get(
            harness.url(gateway, "/svc/"), headers=harness.bearer(gateway), allow_redirects=False
        ) as response:
            assert response.status == 302
            assert response.headers["Location"] == "/elsewhere"
            assert response.headers["Server"] == "theirs"
            assert "Content-Type" not in response.headers
            assert await response.read() == squeezed


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
async def test_a_compressed_request_body_passes_untouched(
    tmp_path: Path, session: aiohttp.ClientSession, kind: str
) -> None:
    squeezed = gzip.compress(b"x" * 1000)
    async with (
        Backend(always(answer())) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        headers = {**harness.bearer(gateway), "Content-Encoding": "gzip"}
        async with session.put(harness.url(gateway, "/svc/"), data=squeezed, headers=headers) as response:
            assert response.status == 200
        assert backend.heard[0].body == squeezed
        assert backend.heard[0].one("Content-Encoding") == "gzip"


async def test_an_error_of_the_backends_passes_through_unchanged(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    raw = answer(b'{"theirs":true}', "500 Internal Server Error", "Content-Type: application/json\r\n")
    async with Backend(always(raw)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        async with session.get(harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)) as response:
            assert response.status == 500
            assert await response.json() == {"theirs": True}


async def _raw(gateway: Gateway, request: str) -> RawClient:
    client = await RawClient.connect(harness.address(gateway))
    client.send(f"{request}\r\nHost: x\r\nAuthorization: Bearer {harness.token(gateway)}\r\n\r\n".encode())
    return client


@pytest.mark.parametrize(
    ("method", "raw", "status", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200", "Content-Length: 5"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", "204", ""),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', "304", ""),
    ],
)
async def test_answers_without_a_body_leave_the_connection_usable(
    tmp_path: Path, method: str, raw: bytes, status: str, length: str
) -> None:
    async with Backend(always(raw)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await _raw(gateway, f"{method} /svc/ HTTP/1.1")
        for _ in range(2):
            head = await client.head()
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert length in head
            assert "Transfer-Encoding" not in head
            bearer = harness.token(gateway)
            client.send(
                f"{method} /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode()
            )
        client.close()
        assert backend.connections == 1


async def test_an_event_stream_arrives_unbuffered(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    go_on = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await go_on.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        async with session.get(harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)) as response:
            async with asyncio.timeout(30):
                assert await response.content.readany() == b"data: 1\n\n"
            go_on.set()
            assert await response.content.read() == b"data: 2\n\n"


async def test_an_asynchronous_backend_gets_the_body_as_it_comes(tmp_path: Path) -> None:
    first = asyncio.Event()
    pieces: list[bytes] = []

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces.append(await reader.readexactly(8))
        first.set()
        pieces.append(await reader.readexactly(13))
        writer.write(answer())

    async with (
        Backend(script, heads_only=True) as backend,
        harness.running(tmp_path, config(backend)) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        head = f"POST /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {harness.token(gateway)}\r\n"
        client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n".encode())
        async with asyncio.timeout(30):
            await first.wait()
        client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        client.close()
    assert pieces == [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]


@pytest.mark.parametrize("size", [10, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_a_threaded_backend_gets_the_body_whole_and_with_its_length(tmp_path: Path, size: int) -> None:
    async with (
        Backend(always(answer())) as backend,
        harness.running(tmp_path, config(backend, "gunicorn")) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        head = f"POST /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {harness.token(gateway)}\r\n"
        client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode() + b"a" * size)
        await nothing_for(0.1)
        assert backend.connections == 0, "the backend heard of it before the body was whole"
        client.send(b"\r\n0\r\n\r\n")
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        client.close()
        assert backend.heard[0].one("Content-Length") == str(size)
        assert backend.heard[0].one("Transfer-Encoding") is None
        assert backend.heard[0].body == b"a" * size


def age(gateway: Gateway, seconds: float) -> None:
    """As if its idle connections had been idle for so much longer."""
    for pool in gateway.pools._pools.values():
        for connection in pool._idle:
            connection.idle_since -= seconds


async def test_a_warm_connection_is_used_again_and_an_old_one_is_not(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with (
        Backend(always(answer())) as backend,
        harness.running(tmp_path, config(backend, "gunicorn")) as gateway,
    ):

        async def call(method: str) -> None:
            async with session.request(
                method, harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 200

        await call("GET")
        await call("POST")
        assert backend.connections == 1
        age(gateway, 1.1)
        await call("GET")  # idle for more than 1 s, less than 1.5 s: good for what may be lost
        assert backend.connections == 1
        age(gateway, 1.1)
        await call("POST")  # not for what may not
        assert backend.connections == 2
        age(gateway, 1.6)
        await call("GET")
        assert backend.connections == 3


async def test_never_more_requests_inside_a_threaded_backend_than_threads(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    busy = Busy(0.02)
    async with (
        Backend(busy) as backend,
        harness.running(tmp_path, config(backend, "gunicorn")) as gateway,
    ):

        async def call() -> int:
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                return response.status

        assert await asyncio.gather(*[call() for _ in range(20)]) == [200] * 20
    assert busy.most == 2


async def test_a_call_that_finds_no_seat_in_time_is_503_and_says_when_to_come_back(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(1)
        writer.write(answer())

    async with (
        Backend(script) as backend,
        harness.running(tmp_path, config(backend, "gunicorn", timeouts={"queue": "100ms"})) as gateway,
    ):

        async def call() -> tuple[int, str | None]:
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                return response.status, response.headers.get("Retry-After")

        results = await asyncio.gather(*[call() for _ in range(3)])
        *served, (status, retry_after) = sorted(results, key=str)
        assert served == [(200, None), (200, None)]
        assert (status, retry_after in ("1", "2")) == (503, True)


async def test_the_client_that_left_cancels_a_read_on_an_asynchronous_backend(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(1) == b""
        gone.set()

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await _raw(gateway, "GET /svc/ HTTP/1.1")
        await eventually(lambda: backend.heard)
        client.close()
        async with asyncio.timeout(30):
            await gone.wait()


async def test_the_client_that_left_does_not_free_the_seat_of_a_threaded_backend(tmp_path: Path) -> None:
    work = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await work.wait()
        writer.write(answer())

    async with (
        Backend(script) as backend,
        harness.running(tmp_path, config(backend, "gunicorn")) as gateway,
    ):
        client = await _raw(gateway, "GET /svc/ HTTP/1.1")
        await eventually(lambda: backend.heard)
        client.close()
        await nothing_for(0.1)
        assert gateway.admission.in_use() == {"app": 1}
        work.set()
        await eventually(lambda: not gateway.admission.in_use()["app"])
        assert backend.connections == 1


async def test_a_shorter_time_wanted_by_the_client_counts_and_a_longer_one_does_not(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(2 * END)

    async with Backend(script) as backend:
        for wanted, own in (("0.1", "50s"), ("50", "100ms")):
            timeouts = {"first_byte": own}
            async with harness.running(tmp_path, config(backend, timeouts=timeouts)) as gateway:
                begun = asyncio.get_running_loop().time()
                headers = {**harness.bearer(gateway), "X-Request-Timeout": wanted}
                async with session.get(harness.url(gateway, "/svc/"), headers=headers) as response:
                    assert response.status == 504
                assert asyncio.get_running_loop().time() - begun < END


@pytest.mark.parametrize(
    "wanted",
    [
        *("soon", "1_0", "inf", "nan", "1e1", "+1", "-1", "0", "0.0", "1.", ".5"),
        *("\u0661", "86401", "0x1", "1 2", ""),
    ],
)
async def test_a_time_that_is_no_plain_decimal_number_is_400(tmp_path: Path, wanted: str) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await _raw(gateway, f"GET /svc/ HTTP/1.1\r\nX-Request-Timeout: {wanted}")
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 400 ")
        assert json.loads(body)["code"] == "bad_request"
        assert not backend.heard
        client.close()


async def test_a_time_that_is_said_twice_is_400(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await _raw(gateway, "GET /svc/ HTTP/1.1\r\nX-Request-Timeout: 1\r\nX-Request-Timeout: 1")
        assert (await client.head()).startswith("HTTP/1.1 400 ")
        client.close()


async def test_tiny_chunks_that_come_together_leave_together(tmp_path: Path) -> None:
    """In one chunk, and so in one write: one for each would cost a system call for a byte."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 500 + b"0\r\n\r\n"
    async with Backend(always(raw)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await _raw(gateway, "GET /svc/ HTTP/1.1")
        await client.head()
        async with asyncio.timeout(30):
            received = await client.reader.readuntil(b"\r\n0\r\n\r\n")
        assert received == b"1f4\r\n" + b"a" * 500 + b"\r\n0\r\n\r\n"
        client.close()


async def test_every_answer_of_ours_and_theirs_carries_the_request_id_of_the_log(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer(headers="X-Request-ID: theirs\r\n"))) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            ids = []
            for path in ("/svc/", "/nowhere"):
                async with session.get(
                    harness.url(gateway, path), headers=harness.bearer(gateway)
                ) as response:
                    ids += response.headers.getall("X-Request-ID")
    lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
    assert [line["id"] for line in lines] == ids
    assert [line["status"] for line in lines] == [200, 404]
    assert lines[0]["tenant"] == "acme"
    assert lines[0]["route"] == "svc"
    assert lines[0]["bytes_out"] > 0


async def test_host_is_the_client_s_unless_the_route_sets_one(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer())) as backend:
        routing = config(backend)
        routing["routes"] += [harness.route("set", "app", set_host="inside.example:81")]  # type: ignore[operator]
        async with harness.running(tmp_path, routing) as gateway:
            for path in ("/svc/", "/set/"):
                headers = {**harness.bearer(gateway), "Host": "outside.example"}
                async with session.get(harness.url(gateway, path), headers=headers) as response:
                    assert response.status == 200
        one, two = backend.heard
        assert (one.one("Host"), one.one("X-Forwarded-Host")) == ("outside.example",) * 2
        assert (two.one("Host"), two.one("X-Forwarded-Host")) == ("inside.example:81", "outside.example")


async def test_the_environment_names_no_proxy_and_no_cookie_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with (
        Backend(always(answer(headers="Set-Cookie: session=1; Path=/\r\n"))) as backend,
        harness.running(tmp_path, config(backend)) as gateway,
    ):
        for _ in range(2):
            client = await _raw(gateway, "GET /svc/ HTTP/1.1")
            head, _ = await client.answer()
            assert "Set-Cookie: session=1; Path=/\r\n" in head
            client.close()
        assert [heard.one("Cookie") for heard in backend.heard] == [None, None]


async def test_addresses_take_turns_from_the_first_request_on(tmp_path: Path) -> None:
    async with Backend(always(answer())) as one, Backend(always(answer())) as two:
        routing = config(one)
        routing["backends"]["app"]["addresses"] += [two.address]  # type: ignore[index]
        async with harness.running(tmp_path, routing) as gateway:
            client = await _raw(gateway, "GET /svc/ HTTP/1.1")
            for _ in range(9):
                await client.answer()
                bearer = harness.token(gateway)
                client.send(
                    f"GET /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode()
                )
            await client.answer()
            client.close()
        assert (len(one.heard), len(two.heard)) == (5, 5)
