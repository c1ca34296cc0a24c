"""The demo has something to look at: sent where nothing is, and never in place of what is there."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.app import Gateway
from gateway.cli import banner, demo
from tests import harness
from tests.fakes import Backend, Heard, always, answer
from tests.process.test_serve import UP, Serving
from tests.support import identity

ROOT = Path(__file__).parents[2]
ROUTES = [
    harness.route(
        "docs", "documents", scopes={"read": ["d:read"], "write": ["d:write"], "manage": ["d:manage"]}
    ),
    harness.route("svc", "app"),
]
SEED = {"/docs/orders/": [{"n": 1}, {"n": 2}], "/svc/things": [{"x": "é"}], "/docs/other/": [{"n": 3}]}


def routing(app: Backend) -> dict[str, Any]:
    return harness.routing(ROUTES, backends={"app": {"kind": "http", "addresses": [app.address]}})


async def sown(gateway: Gateway, seed: Any = SEED) -> list[str]:
    header = demo.header_file(gateway.config, "acme", gateway.live.current.table.routes)
    return await demo.post_seed(seed, harness.url(gateway, ""), header)


async def items(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    headers = harness.bearer(gateway, scope="d:read d:write")
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(harness.url(gateway, path)) as response:
            found: list[dict[str, Any]] = (await response.json())["items"]
            return found


def posts(app: Backend) -> list[Heard]:
    return [heard for heard in app.heard if heard.line.startswith("POST ")]


async def test_each_path_gets_its_entries_once_and_only_where_nothing_is(tmp_path: Path) -> None:
    async with Backend(always(answer(b'{"items": []}'))) as app:
        async with harness.running(tmp_path, routing(app)) as gateway:
            assert await sown(gateway) == []
            assert sorted(item["n"] for item in await items(gateway, "/docs/orders/")) == [1, 2]
            (heard,) = posts(app)
            assert (heard.line.split()[1], json.loads(heard.body)) == ("/things", {"x": "é"})
            told = identity.claims(gateway, heard.one("X-Gateway-Identity"), "app")
            assert (told["tenant"], told["sub"]) == ("acme", "demo")
            before = await items(gateway, "/docs/orders/")
            assert await sown(gateway) == []
            assert await items(gateway, "/docs/orders/") == before


async def test_what_is_there_stays_alone(tmp_path: Path) -> None:
    async with Backend(always(answer(b'{"items": [{"mine": 1}], "next": null}'))) as app:
        async with harness.running(tmp_path, routing(app)) as gateway:
            assert await sown(gateway, {"/docs/orders/": [{"n": 9}]}) == []
            assert await sown(gateway) == []
            assert [item["n"] for item in await items(gateway, "/docs/orders/")] == [9]
            assert posts(app) == []


async def test_what_does_not_work_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with Backend(always(answer(b"no", "500 Internal Server Error"))) as app:
        async with harness.running(tmp_path, routing(app)) as gateway:
            assert await sown(gateway) == ["GET /svc/things was answered 500"]
            assert [item["n"] for item in await items(gateway, "/docs/other/")] == [3]


@pytest.mark.parametrize(
    ("raw", "empty"),
    [
        (b"[]", True), (b'{"items": []}', True), (b'{"items": [], "next": null, "n": 3}', True),
        (b"[1]", False), (b'{"items": [{}]}', False), (b'{"a": [], "b": [1]}', False),
        (b"{}", False), (b"<html>", False), (b"", False), (b"3", False), (b"\xff", False),
    ],
)  # fmt: skip
def test_a_path_is_empty_when_the_list_in_its_answer_is(raw: bytes, empty: bool) -> None:
    assert demo.is_empty(raw) is empty


def test_the_shipped_seed_is_one() -> None:
    assert set(demo.read_seed(ROOT / "config" / "demo.yaml")) == {
        "/documents/orders/", "/catalog/products", "/pricing/prices", "/reports/reports", "/events/events",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["- 1", "/a: 1", "a: []", "/a: [", "1: []"])
def test_a_seed_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"demo\.yaml"):
        demo.read_seed(tmp_path / "demo.yaml")


async def test_a_gateway_without_a_seed_is_left_as_it_is(tmp_path: Path) -> None:
    async with Backend(always(answer(b'{"items": []}'))) as app:
        async with harness.running(tmp_path, routing(app)) as gateway:
            await banner.prepare(gateway)
            assert not (Path(gateway.config.data) / "demo-token.header").exists()
            assert app.heard == []


async def test_a_seed_is_sown_for_the_first_tenant_that_may_call(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(json.dumps(SEED))
    async with Backend(always(answer(b'{"items": []}'))) as app:
        config = {**routing(app), "tenants": {"initech": {"disabled": True}, "acme": {}}}
        async with harness.running(tmp_path, config, seed=str(tmp_path / "demo.yaml")) as gateway:
            await banner.prepare(gateway)
            assert len(await items(gateway, "/docs/orders/")) == 2


async def test_a_seed_that_cannot_be_read_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Backend(always(answer())) as app:
        async with harness.running(tmp_path, routing(app), seed=str(tmp_path / "gone.yaml")) as gateway:
            await banner.prepare(gateway)
            assert "gone.yaml" in caplog.text


@pytest.mark.whole
def test_a_sigterm_while_it_is_sown_ends_the_gateway(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        hangs.settimeout(30)
        app = {"kind": "http", "addresses": [f"http://127.0.0.1:{hangs.getsockname()[1]}"]}
        serving = Serving(tmp_path, yaml.safe_dump(harness.routing([ROUTES[1]], backends={"app": app})))
        (tmp_path / "demo.yaml").write_text(json.dumps({"/svc/things": [{}]}))
        serving.conf.write_text(serving.conf.read_text() + "[demo]\nseed = demo.yaml\n")
        with serving.started(*UP) as process:
            taken, _ = hangs.accept()
            with taken:
                assert serving.get("/readyz") == 0, "nobody is told that it is ready"
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0, serving.log.read_text()
        assert "Traceback" not in serving.log.read_text()
