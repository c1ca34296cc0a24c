"""Where a request comes from and under which address, over real sockets; Via and loops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from tests import harness
from tests.documents.api import serving
from tests.fakes import Backend, Heard, RawClient, always, answer
from tests.support.sockets import KEY, echo, websocket

pytestmark = pytest.mark.asyncio
TRUSTING = {"trusted_proxies": ["127.0.0.0/8"]}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def config(backend: Backend, **more: Any) -> dict[str, Any]:
    backends = {"app": {"kind": "http", "addresses": [backend.address]}}
    return {**harness.routing([harness.route("svc", "app", public=True)], backends=backends), **more}


async def ask(gateway: Gateway, lines: str, path: str = "/svc/x", version: str = "1.1") -> tuple[str, bytes]:
    client = await RawClient.connect(harness.address(gateway))
    client.send(f"GET {path} HTTP/{version}\r\nHost: api.example\r\n{lines}\r\n".encode())
    found = await client.answer()
    client.close()
    return found


# --- X-Forwarded-* ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(("said", "host"), [("a.example:", "a.example"), ("[::1]:", "[::1]"), ("a:1", "a:1")])
async def test_a_host_with_a_colon_and_no_port_is_told_without_it(
    tmp_path: Path, said: str, host: str, version: str
) -> None:
    """It is the same host (RFC 3986 section 3.2.3), but frameworks refuse it."""
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            for lines in (f"/svc/x HTTP/{version}\r\nHost: {said}\r\n", f"http://{said}/svc/x HTTP/1.0\r\n"):
                client = await RawClient.connect(harness.address(gateway))
                client.send(f"GET {lines}\r\n".encode())
                assert (await client.answer())[0].startswith("HTTP/1.1 200 ")
                client.close()
    for heard in backend.heard:
        assert (heard.one("Host"), heard.one("X-Forwarded-Host")) == (host, host)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("more", ["", "TE: trailers\r\nConnection: TE\r\n"], ids=["simple", "not simple"])
async def test_lists_and_repeats_of_a_trusted_proxy_are_its_first_value_and_others_are_overwritten(
    tmp_path: Path, trusted: bool, more: str
) -> None:
    lines = (
        "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nX-Forwarded-Proto: https, http\r\n"
        "X-Forwarded-Host: public.example:8443\r\nX-Forwarded-Host: inner.example\r\n"
        "X-Forwarded-Prefix: /v1\r\n"
    )
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend, **(TRUSTING if trusted else {}))) as gateway:
            await ask(gateway, lines + more)
    (heard,) = backend.heard
    names = ("For", "Proto", "Host", "Port", "Prefix")
    said = [heard.one(f"X-Forwarded-{name}") for name in names]
    if trusted:
        assert said == ["203.0.113.9, 127.0.0.1", "https", "public.example:8443", "8443", "/v1/svc"]
    else:
        assert said == ["127.0.0.1", "http", "api.example", "80", "/svc"]


@pytest.mark.parametrize("trusted", [True, False])
async def test_addresses_of_documents_begin_with_the_prefix_that_a_trusted_proxy_stripped(
    tmp_path: Path, trusted: bool
) -> None:
    start = "/v1/api/documents" if trusted else "/documents"
    prefix = {"X-Forwarded-Prefix": "/v1, /api"}
    async with serving(tmp_path, config=TRUSTING if trusted else {}) as api:
        status, headers, body = await api("POST", "/orders/", {"a": 1}, prefix)
        assert (status, headers["Location"]) == (201, f"{start}/orders/{body['id']}")
        await api("POST", "/orders/", {"a": 2})
        status, headers, _ = await api("GET", "/orders/?limit=1", None, prefix)
        assert headers["Link"].startswith(f"<{start}/orders/?")
        status, headers, _ = await api("PUT", "/invoices", {}, prefix)
        assert (status, headers["Location"]) == (201, f"{start}/invoices")
        status, headers, _ = await api("GET", "/?limit=1", None, prefix)
        assert headers["Link"].startswith(f"<{start}/?")


# --- X-Request-ID ----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "TE: trailers\r\nConnection: TE\r\n"], ids=["simple", "not simple"])
@pytest.mark.parametrize(
    ("lines", "trusted", "kept"),
    [
        ("X-Request-ID: edge-1.A_b\r\n", True, "edge-1.A_b"),
        ("x-request-id: " + "a" * 128 + "\r\n", True, "a" * 128),
        ("X-Request-ID: edge-1\r\n", False, None),
        ("X-Request-ID: a\r\nX-Request-ID: a\r\n", True, None),
        ("X-Request-ID: a, b\r\n", True, None),
        ('X-Request-ID: a"b\r\n', True, None),
        ("X-Request-ID:\r\n", True, None),
        ("X-Request-ID: " + "a" * 129 + "\r\n", True, None),
    ],
)
async def test_the_id_of_a_trusted_proxy_is_kept_where_it_is_one_word(
    tmp_path: Path, more: str, lines: str, trusted: bool, kept: str | None
) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend, **(TRUSTING if trusted else {}))) as gateway:
            head, _ = await ask(gateway, lines + more)
            _, body = await ask(gateway, lines + more, path="/nowhere")
            log = Path(gateway.config.access_log)
    (heard,) = backend.heard
    found = heard.one("X-Request-ID")
    assert found is not None and f"X-Request-ID: {found}\r\n" in head and f'"{found}"' in log.read_text()
    instance = json.loads(body)["instance"]
    if kept is None:
        assert len(found) == len(instance) == 32 and found != instance
    else:
        assert (found, instance) == (kept, kept)


# --- Max-Forwards ----------------------------------------------------------------------------------


async def sent(gateway: Gateway, request: str, *lines: str) -> str:
    """The head of the answer. request: method and path."""
    client = await RawClient.connect(harness.address(gateway))
    more = "".join(f"{line}\r\n" for line in lines)
    client.send(f"{request} HTTP/1.1\r\nHost: api.example\r\n{more}\r\n".encode())
    head, _ = await client.answer()
    client.close()
    return head


async def test_a_request_that_counts_its_hops_ends_where_they_do(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        routes = [
            harness.route("svc", "app", public=True, methods=["GET", "OPTIONS"]),
            harness.route("closed", "app", methods=["GET", "OPTIONS"]),
        ]
        async with harness.running(tmp_path, {**config(backend), "routes": routes}) as gateway:
            for more in ((), ("X-Request-Timeout: 5",), ("Content-Length: 3\r\n\r\nabc",)):
                head = await sent(gateway, "OPTIONS /svc/x", "Max-Forwards: 0", *more)
                assert head.startswith("HTTP/1.1 204 ")
                assert "Allow: GET, HEAD, OPTIONS\r\n" in head
            assert not backend.heard
            assert "401" in await sent(gateway, "OPTIONS /closed/x", "Max-Forwards: 0")
            assert "405" in await sent(gateway, "TRACE /svc/x", "Max-Forwards: 0")
            for value, passed in (("1", "0"), ("12", "11"), ("x", "x")):
                for connection in ("keep-alive", "close"):
                    lines = (f"Max-Forwards: {value}", f"Connection: {connection}")
                    assert "200" in await sent(gateway, "OPTIONS /svc/x", *lines)
                    assert backend.heard[-1].all("Max-Forwards") == [passed]


async def test_hops_of_other_methods_are_not_counted_whatever_came_before_on_the_connection(
    tmp_path: Path,
) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            for method in ("OPTIONS", "GET", "OPTIONS", "GET"):
                client.send(f"{method} /svc/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n".encode())
                await client.answer()
            client.close()
    assert [heard.all("Max-Forwards") for heard in backend.heard] == [["2"], ["3"], ["2"], ["3"]]


# --- Via -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "said"), [("1.1", "1.1"), ("1.0", "1.0")])
async def test_via_is_added_to_what_came_with_the_version_that_was_received(
    tmp_path: Path, version: str, said: str
) -> None:
    raw = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nVia: 1.1 inner\r\n\r\nok"
    async with Backend(always(raw)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        head, _ = await ask(gateway, "Via: 1.0 fred, 1.1 edge (a)\r\nVia: 2 wilma\r\n", version=version)
        own = gateway.via.name
    assert backend.heard[0].all("Via") == ["1.0 fred, 1.1 edge (a)", "2 wilma", f"{said} {own}"]
    lines = [line for line in head.split("\r\n") if line.startswith("Via: ")]
    assert lines == ["Via: 1.1 inner", f"Via: 1.0 {own}"]


async def test_via_of_answers_can_be_turned_off_and_the_name_be_given(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        more = {"via": "edge-1", "via_responses": False}
        async with harness.running(tmp_path, config(backend), **more) as gateway:
            head, _ = await ask(gateway, "")
    assert backend.heard[0].all("Via") == ["1.1 edge-1"]
    assert "via:" not in head.lower()


async def test_the_gateways_own_answers_have_no_via(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        head, _ = await ask(gateway, "", "/nowhere")
    assert "via:" not in head.lower()


async def test_installations_have_names_of_their_own_that_stay(tmp_path: Path) -> None:
    names = []
    async with Backend(always(answer())) as backend:
        for folder in ("one", "two", "one"):
            (tmp_path / folder).mkdir(exist_ok=True)
            async with harness.running(tmp_path / folder, config(backend)) as gateway:
                names.append(gateway.via.name)
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_gateway_that_is_its_own_backend_is_508_at_the_first_return(
    tmp_path: Path, kind: str
) -> None:
    """By a way that no check of its config sees: a forwarded port, a socket that leads to it."""
    piped: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(*harness.address(gateway))
        for source, sink in ((reader, forth), (back, writer)):
            piped.add(asyncio.create_task(copy(source, sink)))

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    if kind == "unix":
        relay = await asyncio.start_unix_server(pipe, tmp_path / "relay.sock")
        address = f"unix:{tmp_path / 'relay.sock'}"
    else:
        relay = await asyncio.start_server(pipe, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    backends = {"self": {"kind": "http", "addresses": [address]}}
    route = {"name": "round", "path": "/{rest*}", "target": "self", "public": True}
    async with harness.running(tmp_path, harness.routing([route], backends=backends)) as gateway:
        head, body = await ask(gateway, "")
        problem = json.loads(body)
        assert head.startswith("HTTP/1.1 508 ")
        assert "application/problem+json" in head
        assert (problem["code"], problem["status"]) == ("loop", 508)
    await asyncio.gather(*piped)
    relay.close()


@pytest.mark.parametrize(
    ("copies", "loops", "status"), [(True, 0, 508), (True, 1, 200), (False, 0, 200)],
    ids=["a proxy", "a proxy that may", "an application"],
)  # fmt: skip
async def test_who_calls_back_with_the_via_that_it_received_is_told_apart(
    tmp_path: Path, session: aiohttp.ClientSession, copies: bool, loops: int, status: int
) -> None:
    """A backend fetches from the gateway while it answers: as an application, or as one more proxy."""
    found: list[int] = []

    async def script(heard: Heard, reader: Any, writer: Any) -> None:
        if heard.line.startswith("GET /back"):
            writer.write(answer())
            return
        headers = {"Via": ", ".join([*heard.all("Via"), "1.1 app"])} if copies else {}
        async with session.get(harness.url(gateway, "/svc/back"), headers=headers) as response:
            found.append(response.status)
        writer.write(answer())

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend), via_loops=loops) as gateway:
            head, _ = await ask(gateway, "")
    assert head.startswith("HTTP/1.1 200 ")
    assert found == [status]


async def test_a_loop_is_refused_before_a_token_is_looked_at_on_every_route(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        via = {"Via": f"1.1 {api.gateway.via.name}"}
        status, _, body = await api("GET", "/orders/x", None, {**via, "Authorization": "Bearer x"})
        assert (status, body["code"]) == (508, "loop")


@pytest.mark.parametrize(
    ("trusted", "origin", "status"),
    [
        (True, "https://public.example", 101),
        (True, "https://public.example:8443", 403),
        (True, "https://api.example", 403),
        (False, "https://public.example", 403),
        (False, "http://api.example", 101),
    ],
)
async def test_a_page_of_the_public_host_opens_a_websocket(
    tmp_path: Path, trusted: bool, origin: str, status: int
) -> None:
    """A proxy that calls us by another name says which one the page has."""
    async with Backend(websocket(echo)) as backend:
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        routes = [harness.route("svc", "app", public=True, websocket=True)]
        routing = {**harness.routing(routes, backends=backends), **(TRUSTING if trusted else {})}
        async with harness.running(tmp_path, routing) as gateway:
            head, _ = await ask(
                gateway,
                f"Origin: {origin}\r\nX-Forwarded-Host: public.example, inner.example\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {KEY}\r\n",
            )
    assert head.startswith(f"HTTP/1.1 {status} ")
