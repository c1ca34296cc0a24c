"""Limits over real sockets: who is refused, before what, and how answers tell how the limits stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.app import Gateway
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend, always, answer

pytestmark = pytest.mark.asyncio
NOON = 1_800_000_000 // 86400 * 86400 + 43200
OWN_WORD = "RateLimit: mine;r=1\r\nX-RateLimit-Limit: 7\r\nX-Other: 1\r\n"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend(always(answer(headers=OWN_WORD))) as made:
        yield made


def config(backend: Backend, *, tenant: Any = None, **more: Any) -> dict[str, Any]:
    """A route /svc, a public one /open and the documents."""
    backends = {"app": {"kind": "http", "addresses": [backend.address]}}
    routes = [
        harness.route("svc", "app"),
        harness.route("open", "app", public=True),
        harness.route("docs", "documents"),
    ]
    tenants = {"acme": tenant or {}, "globex": {}}
    return {"version": 1, "backends": backends, "tenants": tenants, "routes": routes, **more}


class Clock:
    """Time goes on where a test says so: no second, no minute, no midnight passes between two calls."""

    now = 1000.7

    def __call__(self) -> float:
        return self.now


def running(
    folder: Path, routing: dict[str, Any], now: Callable[[], float] | None = None
) -> AbstractAsyncContextManager[Gateway]:
    return harness.running(folder, routing, now=now or Clock(), wall=lambda: NOON)


async def get(
    gateway: Gateway, session: aiohttp.ClientSession, path: str = "/svc/", **headers: str
) -> tuple[int, str, aiohttp.ClientResponse]:
    given = {**headers} if "Authorization" in headers else {**harness.bearer(gateway), **headers}
    async with session.get(harness.url(gateway, path), headers=given) as response:
        is_problem = response.content_type == "application/problem+json"
        return response.status, (await response.json())["code"] if is_problem else "", response


def verified(gateway: Gateway) -> int:
    """How many tokens were verified or refused: each cost a signature."""
    lines = gateway.metrics.render().splitlines()
    found = [line for line in lines if line.startswith("gateway_tokens_verified_total")]
    return sum(int(line.split()[-1]) for line in found if '"cached"' not in line)


async def test_made_up_tokens_are_refused_before_they_are_verified_and_known_ones_do_not_pay(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    routing = config(backend, client_limit={"rate": "1/m", "burst": 3})
    async with running(tmp_path, routing) as gateway:
        good = harness.bearer(gateway)["Authorization"]
        assert (await get(gateway, session, Authorization=good))[0] == 200
        for _ in range(2):
            assert (await get(gateway, session, Authorization=f"{good[:-8]}AAAAAAAA"))[:2] == (
                401,
                "unauthenticated",
            )
        before = verified(gateway)
        for number in range(20):
            status, code, response = await get(
                gateway, session, Authorization=f"{good[:-8]}AAAAAA{number:02}"
            )
            assert (status, code) == (429, "client_limit")
            assert int(response.headers["Retry-After"]) >= 1
        assert (await get(gateway, session, Authorization="Basic YTpi"))[:2] == (429, "client_limit")
        assert (await get(gateway, session, "/open/"))[:2] == (429, "client_limit")
        assert verified(gateway) == before
        for _ in range(20):
            assert (await get(gateway, session, Authorization=good))[0] == 200


async def test_a_forged_address_does_not_move_the_limit(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    limit = {"rate": "1/m", "burst": 2}
    for trusted, expected in (([], [200, 200, 429, 429]), (["127.0.0.0/8"], [200, 200, 200, 200])):
        routing = config(backend, client_limit=limit, trusted_proxies=trusted)
        async with running(tmp_path, routing) as gateway:
            found = [
                (await get(gateway, session, "/open/", **{"X-Forwarded-For": f"203.0.113.{number}"}))[0]
                for number in range(4)
            ]
            assert found == expected
            # Behind a trusted proxy, what stands left of its own entry is the client's word.
            found = [
                (await get(gateway, session, "/open/", **{"X-Forwarded-For": f"9.9.9.{n}, 192.0.2.7"}))[0]
                for n in range(4)
            ]
            assert found == ([200, 200, 429, 429] if trusted else [429] * 4)


async def test_a_public_route_may_have_a_limit_for_each_address(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    routing = config(backend)
    routing["routes"][1]["rate_limit"] = {"rate": "1/m", "burst": 1}
    async with running(tmp_path, routing) as gateway:
        assert [(await get(gateway, session, "/open/"))[:2] for _ in range(2)] == [
            (200, ""),
            (429, "client_limit"),
        ]
        assert (await get(gateway, session))[0] == 200


async def test_a_routes_limit_refuses_there_and_nowhere_else(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    routing = config(backend)
    routing["routes"][0]["rate_limit"] = {"rate": "1/m", "burst": 1}
    async with running(tmp_path, routing) as gateway:
        assert [(await get(gateway, session))[:2] for _ in range(2)] == [(200, ""), (429, "tenant_limit")]
        assert (await get(gateway, session, "/docs/orders/"))[0] == 200
        other = harness.bearer(gateway, "globex")["Authorization"]
        assert (await get(gateway, session, Authorization=other))[0] == 200


def limit_fields(response: aiohttp.ClientResponse) -> dict[str, list[str]]:
    names = {name for name in response.headers if "ratelimit" in name.lower()}
    return {name: response.headers.getall(name) for name in names}


@pytest.mark.parametrize("path", ["/svc/", "/docs/orders/"])
async def test_answers_tell_how_the_limits_stand_in_the_form_that_the_config_names(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend, path: str
) -> None:
    tenant = {"rate_limit": {"rate": "1/m", "burst": 2}}
    forms: dict[str, list[dict[str, list[str]]]] = {
        "draft": [
            {"RateLimit-Policy": ['"tenant";q=2;w=120'], "RateLimit": ['"tenant";r=1;t=60']},
            {"RateLimit-Policy": ['"tenant";q=2;w=120'], "RateLimit": ['"tenant";r=0;t=120']},
        ],
        "legacy": [
            {"X-RateLimit-Limit": ["2"], "X-RateLimit-Remaining": ["1"], "X-RateLimit-Reset": ["60"]},
            {"X-RateLimit-Limit": ["2"], "X-RateLimit-Remaining": ["0"], "X-RateLimit-Reset": ["120"]},
        ],
    }
    for form, expected in forms.items():
        routing = config(backend, tenant=tenant, rate_limit_headers=form)
        async with running(tmp_path, routing) as gateway:
            for fields in expected:
                status, _, response = await get(gateway, session, path)
                assert (status, limit_fields(response)) == (200, fields)
                assert path != "/svc/" or response.headers["X-Other"] == "1"
            status, _, response = await get(gateway, session, path)
            wait = response.headers["Retry-After"]
            assert status == 429
            if form == "draft":
                assert response.headers["RateLimit"] == f'"tenant";r=0;t={wait}'
            else:
                assert response.headers["X-RateLimit-Remaining"] == "0"
                assert response.headers["X-RateLimit-Reset"] == wait


async def test_a_reset_counts_down_by_the_clock_in_whole_seconds_rounded_up(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    clock = Clock()
    routing = config(backend, tenant={"rate_limit": {"rate": "1/m", "burst": 2}}, rate_limit_headers="legacy")
    async with running(tmp_path, routing, clock) as gateway:
        told = []
        for seconds in (0.0, 0.5, 0.0, 59.5, 60.0):
            clock.now += seconds
            status, _, response = await get(gateway, session)
            told.append((status, response.headers["X-RateLimit-Reset"]))
    assert told[:2] == [(200, "60"), (200, "120")]
    assert told[2][0] == 429
    assert told[3:] == [(200, "120"), (200, "120")]


async def test_without_the_setting_there_are_no_fields_and_a_backends_own_pass(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    tenant = {"rate_limit": {"rate": "1/m", "burst": 2}}
    async with running(tmp_path, config(backend, tenant=tenant)) as gateway:
        _, _, response = await get(gateway, session)
        assert limit_fields(response) == {"RateLimit": ["mine;r=1"], "X-RateLimit-Limit": ["7"]}
        _, _, response = await get(gateway, session, "/docs/orders/")
        assert limit_fields(response) == {}


async def test_a_reload_resets_no_limit(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    tenant = {"rate_limit": {"rate": "1/m", "burst": 2}, "quota": "100/day"}
    limit = {"rate": "1/m", "burst": 3}
    routing = config(backend, tenant=tenant, client_limit=limit, rate_limit_headers="draft")
    routing["routes"][0]["rate_limit"] = {"rate": "1/m", "burst": 5}
    async with running(tmp_path, routing) as gateway:
        known = harness.bearer(gateway)["Authorization"]
        _, _, first = await get(gateway, session, Authorization=known)
        await get(gateway, session, "/open/")
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump({**routing, "trusted_proxies": ["10.0.0.0/8"]}))
        await gateway.live.reload()
        assert gateway.live.current.revision == 2
        _, _, second = await get(gateway, session, Authorization=known)
        for response, left in ((first, (1, 4, 99)), (second, (0, 3, 98))):
            counts = tuple(
                int(item.partition(";r=")[2].partition(";")[0])
                for item in response.headers["RateLimit"].split(", ")
            )
            assert counts == left
        assert [(await get(gateway, session, "/open/"))[0] for _ in range(2)] == [200, 429]


async def test_a_quota_survives_a_restart(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    routing = config(backend, tenant={"quota": "3/day"})
    found: list[tuple[int, str]] = []
    for _ in range(2):
        async with running(tmp_path, routing) as gateway:
            found.extend([(await get(gateway, session))[:2] for _ in range(2)])
    assert found == [(200, ""), (200, ""), (200, ""), (429, "tenant_limit")]


async def test_quotas_are_written_about_once_a_second_while_it_runs(
    tmp_path: Path, session: aiohttp.ClientSession, backend: Backend
) -> None:
    async with running(tmp_path, config(backend, tenant={"quota": "3/day"})) as gateway:
        assert not (tmp_path / "var" / "quotas.sqlite").exists()
        assert (await get(gateway, session))[0] == 200
        await eventually(lambda: gateway.quotas._stored)
        assert gateway.quotas._stored == {"acme": 1}
        assert gateway.quotas.used("acme") == 1
