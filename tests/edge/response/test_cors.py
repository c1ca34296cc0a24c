"""Pages of other origins see what their rule lets them see, errors included, and nothing else."""

from __future__ import annotations

import asyncio
import base64
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from gateway.core.process.listeners import Listen
from gateway.core.process.tls import TlsSettings
from tests import harness
from tests.fakes import Backend, RawClient, always, answer, then_close
from tests.support.certificates import Authority
from tests.support.chromium import CHROMIUM, browse
from tests.support.pages_of_others import (
    ASKS,
    NULL,
    PAGE,
    SCOPE,
    STRANGER,
    Ask,
    Standard,
    backend,
    check,
    config,
    each_once,
    filled,
    names,
    value,
)

ORIGIN = "https://app.example"
ORIGINS = {PAGE: ORIGIN, STRANGER: "https://evil.example", NULL: "null"}


async def test_by_the_fetch_standard_pages_see_what_their_rule_lets_them_see(tmp_path: Path) -> None:
    async with Backend(backend) as app, harness.running(tmp_path, config(ORIGIN, app.address)) as gateway:
        token = harness.token(gateway, scope=SCOPE)
        address = harness.address(gateway)
        pages = {who: Standard(address, origin) for who, origin in ORIGINS.items()}
        for ask in ASKS:
            check(ask, await asyncio.to_thread(pages[ask.who].fetch, filled(ask, token)))
        for page in pages.values():
            for what, _, pairs in page.answers:
                if "/plain/" not in what:  # there the backend speaks for itself
                    each_once(pairs)


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; the Fetch standard alone judges the same answers"
)
async def test_chromium_shows_pages_what_their_rule_lets_them_see(tmp_path: Path) -> None:
    pair = Authority(tmp_path / "tls").pair("server", "dns:localhost")
    key = load_pem_x509_certificate(Path(pair.certificate).read_bytes()).public_key()
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    trusts = f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"
    listens = {
        "listen": (Listen("127.0.0.1"), Listen("127.0.0.1", tls="site")),
        "tls": (TlsSettings("site", (pair,)),),
    }
    async with browse(tmp_path / "profile") as chromium, Backend(backend) as app:
        async with harness.running(tmp_path, config(chromium.origin, app.address), **listens) as gateway:
            token, port = harness.token(gateway, scope=SCOPE), gateway.listener.addresses[1][1]
            secure = Ask(PAGE, f"wss://localhost:{port}/ws/chat", 101, credentials="socket")
            asks = [*(filled(ask, token) for ask in ASKS), secure]
            seen = await chromium.fetch(harness.url(gateway, ""), asks, trusts)
            for ask, one in zip(asks, seen, strict=True):
                check(ask, one)


# --- preflights ---

RULE: dict[str, Any] = {
    "origins": [ORIGIN, "http://localhost:3000"],
    "headers": ["Authorization", "If-Match"],
    "expose": ["ETag"],
    "max_age": "1h",
}


def routing(app: str, **cors: Any) -> dict[str, Any]:
    rule = {**RULE, **cors}
    return harness.routing(
        [
            harness.route("svc", "app", cors=rule),
            {"name": "one", "path": "/svc/one", "target": "app", "methods": ["PUT"]},
            harness.route("reads", "app", cors=rule, methods=["GET", "PURGE"]),
            harness.route("plain", "app", public=True),
        ],
        backends={"app": {"kind": "http", "addresses": [app]}},
    )


async def asked(
    client: RawClient, path: str, method: str, headers: str = "", origin: str = ORIGIN, more: str = ""
) -> tuple[int, list[tuple[str, str]], bytes]:
    """The status, the header lines and the body of a preflight's answer."""
    lines = [f"OPTIONS {path} HTTP/1.1", "Host: gateway.example", f"Origin: {origin}"]
    lines += [f"Access-Control-Request-Method: {method}"] if method else []
    lines += [f"Access-Control-Request-Headers: {headers}"] if headers else []
    client.send(("\r\n".join(lines) + "\r\n" + more + "\r\n").encode())
    head, body = await client.answer()
    first, *rest = head.rstrip().split("\r\n")
    pairs = [(name, text.strip()) for name, _, text in (line.partition(":") for line in rest)]
    each_once(pairs)
    return int(first.split()[1]), pairs, body


