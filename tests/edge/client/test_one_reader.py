"""Nothing of one request becomes part of another, whatever a client sends and however it is cut."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.documents.api import serving
from tests.eventually import head_start
from tests.fakes import Backend, Heard, RawClient, answer
from tests.support.ports import free_port
from tests.support.wire import Wire

KINDS = pytest.mark.parametrize("kind", ["http", "gunicorn"])
CHUNKED = b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(path: str = "/svc/next") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def config(backend: Backend, kind: str = "http") -> dict[str, Any]:
    app: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        app["threads"] = 2
    routes = [harness.route("svc", "app", public=True), harness.route("own", "app")]
    return harness.routing(routes, backends={"app": app})


async def echo(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(heard.line.split()[1].encode() + b" " + heard.body))


@asynccontextmanager
async def behind(folder: Path, kind: str = "http") -> AsyncIterator[tuple[Gateway, Backend]]:
    async with Backend(echo) as backend, harness.running(folder, config(backend, kind)) as gateway:
        yield gateway, backend


# --- trailers ---

TRAILERS = [b"Cookie: session=attacker", b"X-Mark: 1\r\nCookie: session=attacker", b"Content-Length: 30",
            b"Host: evil", b"Connection: close", b"Transfer-Encoding: chunked"]  # fmt: skip


@KINDS
@pytest.mark.parametrize("trailer", TRAILERS)
async def test_a_trailer_is_no_header_of_the_next_request(tmp_path: Path, kind: str, trailer: bytes) -> None:
    first = b"POST /svc/1 HTTP/1.1\r\n" + CHUNKED + b"2\r\nhi\r\n0\r\n" + trailer + b"\r\n\r\n"
    async with behind(tmp_path, kind) as (gateway, backend):
        for pieces in ([first + get()], [first, get()], [first[:-2], first[-2:] + get()]):
            wire = await Wire.connect(harness.address(gateway))
            for piece in pieces:
                wire.send(piece)
                await head_start(0.005)
            answers = await wire.answers(["POST", "GET"])
            assert [one.body for one in answers] == [b"/1 hi", b"/next "]
            assert not any(one.closes for one in answers)
            wire.close()
        for heard in backend.heard:
            assert heard.all("Cookie") == heard.all("X-Mark") == []
            assert heard.all("Host") == ["a"]


async def test_a_trailer_is_no_credential_of_the_next_request(tmp_path: Path) -> None:
    async with behind(tmp_path) as (gateway, backend):
        trailer = f"Authorization: Bearer {harness.token(gateway)}\r\n".encode()
        wire = await Wire.connect(harness.address(gateway))
        wire.send(b"POST /svc/1 HTTP/1.1\r\n" + CHUNKED + b"0\r\n" + trailer + b"\r\n")
        wire.send(get("/own/secret"))
        assert [one.status for one in await wire.answers(["POST", "GET"])] == [200, 401]
        wire.close()
        assert [heard.line for heard in backend.heard] == ["POST /1 HTTP/1.1"]


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_a_proxy_in_front_that_shares_its_connections_shares_no_trailers(tmp_path: Path) -> None:
    """Behind HAProxy many clients' requests come on one connection: a trailer of one client's would be a
    header of another one's."""
    port = free_port()
    async with behind(tmp_path) as (gateway, backend):
        host, own = harness.address(gateway)
        settings = tmp_path / "haproxy.cfg"
        settings.write_text(
            "defaults\n mode http\n http-reuse always\n timeout connect 2s\n timeout client 5s\n"
            " timeout server 5s\n retries 0\n"
            f"frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s {host}:{own}\n"
        )
        haproxy = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(settings)])
        try:
            async with asyncio.timeout(30):
                while True:
                    try:
                        attacker = await RawClient.connect(("127.0.0.1", port))
                        break
                    except ConnectionError:
                        await head_start(0.02)
            for number in range(10):
                attacker.send(
                    b"POST /svc/1 HTTP/1.1\r\n" + CHUNKED + b"1\r\nx\r\n0\r\nCookie: session=attacker\r\n\r\n"
                )
                assert (await attacker.answer())[1] == b"/1 x"
                victim = await RawClient.connect(("127.0.0.1", port))
                victim.send(get(f"/svc/{number}"))
                assert (await victim.answer())[1] == b"/%d " % number
                victim.close()
            attacker.close()
        finally:
            haproxy.terminate()
            await asyncio.to_thread(haproxy.wait, 10)
        assert len(backend.heard) == 20
        assert not any(heard.all("Cookie") for heard in backend.heard)


# --- CONNECT ---


