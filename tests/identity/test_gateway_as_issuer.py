"""One gateway takes the tokens of another: it finds the keys by RFC 8414, and a rotation there refuses
nobody."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from gateway.app import Gateway
from gateway.auth.api_keys import new_key
from gateway.core.process.listeners import Listen
from tests import harness
from tests.eventually import eventually_await
from tests.fakes import Backend, RawClient, always, answer
from tests.support.ports import free_port


async def token(gateway: Gateway, key: str) -> str:
    """By client credentials, for an API key."""

    def ask() -> Any:
        url, asked = harness.url(gateway, "/oauth/token"), {"grant_type": "client_credentials"}
        return requests.post(url, asked, auth=(key.split("_")[1], key), timeout=30).json()

    return str((await asyncio.to_thread(ask))["access_token"])


async def status(gateway: Gateway, token: str) -> int:
    client = await RawClient.connect(harness.address(gateway))
    client.send(f"GET /svc/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    head, _ = await client.answer()
    client.close()
    return int(head.split(" ")[1])


@pytest.mark.asyncio
async def test_tokens_that_a_gateway_gives_for_api_keys_pass_another_one_before_and_after_a_rotation(
    tmp_path: Path,
) -> None:
    port, folders = free_port(), [tmp_path / name for name in ("inner", "outer")]
    for folder in folders:
        folder.mkdir()
    url = f"http://127.0.0.1:{port}"
    async with Backend(always(answer())) as backend:
        inner = harness.routing([])
        tokens = replace(harness.process_config(folders[0]).tokens, issuer=url)
        own = {"listen": (Listen("127.0.0.1", port),), "tokens": tokens}
        trusted = {"issuer": url, "audiences": ["gateway"], "discovery": True, "tenants": ["acme"]}
        outer = harness.routing(
            [harness.route("svc", "app", issuers=["inner"])],
            backends={"app": {"kind": "http", "addresses": [backend.address], "identity": "headers"}},
            issuers={"inner": trusted},
        )
        async with harness.running(folders[0], inner, **own) as first:
            key, text = new_key("acme", "etl", "orders:read", "", 600.0, "a test", time.time())
            await first.stored.change(first.stored.store.create_key, key)
            async with harness.running(folders[1], outer) as second:
                before = await token(first, text)
                assert await status(second, before) == 200
                assert backend.heard[-1].one("X-Subject") == "etl"
                assert await status(second, harness.token(second)) == 401, "the route takes only the other's"
                done = await asyncio.to_thread(first.oauth.keys.rotate, time.time(), 0.0, 600.0)
                kid = done.kid

                async def signed_by_the_new_one() -> str:
                    made = await token(first, text)
                    return made if jwt.get_unverified_header(made)["kid"] == kid else ""

                after = await eventually_await(signed_by_the_new_one)
                assert [await status(second, each) for each in (after, before)] == [200, 200]