async def test_a_preflight_says_all_that_its_route_takes_and_how_long_that_holds(tmp_path: Path) -> None:
    async with Backend(always(answer())) as app, harness.running(tmp_path, routing(app.address)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        status, pairs, body = await asked(client, "/svc/x", "PUT", "authorization, IF-MATCH")
        assert (status, body) == (204, b"")
        assert value(pairs, "access-control-allow-origin") == ORIGIN
        assert names(pairs, "access-control-allow-methods") == (
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY"]
        )
        assert names(pairs, "access-control-allow-headers") == ["Authorization", "If-Match"]
        assert value(pairs, "access-control-max-age") == "3600"
        assert value(pairs, "access-control-expose-headers") is None
        assert value(pairs, "content-length") is None
        assert names(pairs, "vary") == (
            ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]
        )
        assert not app.heard
        client.close()


async def test_a_method_that_another_route_takes_on_the_path_is_not_listed(tmp_path: Path) -> None:
    async with Backend(always(answer())) as app, harness.running(tmp_path, routing(app.address)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        _, pairs, _ = await asked(client, "/svc/one", "DELETE")
        assert "PUT" not in names(pairs, "access-control-allow-methods")
        assert (await asked(client, "/svc/one", "PUT"))[0] == 403  # that route has no cors
        _, pairs, _ = await asked(client, "/reads/x", "PURGE")
        assert names(pairs, "access-control-allow-methods") == ["GET", "HEAD", "PURGE"]
        client.close()


@pytest.mark.parametrize(
    ("path", "method", "headers", "origin", "status", "code"),
    [
        ("/svc/x", "PUT", "", "https://evil.example", 403, "forbidden"),
        ("/svc/x", "PUT", "", "null", 403, "forbidden"),
        ("/svc/x", "PUT", "", "HTTPS://APP.EXAMPLE", 403, "forbidden"),
        ("/svc/x", "PUT", "", f"{ORIGIN}/", 403, "forbidden"),
        ("/svc/x", "PUT", "", f"{ORIGIN}:443", 403, "forbidden"),
        ("/svc/x", "PUT", "", f"{ORIGIN}, {ORIGIN}", 403, "forbidden"),
        ("/svc/x", "PUT", "x-other", ORIGIN, 403, "forbidden"),
        ("/svc/x", "PUT", "authorization,x-other", ORIGIN, 403, "forbidden"),
        ("/svc/x", "PUT", "a b", ORIGIN, 400, "bad_request"),
        ("/svc/x", "put", "", ORIGIN, 400, "bad_request"),
        ("/svc/x", "P UT", "", ORIGIN, 400, "bad_request"),
        ("/svc/x", "GET, DELETE", "", ORIGIN, 400, "bad_request"),
        ("/svc/x", "TRACE", "", ORIGIN, 405, "method_not_allowed"),
        ("/svc/x", "CONNECT", "", ORIGIN, 501, "not_implemented"),
        ("/reads/x", "DELETE", "", ORIGIN, 405, "method_not_allowed"),
        ("/plain/x", "GET", "", ORIGIN, 403, "forbidden"),
        ("/none", "GET", "", ORIGIN, 404, "no_route"),
        ("*", "GET", "", ORIGIN, 400, "bad_request"),
        ("*", "OPTIONS", "", ORIGIN, 403, "forbidden"),
        ("/svc/%00", "GET", "", ORIGIN, 400, "bad_request"),
    ],
)
async def test_what_is_not_allowed_is_a_problem_and_reaches_no_backend(
    tmp_path: Path, path: str, method: str, headers: str, origin: str, status: int, code: str
) -> None:
    async with Backend(always(answer())) as app, harness.running(tmp_path, routing(app.address)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        got, pairs, body = await asked(client, path, method, headers, origin)
        assert (got, f'"code": "{code}"'.encode() in body) == (status, True), body
        assert value(pairs, "content-type") == "application/problem+json"
        assert value(pairs, "access-control-allow-methods") is None
        assert origin.encode() not in body
        assert not app.heard
        client.close()


async def test_a_star_for_headers_names_those_that_are_asked_for(tmp_path: Path) -> None:
    config = routing("http://127.0.0.1:9", headers=["*"], credentials=True)
    async with harness.running(tmp_path, config) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        _, pairs, _ = await asked(client, "/svc/x", "GET", "authorization,x-a ,  X-B,x-a")
        assert names(pairs, "access-control-allow-headers") == ["authorization", "x-a", "x-b"]
        assert value(pairs, "access-control-allow-credentials") == "true"
        _, pairs, _ = await asked(client, "/svc/x", "GET")
        assert value(pairs, "access-control-allow-headers") is None
        more = "Access-Control-Request-Headers: x-c\r\n"
        _, pairs, _ = await asked(client, "/svc/x", "GET", "x-a", more=more)
        assert names(pairs, "access-control-allow-headers") == ["x-a", "x-c"]
        for empty in (",", " , ,", "," * 4000, " "):
            status, pairs, _ = await asked(client, "/svc/x", "GET", empty)
            assert (status, value(pairs, "access-control-allow-headers")) == (204, None)
        _, pairs, _ = await asked(client, "/svc/x", "GET", f"x-a{',' * 4000}x-b")
        assert names(pairs, "access-control-allow-headers") == ["x-a", "x-b"]
        client.close()


async def test_a_rule_without_headers_lets_pages_send_a_token_and_json(tmp_path: Path) -> None:
    config = routing("http://127.0.0.1:9")
    config["routes"][0]["cors"] = {"origins": [ORIGIN]}
    async with harness.running(tmp_path, config) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        assert (await asked(client, "/svc/x", "PUT", "authorization,content-type"))[0] == 204
        assert (await asked(client, "/svc/x", "PUT", "x-other"))[0] == 403
        client.close()


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"junk\r\n\r\n", 502, "backend_malformed"),
        (b"", 502, "backend_reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 502, "backend_malformed"),
    ],
)
async def test_a_page_can_read_that_the_backend_is_broken(
    tmp_path: Path, raw: bytes, status: int, code: str
) -> None:
    async with Backend(then_close(raw)) as app, harness.running(tmp_path, routing(app.address)) as gateway:
        page, headers = Standard(harness.address(gateway), ORIGIN), harness.bearer(gateway)
        seen = await asyncio.to_thread(page.fetch, Ask(PAGE, "/svc/x", status, headers=headers))
        assert (seen.status, f'"code": "{code}"' in seen.text) == (status, True)


