"""What the gateway publishes of itself, and that its keys change without a token being refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from gateway.app import Gateway
from gateway.auth.keys import issue
from gateway.auth.signing_keys import SigningKeys
from tests import harness
from tests.auth.oauth.test_token import FORM, ask, basic, client, site, use
from tests.eventually import eventually, eventually_await

pytestmark = pytest.mark.asyncio
JWKS, METADATA = "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"


async def read(gateway: Gateway, path: str, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
    async with aiohttp.ClientSession() as session:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with session.get(harness.url(gateway, path), headers=names) as response:
            return response.status, json.loads(await response.text() or "null"), response.headers


async def kids(gateway: Gateway) -> list[str]:
    return [key["kid"] for key in (await read(gateway, JWKS))[1]["keys"]]


async def test_the_keys_are_public_halves_and_verify_what_is_signed(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        status, body, headers = await read(gateway, JWKS)
        assert status == 200 and headers["Cache-Control"] == "public, max-age=300"
        assert len(body["keys"]) == 2, "one for tokens, one for identities"
        for key in body["keys"]:
            assert set(key) == {"kty", "kid", "use", "alg", "crv", "x"} and key["use"] == "sig"
        _, made, _ = await ask(gateway, FORM, basic(*await client(gateway)))
        known = {key["kid"]: jwt.PyJWK(key) for key in body["keys"]}
        token = made["access_token"]
        key = known[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key.key, algorithms=["EdDSA"], audience="gateway", issuer="gateway")
        assert claims["sub"] == "etl"


async def test_who_has_them_already_gets_304(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        tag = (await read(gateway, JWKS))[2]["ETag"]
        for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            status, body, headers = await read(gateway, JWKS, If_None_Match=given)
            assert (status, body, headers["ETag"]) == (304, None, tag)
            assert headers["Cache-Control"] == "public, max-age=300"
        assert (await read(gateway, JWKS, If_None_Match='"x"'))[0] == 200


async def test_any_page_may_read_them_and_none_may_ask_for_tokens(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        for path in (JWKS, METADATA):
            headers = (await read(gateway, path, Origin="https://page.example"))[2]
            assert headers.get("Access-Control-Allow-Origin") == "*"
        async with aiohttp.ClientSession() as session:
            asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
            async with session.options(harness.url(gateway, "/oauth/token"), headers=asks) as response:
                assert response.status == 403 and "Access-Control-Allow-Origin" not in response.headers


async def test_the_metadata_are_there_when_the_issuer_is_a_url(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        status, problem, _ = await read(gateway, METADATA)
        assert (status, problem["code"]) == (404, "no_route") and "[tokens] issuer" in problem["detail"]
    tokens = replace(harness.process_config(tmp_path).tokens, issuer="https://api.example")
    async with site(tmp_path, tokens=tokens) as gateway:
        status, body, _ = await read(gateway, METADATA)
        assert status == 200 and body["issuer"] == "https://api.example"
        assert body["token_endpoint"] == "https://api.example/oauth/token"
        assert body["jwks_uri"] == "https://api.example/.well-known/jwks.json"
        assert (
            body["grant_types_supported"] == ["client_credentials"] and body["response_types_supported"] == []
        )


async def test_a_rotation_refuses_no_token_and_is_seen_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        who, path = basic(*await client(gateway)), Path(gateway.config.keys)
        seen: list[int] = []
        used: set[str] = set()

        async def call() -> None:
            while True:
                _, made, _ = await ask(gateway, FORM, who)
                printed = await asyncio.to_thread(issue, path, gateway.config.tokens, "acme", "r", "ann", 60)
                for token in (made["access_token"], printed):
                    seen.append(await use(gateway, token))
                    used.add(jwt.get_unverified_header(token)["kid"])

        first = (await ask(gateway, FORM, who))[1]["access_token"]
        calling = asyncio.create_task(call())
        new = (await asyncio.to_thread(SigningKeys(path).rotate, time.time(), 1.5, 60.0)).kid

        async def is_published() -> bool:
            return new in await kids(gateway)

        await eventually_await(is_published)
        assert new not in used, "it is published before it signs"
        await eventually(lambda: new in used)
        count = len(seen)
        await eventually(lambda: len(seen) > count + 20)
        calling.cancel()
        assert set(seen) == {200} and len(used) == 2, seen
        assert await use(gateway, first) == 200


async def test_a_key_that_leaked_ends_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        who = basic(*await client(gateway))
        token = (await ask(gateway, FORM, who))[1]["access_token"]
        assert await use(gateway, token) == 200
        old = jwt.get_unverified_header(token)["kid"]
        await asyncio.to_thread(SigningKeys(Path(gateway.config.keys)).rotate, time.time(), 0.0, 0.0)

        async def is_over() -> bool:
            return await use(gateway, token) == 401 and old not in await kids(gateway)

        await eventually_await(is_over)
        assert await use(gateway, (await ask(gateway, FORM, who))[1]["access_token"]) == 200
