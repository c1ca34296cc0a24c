"""What is at `/`: a page for a browser, JSON for a program, nothing where it is off or a route is there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests import harness
from tests.fakes import Backend, RawClient, always, answer

ROOT = Path(__file__).parents[3]
HTML = {"Accept": "text/html,*/*;q=0.8"}


async def asked(gateway: Any, method: str = "GET", path: str = "/", **headers: str) -> tuple[int, Any, str]:
    async with aiohttp.ClientSession(skip_auto_headers=["Accept"]) as session:
        async with session.request(method, harness.url(gateway, path), headers=headers) as response:
            return response.status, response.headers, await response.text()


async def test_a_browser_gets_a_page_and_a_program_json(tmp_path: Path) -> None:
    routes = [harness.route("orders", "documents"), harness.route("bills", "documents")]
    page = {"title": "Shop", "token": "Ask Ann.", "links": {"Help": "https://help.example/"}}
    async with harness.running(tmp_path, harness.routing(routes, front_page=page)) as gateway:
        status, headers, text = await asked(gateway, **HTML)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "<h1>Shop</h1>" in text and "Ask Ann." in text and "https://help.example/" in text
        assert "orders" not in text
        for accept in ("*/*", "application/json", ""):
            status, headers, text = await asked(gateway, **({"Accept": accept} if accept else {}))
            assert (status, headers["Content-Type"]) == (200, "application/json")
            assert json.loads(text) == page
        assert headers["Vary"] == "Accept"
        for path in ("/?a=b", "//"):
            status, _, text = await asked(gateway, path=path)
            assert status == (200 if path == "/?a=b" else status)
        status, headers, text = await asked(gateway, "HEAD", **HTML)
        assert (status, text) == (200, "") and int(headers["Content-Length"]) > 1000
        for method in ("POST", "PUT", "DELETE", "PROPFIND"):
            status, headers, text = await asked(gateway, method)
            assert (status, json.loads(text)["code"]) == (405, "method_not_allowed")
            assert headers["Allow"] == "GET, HEAD, OPTIONS"
        status, headers, text = await asked(gateway, "OPTIONS")
        assert (status, headers["Allow"], text) == (204, "GET, HEAD, OPTIONS", "")
        assert (await asked(gateway, "POST", "/nothing"))[0] == 404


async def test_its_style_is_all_that_a_browser_may_use_of_it(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.routing([])) as gateway:
        _, headers, text = await asked(gateway, **HTML)
        (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = headers["Content-Security-Policy"]
        assert f"style-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"<script|\son\w+=|style=", text)


async def test_routes_are_told_only_where_the_config_says_so(tmp_path: Path) -> None:
    routes = [harness.route("orders", "documents", methods=["GET", "POST"])]
    config = harness.routing(routes, front_page={"routes": True})
    async with harness.running(tmp_path, config) as gateway:
        _, _, text = await asked(gateway)
        assert json.loads(text)["routes"] == [
            {"name": "orders", "path": "/orders/{rest*}", "methods": ["GET", "POST"], "token": True}
        ]
        _, _, text = await asked(gateway, **HTML)
        assert "/orders/{rest*}" in text
        routing = Path(gateway.config.routing)
        routing.write_text(yaml.safe_dump(harness.routing(routes, front_page=False)))
        assert await gateway.live.reload()
        assert (await asked(gateway))[0] == (await asked(gateway, "POST"))[0] == 404


@pytest.mark.parametrize("path", ["/", "/{rest*}", "/{name}"])
@pytest.mark.parametrize("methods", [[], ["GET"], ["POST"]])
async def test_a_route_that_takes_the_path_is_never_hidden(
    tmp_path: Path, path: str, methods: list[str]
) -> None:
    async with Backend(always(answer(b"theirs"))) as app:
        route = {"name": "all", "path": path, "target": "app", "public": True}
        route |= {"methods": methods} if methods else {}
        backends = {"app": {"kind": "http", "addresses": [app.address]}}
        async with harness.running(tmp_path, harness.routing([route], backends=backends)) as gateway:
            status, _, text = await asked(gateway, **HTML)
            if path == "/{name}":  # a parameter is never empty
                assert (status, "API gateway" in text) == (200, True)
            elif methods == ["POST"]:
                assert status == 405
            else:
                assert (status, text) == (200, "theirs")


async def test_it_counts_as_a_public_call_and_is_logged(tmp_path: Path) -> None:
    config = harness.routing([], client_limit={"rate": "1/m", "burst": 1})
    async with harness.running(tmp_path, config) as gateway:
        assert [(await asked(gateway))[0] for _ in range(2)] == [200, 429]
        log = Path(gateway.config.access_log)
    assert '"route":"front-page"' in log.read_text().splitlines()[0]


async def test_many_on_one_connection_keep_it_open(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.routing([])) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        for accept in ("text/html", "*/*", "text/html"):
            client.send(f"GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n".encode())
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 200 ")
            assert body.startswith(b"<!doctype" if "html" in accept else b"{")
        client.close()


async def test_the_demo_tells_its_routes_and_how_to_get_a_token(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "config" / "routing.yaml").read_text())
    async with harness.running(tmp_path, config) as gateway:
        _, _, text = await asked(gateway)
        told = json.loads(text)
        assert [route["name"] for route in told["routes"]] == [route["name"] for route in config["routes"]]
        assert "var/demo-token.header" in told["token"]


@pytest.mark.parametrize(
    ("trusted", "given", "prefix"),
    [
        (["127.0.0.0/8"], "/api", "/api"),
        (["127.0.0.0/8"], "/a, /b/", "/a/b"),
        (["127.0.0.0/8"], "//evil.example", ""),
        (["127.0.0.0/8"], '/"><script>', ""),
        (["127.0.0.0/8"], "/x" * 300, ""),
        (["10.0.0.0/8"], "/api", ""),
    ],
)
async def test_its_addresses_begin_with_the_prefix_of_a_trusted_proxy(
    tmp_path: Path, trusted: list[str], given: str, prefix: str
) -> None:
    page = {"links": {"Price API": "/pricing/openapi.json"}, "routes": True}
    routes = [harness.route("orders", "documents")]
    config = harness.routing(routes, front_page=page, trusted_proxies=trusted)
    async with harness.running(tmp_path, config) as gateway:
        for _ in range(2):  # what one was told, the next one is not
            _, _, text = await asked(gateway, **HTML, **{"X-Forwarded-Prefix": given})
            assert f'href="{prefix}/pricing/openapi.json"' in text
            _, _, text = await asked(gateway, **{"X-Forwarded-Prefix": given})
            assert json.loads(text)["links"] == {"Price API": f"{prefix}/pricing/openapi.json"}
            assert json.loads(text)["routes"][0]["path"] == f"{prefix}/orders/{{rest*}}"
            _, _, text = await asked(gateway)
            assert json.loads(text)["links"] == page["links"]