async def test_a_page_can_read_that_its_address_asks_too_often(tmp_path: Path) -> None:
    config = routing("http://127.0.0.1:9")
    config["client_limit"] = {"rate": "1/m", "burst": 1}
    async with harness.running(tmp_path, config) as gateway:
        page = Standard(harness.address(gateway), ORIGIN)
        seen = [await asyncio.to_thread(page.fetch, Ask(PAGE, "/svc/x", 401)) for _ in range(2)]
        assert [one.status for one in seen] == [401, 429]
        assert '"code": "client_limit"' in seen[-1].text


async def test_two_methods_in_one_preflight_are_refused(tmp_path: Path) -> None:
    async with harness.running(tmp_path, routing("http://127.0.0.1:9")) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        more = "Access-Control-Request-Method: GET\r\n"
        assert (await asked(client, "/svc/x", "PUT", more=more))[0] == 400
        client.close()


async def test_options_that_is_no_preflight_is_a_request_like_any_other(tmp_path: Path) -> None:
    async with Backend(always(answer())) as app, harness.running(tmp_path, routing(app.address)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        assert (await asked(client, "/svc/x", ""))[0] == 401
        status, pairs, body = await asked(client, "/plain/x", "")
        assert (status, body) == (200, b"ok")
        bearer = f"Authorization: {harness.bearer(gateway)['Authorization']}\r\n"
        status, pairs, body = await asked(client, "/svc/x", "", more=bearer)
        assert (status, body, value(pairs, "access-control-allow-origin")) == (200, b"ok", ORIGIN)
        assert [heard.line.split()[0] for heard in app.heard] == ["OPTIONS", "OPTIONS"]
        client.close()


# --- answers of backends ---


@pytest.mark.parametrize(
    ("theirs", "vary"),
    [
        ("", "Origin"),
        ("Vary: Accept-Encoding\r\n", "Origin, Accept-Encoding"),
        ("Vary: Accept\r\nvary:  Cookie,origin , accept\r\n", "Origin, Accept, Cookie"),
        ("Vary: *\r\n", "*"),
        ("Vary: Accept, *\r\n", "*"),
        ("VARY: \r\n", "Origin"),
        ("Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Origin: https://evil.example\r\n", "Origin"),
    ],
)
async def test_a_backends_vary_is_merged_and_its_word_on_origins_replaced(
    tmp_path: Path, theirs: str, vary: str
) -> None:
    async with Backend(always(answer(headers=theirs))) as app:
        async with harness.running(tmp_path, routing(app.address)) as gateway:
            for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None), (None, None)):
                page = Standard(harness.address(gateway), origin or "")
                headers = harness.bearer(gateway)
                _, pairs, _ = await asyncio.to_thread(page._send, "GET", "/svc/x", headers)
                each_once(pairs)
                assert value(pairs, "vary") == vary
                assert value(pairs, "access-control-allow-origin") == allowed


