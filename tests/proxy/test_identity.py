"""How a backend is told who calls: signed, in headers that prove nothing, or both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend, Heard, RawClient, always, answer
from tests.support import identity

ALICE = {"tenant": "acme", "sub": "alice", "scope": "a b"}
PLAIN = ("X-Tenant", "X-Subject", "X-Scopes")


def config(backend: Backend, form: str | None = None, **more: Any) -> dict[str, Any]:
    settings = {"kind": "http", "addresses": [backend.address], **({"identity": form} if form else {})}
    routes = [harness.route("svc", "app", **more), harness.route("open", "app", public=True)]
    return harness.routing(routes, backends={"app": settings})


async def get(gateway: Gateway, *paths: str, anonymous: bool = False) -> None:
    """Requests on one connection, each with the same lines."""
    client = await RawClient.connect(harness.address(gateway))
    headers = {} if anonymous else harness.bearer(gateway, scope="a b")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    for path in paths:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Gateway-Identity: forged\r\n{lines}\r\n".encode())
        head, _ = await client.answer()
        assert head.startswith("HTTP/1.1 200 ")
    client.close()


def told(gateway: Gateway, heard: Heard) -> dict[str, Any]:
    return identity.claims(gateway, heard.one("X-Gateway-Identity"), "app")


@pytest.mark.parametrize("form", [None, "signed", "headers", "both"])
async def test_a_backend_is_told_in_the_form_that_it_asks_for_and_signed_by_default(
    tmp_path: Path, form: str | None
) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend, form)) as gateway:
            await get(gateway, "/svc/a")
            (heard,) = backend.heard
            if form == "headers":
                assert heard.one("X-Gateway-Identity") is None
            else:
                assert told(gateway, heard) == ALICE
            plain = [heard.one(name) for name in PLAIN]
            assert plain == (["acme", "alice", "a b"] if form in ("headers", "both") else [None] * 3)


async def test_on_a_public_route_it_is_told_that_nobody_calls(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            await get(gateway, "/open/a", anonymous=True)
            await get(gateway, "/open/a")  # with a token that nobody asked for
            assert [told(gateway, heard) for heard in backend.heard] == [{}, {}]


async def test_what_is_signed_is_kept_for_half_a_minute_and_renewed_on_the_same_connection(
    tmp_path: Path,
) -> None:
    class Clock:
        ahead = 0.0

        def __call__(self) -> float:
            return time.time() + self.ahead

    clock = Clock()
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend), wall=clock) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            line = f"Authorization: {harness.bearer(gateway)['Authorization']}"
            for ahead in (0, 0, 31, 31):
                clock.ahead = ahead
                client.send(f"GET /svc/a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode())
                await client.answer()
            client.close()
            first, second, third, fourth = (heard.one("X-Gateway-Identity") for heard in backend.heard)
            assert first == second != third == fourth


async def test_on_a_route_that_binds_it_each_request_has_its_own(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend, bind="request")) as gateway:
            await get(gateway, "/svc/a?b=%20", "/svc/c")
            assert [told(gateway, heard) for heard in backend.heard] == [
                {**ALICE, "htm": "GET", "target": "/a?b=%20"},
                {**ALICE, "htm": "GET", "target": "/c"},
            ]


async def test_one_for_a_backend_is_none_for_another_and_no_token_for_the_gateway(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            await get(gateway, "/svc/a")
            signed = backend.heard[0].one("X-Gateway-Identity")
            with pytest.raises(jwt.InvalidAudienceError):
                identity.claims(gateway, signed, "other")
            client = await RawClient.connect(harness.address(gateway))
            line = f"Authorization: Bearer {signed}"
            client.send(f"GET /svc/a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode())
            assert (await client.head()).startswith("HTTP/1.1 401 ")
            client.close()


async def test_a_probe_says_nothing_of_a_caller(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        probed = config(backend)
        probed["backends"]["app"]["health"] = {"path": "/healthz", "interval": "1s", "timeout": "1s"}
        async with harness.running(tmp_path, probed):
            await eventually(lambda: bool(backend.heard))
            assert backend.heard[0].one("X-Gateway-Identity") is None
