"""The life of a request over real sockets: who gets in, what each refusal looks like, and drain."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.app import Gateway
from gateway.call import Call
from tests import harness
from tests.eventually import AT_ONCE, takes
from tests.fakes import Backend, FakeTarget, Heard, RawClient, always, answer

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend(always(answer())) as made:
        yield made


def config(backend: Backend, **more: Any) -> dict[str, Any]:
    backends = {"app": {"kind": "http", "addresses": [backend.address]}}
    return harness.routing([harness.route("svc", "app", **more)], backends=backends)


async def refusal(
    gateway: Gateway,
    session: aiohttp.ClientSession,
    headers: Any,
    method: str = "GET",
    path: str = "/svc/x",
) -> tuple[int, str]:
    async with session.request(method, harness.url(gateway, path), headers=headers) as response:
        body = await response.json()
        assert response.content_type == "application/problem+json"
        assert body["instance"] == response.headers["X-Request-ID"]
        return response.status, body["code"]


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        pytest.param({}, 200, id="a good token"),
        pytest.param({"exp": 1}, 401, id="expired"),
        pytest.param({"exp": None}, 401, id="no exp"),
        pytest.param({"iss": "other"}, 401, id="another issuer"),
        pytest.param({"iss": None}, 401, id="no issuer"),
        pytest.param({"aud": "other"}, 401, id="another audience"),
        pytest.param({"nbf": 9_999_999_999}, 401, id="not valid yet"),
        pytest.param({"iat": 9_999_999_999}, 401, id="issued in the future"),
        pytest.param({"tenant": None}, 401, id="no tenant"),
        pytest.param({"tenant": "Bad Name"}, 401, id="a bad tenant's name"),
        pytest.param({"sub": "a\r\nX-Evil: 1"}, 401, id="a subject that would break a header"),
        pytest.param({"tenant": "initech"}, 403, id="an unknown tenant"),
        pytest.param({"tenant": "closed"}, 403, id="a disabled tenant"),
    ],
)
async def test_who_gets_in_by_the_token(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend, claims: dict[str, Any], status: int
) -> None:
    routing = {**config(backend), "tenants": {"acme": {}, "closed": {"disabled": True}}}
    async with harness.running(tmp_path, routing) as gateway:
        headers = harness.bearer(gateway, **claims)
        if status == 200:
            async with session.get(harness.url(gateway, "/svc/x"), headers=headers) as response:
                assert response.status == 200
        else:
            expected = (status, {401: "unauthenticated", 403: "forbidden"}[status])
            assert await refusal(gateway, session, headers) == expected
    assert len(backend.heard) == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        ([], 'realm="gateway"'),
        (["Basic YTpi"], 'realm="gateway"'),
        (["Bearer"], 'realm="gateway"'),
        (["Bearer "], 'realm="gateway"'),
        (["Bearer x.y.z"], 'error="invalid_token"'),
        (["Bearer a", "Bearer b"], 'error="invalid_request"'),
    ],
)
async def test_no_token_or_a_bad_one_is_401_with_a_challenge(
    tmp_path: Path,
    session: aiohttp.ClientSession,
    backend: Backend,
    authorization: list[str],
    challenge: str,
) -> None:
    async with harness.running(tmp_path, config(backend)) as gateway:
        headers = [("Authorization", value) for value in authorization]
        async with session.get(harness.url(gateway, "/svc/"), headers=headers) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == f"Bearer {challenge}"
            text = await response.text()
            assert "x.y.z" not in text
    assert not backend.heard


async def test_a_tenant_named_elsewhere_may_only_agree(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    routing = config(backend)
    routing["routes"].append({"name": "by-path", "path": "/t/{tenant}/{rest*}", "target": "app"})
    async with harness.running(tmp_path, routing) as gateway:
        bearer = harness.bearer(gateway)
        for path, headers, status in (
            ("/svc/", {"X-Tenant": "acme"}, 200),
            ("/svc/", {"X-Tenant": "globex"}, 403),
            ("/t/acme/x", {}, 200),
            ("/t/globex/x", {}, 403),
            ("/t/%61cme/x", {}, 200),
            ("/t/acm%65/x", {"X-Tenant": "globex"}, 403),
        ):
            async with session.get(harness.url(gateway, path), headers={**bearer, **headers}) as response:
                assert response.status == status, (path, headers)


async def test_scopes_are_needed_by_read_write_and_method(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    scopes = {"read": ["r"], "write": ["w"], "DELETE": ["w", "d"]}
    async with harness.running(tmp_path, config(backend, scopes=scopes)) as gateway:
        for method, scope, status in (
            ("GET", "r", 200),
            ("HEAD", "r", 200),
            ("GET", "w", 403),
            ("POST", "w", 200),
            ("POST", "r", 403),
            ("DELETE", "w", 403),
            ("DELETE", "d w", 200),
        ):
            async with session.request(
                method, harness.url(gateway, "/svc/"), headers=harness.bearer(gateway, scope=scope)
            ) as response:
                assert response.status == status, (method, scope)
                if status == 403:
                    assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]


async def test_no_route_is_404_and_another_method_405_with_allow(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    async with harness.running(tmp_path, config(backend, methods=["GET", "PUT"])) as gateway:
        assert await refusal(gateway, session, {}, path="/nowhere") == (404, "no_route")
        async with session.delete(harness.url(gateway, "/svc/")) as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET, HEAD, PUT"


async def test_a_tenant_over_its_rate_is_429_and_the_other_is_not(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    routing = {
        **config(backend),
        "tenants": {"acme": {"rate_limit": {"rate": "1/m", "burst": 2}}, "globex": {}},
    }
    async with harness.running(tmp_path, routing) as gateway:
        statuses = []
        for tenant in ("acme", "acme", "acme", "globex"):
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway, tenant)
            ) as response:
                statuses.append(response.status)
                if response.status == 429:
                    assert 50 <= int(response.headers["Retry-After"]) <= 76  # a quarter of jitter
                    assert (await response.json())["code"] == "tenant_limit"
        assert statuses == [200, 200, 429, 200]


async def test_a_body_over_the_limit_is_413_announced_or_not(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    async with harness.running(tmp_path, config(backend, body_limit="1KiB")) as gateway:
        for data, status in ((b"x" * 1024, 200), (b"x" * 1025, 413), (pieces(), 413)):
            async with session.post(
                harness.url(gateway, "/svc/"), data=data, headers=harness.bearer(gateway)
            ) as response:
                assert response.status == status


async def test_100_continue_is_said_only_once_the_call_is_accepted(tmp_path: Path, backend: Backend) -> None:
    async with harness.running(tmp_path, config(backend, body_limit="1KiB")) as gateway:
        good = f"Authorization: Bearer {harness.token(gateway)}\r\n"
        for headers, expected in (
            (f"{good}Content-Length: 2\r\nExpect: 100-continue\r\n", "HTTP/1.1 100 Continue"),
            ("Content-Length: 2\r\nExpect: 100-continue\r\n", "HTTP/1.1 401 "),
            (f"{good}Content-Length: 2000\r\nExpect: 100-continue\r\n", "HTTP/1.1 413 "),
            (f"{good}Content-Length: 2\r\nExpect: a-miracle\r\n", "HTTP/1.1 417 "),
        ):
            client = await RawClient.connect(harness.address(gateway))
            client.send(f"POST /svc/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
            head = await client.head()
            assert head.startswith(expected)
            if "100" in expected:
                client.send(b"ok")
                assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
    assert backend.heard[0].body == b"ok"
    assert len(backend.heard) == 1


MALFORMED = {
    "no Host": "GET /svc/ HTTP/1.1\r\n\r\n",
    "two Hosts": "GET /svc/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a bad Host": "GET /svc/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    "an underscore": "GET /svc/ HTTP/1.1\r\nHost: a\r\nX_Tenant: acme\r\n\r\n",
    "an encoded NUL": "GET /svc/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an encoded line feed": "GET /svc/%0a HTTP/1.1\r\nHost: a\r\n\r\n",
    "an encoded carriage return": "GET /svc/%0D HTTP/1.1\r\nHost: a\r\n\r\n",
    "a backslash": "GET /svc/%5c HTTP/1.1\r\nHost: a\r\n\r\n",
    "dots": "GET /svc/../admin HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded dots": "GET /svc/%2e%2E/admin HTTP/1.1\r\nHost: a\r\n\r\n",
    "two slashes": "GET /svc//x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad escape": "GET /svc/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "not a method": "ge@t /svc/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "not HTTP": "hello\r\n\r\n",
    "both framings": (
        "POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": "POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "no name": "GET /svc/ HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
}


@pytest.mark.parametrize(("size", "status"), [(8_300, 200), (16_000, 200), (17_000, 431)])
async def test_a_token_may_be_larger_than_8_kib(
    tmp_path: Path, backend: Backend, session: aiohttp.ClientSession, size: int, status: int
) -> None:
    async with harness.running(tmp_path, config(backend)) as gateway:
        less = len(harness.token(gateway, roles=""))
        headers = harness.bearer(gateway, roles="x" * ((size - less) * 3 // 4))
        for _ in range(2):
            async with session.get(harness.url(gateway, "/svc/x"), headers=headers) as response:
                assert response.status == status
                assert status == 200 or "more than 16384 bytes" in (await response.json())["detail"]


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_is_400_problem_json_and_reaches_nobody(
    tmp_path: Path, backend: Backend, name: str
) -> None:
    async with harness.running(tmp_path, config(backend, public=True)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(MALFORMED[name].encode())
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 400 ")
        assert "application/problem+json" in head
        assert json.loads(body)["code"] == "bad_request"
        assert "X-Request-ID" in head
        assert "connection: close" in head.lower()
        client.close()
        assert not backend.heard


async def test_bytes_that_are_not_utf8_are_refused_and_never_dropped(
    tmp_path: Path, backend: Backend
) -> None:
    async with harness.running(tmp_path, config(backend, public=True)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\nX-Name: caf\xe9\r\n\r\n")
        assert (await client.head()).startswith("HTTP/1.1 400 ")
        client.close()
    assert not backend.heard


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT a:80 HTTP/1.1", "501"),
        ("TRACE /svc/ HTTP/1.1", "405"),
        ("OPTIONS * HTTP/1.1", "204"),
        ("GET * HTTP/1.1", "400"),
        ("GET http://a/svc/ HTTP/1.1", "200"),
    ],
)
async def test_odd_targets_and_methods(tmp_path: Path, backend: Backend, line: str, status: str) -> None:
    async with harness.running(tmp_path, config(backend, public=True)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"{line}\r\nHost: a\r\n\r\n".encode())
        assert (await client.head()).startswith(f"HTTP/1.1 {status} ")
        client.close()


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = heard.line.split()[1]
        await takes(0.05 if path == "/1" else 0)
        writer.write(answer(path.encode()))

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend, public=True)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"".join(b"GET /svc/%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in (1, 2, 3)))
            assert [(await client.answer())[1] for _ in range(3)] == [b"/1", b"/2", b"/3"]
            client.close()


CORS = {
    "origins": ["https://app.example"],
    "methods": ["GET", "PUT"],
    "headers": ["Authorization", "If-Match"],
    "expose": ["ETag"],
    "credentials": True,
    "max_age": 60,
}


async def test_a_preflight_is_answered_before_authentication_and_reaches_no_backend(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    async with harness.running(tmp_path, config(backend, methods=["GET", "PUT"], cors=CORS)) as gateway:
        for origin, method, headers, status in (
            ("https://app.example", "PUT", "authorization, if-match", 204),
            ("https://evil.example", "PUT", "", 403),
            ("https://app.example", "PUT", "x-other", 403),
            ("https://app.example", "DELETE", "", 405),
        ):
            asked = {"Origin": origin, "Access-Control-Request-Method": method}
            if headers:
                asked["Access-Control-Request-Headers"] = headers
            async with session.options(harness.url(gateway, "/svc/"), headers=asked) as response:
                assert response.status == status, (origin, method, headers)
                if status == 204:
                    assert response.headers["Access-Control-Allow-Origin"] == origin
                    assert response.headers["Access-Control-Allow-Credentials"] == "true"
                    assert response.headers["Access-Control-Max-Age"] == "60"
                    assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD, PUT"
                else:
                    assert response.content_type == "application/problem+json"
                if status != 405:
                    assert "Origin" in response.headers["Vary"]
    assert not backend.heard


async def test_answers_and_errors_carry_cors_headers_for_an_allowed_origin_only(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    theirs = "Vary: Accept\r\nAccess-Control-Allow-Origin: *\r\n"
    async with Backend(always(answer(headers=theirs))) as backend:
        async with harness.running(tmp_path, config(backend, cors=CORS)) as gateway:
            for origin, bearer, allowed in (
                ("https://app.example", harness.bearer(gateway), "https://app.example"),
                ("https://app.example", {}, "https://app.example"),
                ("https://evil.example", harness.bearer(gateway), None),
            ):
                async with session.get(
                    harness.url(gateway, "/svc/"), headers={**bearer, "Origin": origin}
                ) as response:
                    assert response.headers.getall("Access-Control-Allow-Origin", []) == [
                        value for value in [allowed] if value
                    ]
                    assert "Origin" in ", ".join(response.headers.getall("Vary"))


async def test_any_origin_is_said_as_a_star(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    async with harness.running(tmp_path, config(backend, public=True, cors={"origins": ["*"]})) as gateway:
        async with session.get(harness.url(gateway, "/svc/"), headers={"Origin": "https://a.b"}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_bug_of_ours_is_500_says_nothing_and_is_logged(
    tmp_path: Path, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(call: Call) -> web.StreamResponse:
        raise RuntimeError("secret-detail")

    async with harness.running(tmp_path, harness.routing([harness.route("svc", "documents")])) as gateway:
        gateway.data.documents = FakeTarget(broken)  # type: ignore[assignment]
        routing = Path(gateway.config.routing)
        routing.write_text(routing.read_text() + "\n# changed\n")
        assert await gateway.live.reload()
        with caplog.at_level(logging.ERROR):
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 500
                body = await response.text()
        assert json.loads(body)["code"] == "internal"
        assert "secret-detail" not in body
        assert "secret-detail" in caplog.text


async def test_drain_finishes_what_is_in_flight_and_takes_no_more(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await takes(0.3)
        writer.write(answer(b"done"))

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend, public=True)) as gateway:
            idle = await RawClient.connect(harness.address(gateway))
            busy = await RawClient.connect(harness.address(gateway))
            busy.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
            await begun.wait()
            draining = asyncio.create_task(gateway.drain())
            assert await idle.rest(AT_ONCE) == b""
            with pytest.raises(OSError):
                await RawClient.connect(harness.address(gateway))
            head, body = await busy.answer()
            assert body == b"done"
            assert "connection: close" in head.lower()
            assert await busy.rest(AT_ONCE) == b""
            await draining
            idle.close()
            busy.close()


async def test_documents_are_served_with_the_same_policies(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    scopes = {"read": ["documents:read"], "write": ["documents:write"], "manage": []}
    routing = harness.routing([harness.route("documents", "documents", scopes=scopes)])
    async with harness.running(tmp_path, routing) as gateway:
        url = harness.url(gateway, "/documents/notes/1")
        reader = harness.bearer(gateway, scope="documents:read")
        writer = harness.bearer(gateway, scope="documents:read documents:write")
        other = harness.bearer(gateway, "globex", "documents:read")
        async with session.put(url, json={"text": "hi"}, headers=reader) as response:
            assert response.status == 403
        async with session.put(url, json={"text": "hi"}, headers=writer) as response:
            assert response.status == 201
            tag = response.headers["ETag"]
        async with session.get(url, headers={**reader, "If-None-Match": tag}) as response:
            assert response.status == 304
        async with session.get(url, headers=other) as response:
            assert response.status == 404
        async with session.get(url, headers=reader) as response:
            assert await response.json() == {"id": "1", "text": "hi"}