# --- errors from before the route is known ---

LONG = "x" * 17000
EARLY = [
    ("GET /svc/x", "Via: 1.1 here", 508),
    ("GET /svc/one", "Via: 1.1 here", 508),  # the rule of /svc/{rest*}: PUT alone is another route's
    ("GET /svc/%00", "", 400),
    ("GET /svc/a/../b", "", 400),
    ("GET /svc//b", "", 400),
    ("GET /svc/a%2F..%2Fb", "", 400),
    ("GET /svc/%zz?a=b", "", 400),
    ("GET /svc/a%2Fb", "", 400),
    ("GET /svc/x?a=b#c", "", 400),
    ("GET /param/%ff", "", 400),
    ("GET http://gateway.example/svc/%00", "", 400),
    ("GET http://other.example/svc/x", "", 400),
    ("DELETE /reads/%00", "", 400),
    ("GET /svc/" + "a/" * 100 + "%00", "", 400),
    ("POST /svc/x", "Content-Type: a/b\r\nContent-Type: c/d", 400),
    ("POST /svc/x", "Content-Length: 1\r\nContent-Length: 2", 400),
    ("POST /svc/x", "Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
    ("POST /svc/x", "Transfer-Encoding: gzip", 400),
    ("GET /svc/x", "a_b: 1", 400),
    ("GET /svc/x", "a b: 1", 400),
    ("GET /svc/x", "Host: two", 400),
    ("GET /svc/x", f"X-Long: {LONG}", 431),
    ("GET /svc/x", "\r\n".join(["X-Many: 1"] * 130), 431),
    (f"GET /svc/x?{LONG}", "", 414),
    (f"GET /svc/{LONG}", "", 414),
    ("POST /svc/x", "Transfer-Encoding: chunked\r\n\r\nzz", 400),
]


@pytest.mark.parametrize("first", [True, False])
async def test_what_is_refused_before_its_route_is_known_can_be_read_by_its_page(
    tmp_path: Path, first: bool
) -> None:
    config = routing("http://127.0.0.1:9")
    config["routes"].append({"name": "p", "path": "/param/{id}", "target": "app", "cors": RULE})
    async with harness.running(tmp_path, config, via="here") as gateway:
        for line, more, status in EARLY:
            for origin, path in ((ORIGIN, ""), ("https://evil.example", ""), (ORIGIN, "/plain")):
                if path and "/svc" not in line:
                    continue
                asked = line.replace("/svc", path) if path else line
                said = f"oRigin: \t{origin} \r\n"
                head = f"{asked} HTTP/1.1\r\nHost: gateway.example\r\n"
                more_lines = f"{more}\r\n" if more else ""
                head += said + more_lines if first or "\r\n\r\n" in more else more_lines + said
                client = await RawClient.connect(harness.address(gateway))
                client.send(f"{head}\r\n".encode())
                answered, _ = await client.answer()
                client.close()
                pairs = [
                    (name, text.strip())
                    for name, _, text in (line.partition(":") for line in answered.rstrip().split("\r\n")[1:])
                ]
                each_once(pairs)
                assert int(answered.split()[1]) == status, (asked[:40], more[:40])
                allowed = ORIGIN if origin == ORIGIN and not path else None
                assert value(pairs, "access-control-allow-origin") == allowed, (asked[:40], more[:40])
                if allowed:
                    assert value(pairs, "access-control-expose-headers") == "ETag"
                    assert "Origin" in names(pairs, "vary")


async def test_two_origins_are_nobodys_page_before_the_route_is_known_too(tmp_path: Path) -> None:
    async with harness.running(tmp_path, routing("http://127.0.0.1:9")) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        origins = f"Origin: {ORIGIN}\r\n" * 2
        client.send(f"GET /svc/x HTTP/1.1\r\nHost: a\r\na_b: 1\r\n{origins}\r\n".encode())
        head, _ = await client.answer()
        assert head.startswith("HTTP/1.1 400 ") and "Access-Control" not in head
        client.close()