@pytest.mark.parametrize("framing", [b"", b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("target", [b"a:1", b"/svc/x", b"http://a/svc/x", b"*"])
async def test_nothing_behind_a_connect_is_a_request(tmp_path: Path, framing: bytes, target: bytes) -> None:
    inner = get("/svc/smuggled")
    length = framing.replace(b"%d", b"%d" % len(inner))
    head = b"CONNECT " + target + b" HTTP/1.1\r\nHost: a:1\r\n" + length + b"\r\n"
    async with behind(tmp_path) as (gateway, backend):
        cuts = [head + inner + inner], [head, inner + inner], [head[:20], head[20:] + inner[:9], inner]
        for pieces in cuts:
            wire = await Wire.connect(harness.address(gateway))
            for piece in pieces:
                if not wire.ended:
                    wire.send(piece)
                await head_start(0.005)
            (refusal,) = await wire.answers(["CONNECT"])
            assert refusal.closes
            assert refusal.status == 501 or (b"chunked" in framing and refusal.status == 400)
            wire.close()
        assert backend.heard == []


# --- broken chunks ---


@KINDS
async def test_a_broken_chunk_is_not_the_end_of_a_body_wherever_it_is_cut(tmp_path: Path, kind: str) -> None:
    head = b"POST /svc/x HTTP/1.1\r\n" + CHUNKED
    raw = head + b"5\r\nhello\r\nZZ\r\n" + get()
    whole: list[Heard] = []

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole.append(heard)
        await echo(heard, reader, writer)

    async with Backend(script) as backend, harness.running(tmp_path, config(backend, kind)) as gateway:
        for at in range(len(head) - 2, len(head) + 14):
            wire = await Wire.connect(harness.address(gateway))
            wire.send(raw[:at])
            await head_start(0.06 if at % 2 else 0.005)  # a body that takes its time is read as a stream
            wire.send(raw[at:])
            (refusal,) = await wire.answers(["POST"])
            assert refusal.status == 400 and refusal.closes, raw[at:]
            wire.close()
        assert whole == []
        assert not any(gateway.admission.in_use().values())


async def test_an_import_whose_chunks_break_is_not_done(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        token = api.headers["Authorization"]
        head = (
            f"POST /documents/orders/import HTTP/1.1\r\nAuthorization: {token}\r\n"
            "Content-Type: application/x-ndjson\r\n"
        ).encode() + CHUNKED
        line = b'{"id":"a"}\n'
        good = b"%x\r\n%b" % (len(line), line)
        for rest in (b"\r\nZZ\r\n", b"\r\n\r\n", b"XX0\r\n\r\n"):
            client = await RawClient.connect(harness.address(api.gateway))
            client.send(head + good)
            await head_start(0.07)
            client.send(rest)
            received = await client.rest()
            assert b'"done"' not in received and b'"done":true' not in received, received
            client.close()


# --- what ends a connection, and what does not ---


@pytest.mark.parametrize("path", ["/nowhere", "/own/x", "/svc/a//b"])
@pytest.mark.parametrize(
    "body", [b"Content-Length: 60\r\n\r\n" + get("/svc/smuggled").ljust(60),
             b"Transfer-Encoding: chunked\r\n\r\n3c\r\n" + get("/svc/smuggled").ljust(60) + b"\r\n0\r\n\r\n"],
)  # fmt: skip
async def test_the_body_of_a_refused_request_is_no_request(tmp_path: Path, path: str, body: bytes) -> None:
    """However it is cut: the body is read to its end, or the connection ends."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\n".encode()
    raw = head + body
    async with behind(tmp_path) as (gateway, backend):
        for at in (len(raw), len(head) + 5, len(head) + body.index(b"\r\n\r\n") + 4, len(raw) - 30):
            wire = await Wire.connect(harness.address(gateway))
            wire.send(raw[:at])
            await head_start(0.06)
            if not wire.ended:
                wire.send(raw[at:] + get())
            answers = await wire.answers(["POST", "GET"])
            assert answers[0].status in (400, 401, 404)
            assert answers[0].closes or answers[1].body == b"/next "
            wire.close()
        assert {heard.line for heard in backend.heard} <= {"GET /next HTTP/1.1"}


async def test_a_refused_client_that_waits_for_our_word_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody knows whether its body comes or its next request (RFC 9110 section 10.1.1)."""
    async with behind(tmp_path) as (gateway, backend):
        wire = await Wire.connect(harness.address(gateway))
        head = "POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        wire.send(f"{head}Content-Length: {len(get())}\r\n\r\n".encode())
        (refusal,) = await wire.answers(["POST"])
        assert refusal.status == 404 and refusal.closes
        wire.close()
        assert backend.heard == []


@pytest.mark.parametrize(
    "line",
    ["X-A: b\r\n c", "X-A : b", "X-A: b\0", "Content-Length: 1\r\nContent-Length: 1", "X_A: b", "X-A: b\rc",
     "Content-Length: 1\r\nTransfer-Encoding: chunked", "Transfer-Encoding: \x80chunked",
     "Transfer-Encoding: xchunked"],
)  # fmt: skip
async def test_what_cannot_be_read_ends_the_connection_and_reaches_nobody(tmp_path: Path, line: str) -> None:
    async with behind(tmp_path) as (gateway, backend):
        wire = await Wire.connect(harness.address(gateway))
        wire.send(f"POST /svc/x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\nx".encode("latin-1") + get())
        (refusal,) = await wire.answers(["POST"])
        assert refusal.status == 400 and refusal.closes
        await wire.end()
        assert backend.heard == []


@pytest.mark.parametrize(
    ("first", "status", "host"),
    [("GET /svc/x HTTP/1.0\r\n", 200, ""), ("GET http://b:1/svc/x HTTP/1.0\r\n", 200, "b:1"),
     ("GET /svc/x HTTP/1.0\r\nHost: b\r\n", 200, "b"), ("GET /svc/x HTTP/1.1\r\nHost:\r\n", 200, ""),
     ("GET /svc/x HTTP/1.1\r\n", 400, None), ("GET /svc/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, None),
     ("GET /svc/x HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400, None),
     ("GET /svc/x HTTP/1.1\r\nHost: a b\r\n", 400, None),
     ("GET http://b/svc/x HTTP/1.1\r\nHost:\r\n", 400, None)],
)  # fmt: skip
async def test_the_host_is_mandatory_in_http_1_1_and_may_be_empty(
    tmp_path: Path, first: str, status: int, host: str | None
) -> None:
    async with behind(tmp_path) as (gateway, backend):
        wire = await Wire.connect(harness.address(gateway))
        wire.send(f"{first}\r\n".encode())
        (received,) = await wire.answers(["GET"])
        assert received.status == status
        assert [heard.all("Host") for heard in backend.heard] == ([] if host is None else [[host]])
        wire.close()


@pytest.mark.parametrize(
    ("method", "status"),
    [("PROPFIND", 200), ("PURGE", 200), ("LISTED", 200), ("BREW", 501), ("BREW-1", 501), ("get", 400)],
)
async def test_a_method_that_nobody_knows_takes_a_route_that_lists_it(
    tmp_path: Path, method: str, status: int
) -> None:
    async with Backend(echo) as backend:
        routing = config(backend)
        if method == "LISTED":
            routing["routes"][0]["methods"] = ["LISTED"]
        async with harness.running(tmp_path, routing) as gateway:
            wire = await Wire.connect(harness.address(gateway))
            wire.send(f"{method} /svc/x HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            (received,) = await wire.answers([method])
            assert received.status == status
            assert [heard.line.split()[0] for heard in backend.heard] == ([method] if status == 200 else [])
            wire.close()


# --- the log ---

BAD_HEAD = "PUT /svc/a?q=secret HTTP/1.1\r\nHost: a\r\n"
REFUSED = {
    "a header that is none": (f"{BAD_HEAD}X_Y: 1\r\n\r\n", ("PUT", "/svc/a", "HTTP/1.1", None)),
    "no length": (f"{BAD_HEAD}Content-Length: x\r\n\r\n", ("PUT", "/svc/a", "HTTP/1.1", None)),
    "HTTP/1.0 with a coding": (
        "GET /svc/b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ("GET", "/svc/b", "HTTP/1.0", None),
    ),
    "a broken body": (
        f"{BAD_HEAD}User-Agent: curl/8\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        ("PUT", "/svc/a", "HTTP/1.1", "curl/8"),
    ),
    "a request line that is none": ("GET  /svc/a HTTP/1.1\r\n\r\n", ("", None, None, None)),
    "half a request line": ("GET /svc/a\x00", ("", None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_the_log_says_of_a_refused_request_what_could_be_read(tmp_path: Path, name: str) -> None:
    raw, expected = REFUSED[name]
    async with behind(tmp_path) as (gateway, _):
        wire = await Wire.connect(harness.address(gateway))
        wire.send(get("/svc/before") + raw.encode("latin-1"))
        assert [one.status for one in await wire.answers(["GET", "GET"])] == [200, 400]
        wire.close()
        log = Path(gateway.config.access_log)
    before, line = map(json.loads, log.read_text().splitlines())
    assert before["path"] == "/svc/before"
    assert (line["method"], line["path"], line["protocol"], line["user_agent"]) == expected
    assert (line["status"], line["code"]) == (400, "bad_request")
    assert "secret" not in json.dumps(line)


async def test_the_log_names_a_request_whose_head_came_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.client.connection.HEAD_TIME", 0.05)
    async with behind(tmp_path) as (gateway, _):
        wire = await Wire.connect(harness.address(gateway))
        wire.send(b"GET /svc/a HTTP/1.1\r\nHost: ")
        assert [one.status for one in await wire.answers(["GET"])] == [408]
        wire.close()
        log = Path(gateway.config.access_log)
    line = json.loads(log.read_text())
    assert (line["method"], line["path"], line["code"]) == ("GET", "/svc/a", "request_timeout")
