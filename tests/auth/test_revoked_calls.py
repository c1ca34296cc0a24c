"""Calls with API keys, and calls of the revoked, on real sockets: another process changes the file, and soon
nobody who was revoked gets anything."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from gateway.app import Gateway
from gateway.auth.api_keys import new_key, new_secret
from gateway.auth.store import FILE, AuthStore
from gateway.core.api_keys import FOREVER, ApiKey
from gateway.core.revocations import Revocation
from tests import harness
from tests.edge.test_drain_streams import EVENTS, chunk
from tests.edge.test_lifetimes import to_the_end
from tests.edge.websocket.tunnels import cut_at_the_end, logged, opened
from tests.eventually import AT_ONCE, eventually, eventually_await, nothing_for
from tests.fakes import Backend, Heard, RawClient, answer
from tests.support.sockets import Peer, connect, websocket

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio


async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend with all kinds of responses."""
    if heard.one("Upgrade"):
        await websocket(_play)(heard, reader, writer)
    elif "/events" in heard.line:
        writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
        await asyncio.Event().wait()
    else:
        writer.write(answer())


async def _play(peer: Peer) -> None:
    code, _ = await peer.closed()
    peer.close(code)


class Site:
    """A gateway, its backend, and another process with the same file."""

    def __init__(self, gateway: Gateway, backend: Backend, session: aiohttp.ClientSession) -> None:
        self.gateway, self.backend, self._session = gateway, backend, session
        self.other = AuthStore(Path(gateway.config.data) / FILE)

    async def status(self, headers: dict[str, str], path: str = "/app/x") -> int:
        async with self._session.get(harness.url(self.gateway, path), headers=headers) as response:
            self.said, self.challenge = await response.text(), response.headers.get("WWW-Authenticate", "")
            return response.status

    async def until(self, status: int, headers: dict[str, str]) -> None:
        async def came() -> bool:
            return await self.status(headers) == status

        await eventually_await(came, lambda: self.said, AT_ONCE)

    def key(self, tenant: str = "acme", scopes: str = "r", lasts: float = FOREVER) -> tuple[ApiKey, str]:
        key, text = new_key(tenant, "etl", scopes, "", lasts, "test", time.time())
        self.other.create_key(key)
        return key, text

    def revoke(self, **what: Any) -> int:
        now = time.time()
        return self.other.revoke(Revocation(now + 600, created=now, by="test", **what))


@asynccontextmanager
async def site(folder: Path, **more: Any) -> AsyncIterator[Site]:
    async with Backend(script) as backend, aiohttp.ClientSession() as session:
        scopes = {"read": ["r"], "write": ["w"]}
        routes = [
            harness.route("app", "app", scopes=scopes, websocket=True),
            harness.route("tokens", "app", auth=["jwt"]),
            harness.route("documents", "documents"),
        ]
        backends = {"app": {"kind": "http", "addresses": [backend.address], "identity": "headers"}}
        async with harness.running(folder, harness.routing(routes, backends=backends, **more)) as gateway:
            yield Site(gateway, backend, session)


def ends(there: Site) -> dict[int, int]:
    """How many streams ended because of their credential, by status."""
    return Counter(
        line["status"]
        for line in logged(there.gateway)
        if line["code"] == "unauthenticated" and line["status"] < 400
    )


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_an_api_key_is_taken_from_either_header_and_no_backend_sees_it(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        key, text = there.key()
        await there.until(200, bearer(text))
        assert await there.status({"X-API-Key": text}) == 200
        for heard in there.backend.heard:
            told = heard.one("X-Tenant"), heard.one("X-Subject"), heard.one("X-Scopes")
            assert told == ("acme", "etl", "r")
            assert text not in str(heard.headers) and not heard.all("X-API-Key")
        assert await there.status({"X-API-Key": "the-backends-own", **bearer(text)}) == 200
        assert there.backend.heard[-1].all("X-API-Key") == ["the-backends-own"]
        told = await eventually(lambda: [line for line in logged(there.gateway) if line["status"] == 200])
        assert {(line["tenant"], line["subject"]) for line in told} == {("acme", "etl")}
        assert text not in Path(there.gateway.config.access_log).read_text()
        assert key.id not in there.said


async def test_two_credentials_are_no_credential(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        _, text = there.key()
        await there.until(200, bearer(text))
        assert await there.status({"X-API-Key": text, **bearer(text)}) == 401
        assert 'error="invalid_request"' in there.challenge and text not in there.said
        assert await there.status({"X-API-Key": text, **harness.bearer(there.gateway, scope="r")}) == 401


async def test_a_header_that_comes_twice_is_401_and_no_failure_of_ours(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        _, text = there.key()
        await there.until(200, bearer(text))
        twice = CIMultiDict([("X-API-Key", text), ("X-API-Key", text)])
        assert await there.status(twice) == 401  # type: ignore[arg-type]
        assert 'error="invalid_request"' in there.challenge


async def test_a_key_does_what_its_scopes_say_where_keys_are_taken(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        _, text = there.key(scopes="other")
        await there.until(403, bearer(text))
        assert 'scope="r"' in there.challenge
        assert await there.status(bearer(text), "/tokens/x") == 401
        _, text = there.key(tenant="nobody")
        await there.until(403, bearer(text))


@pytest.mark.parametrize("bad", ["gw_", "gw_x", "0", "é"])
async def test_what_is_no_key_is_401_with_the_reason_and_not_repeated(tmp_path: Path, bad: str) -> None:
    async with site(tmp_path) as there:
        text = bad
        if not bad.startswith("gw_"):
            good = new_secret("0123456789")[0]
            text = good[:-1] + (bad if good[-1] != bad else "1")
        for headers in (bearer(text), {"X-API-Key": text}):
            assert await there.status(headers) == 401
            assert "mistyped" in there.said and (len(text) < 10 or text not in there.said)
        assert await there.status(bearer(new_secret("0123456789")[0])) == 401
        assert "not known" in there.said


async def test_a_mistyped_key_counts_for_its_client_and_a_known_one_does_not(tmp_path: Path) -> None:
    async with site(tmp_path, client_limit={"rate": "1/h", "burst": 2}) as there:
        _, text = there.key()
        await there.gateway.stored.refresh()
        assert [await there.status(bearer(text)) for _ in range(5)] == [200] * 5
        assert [await there.status(bearer("gw_x")) for _ in range(2)] == [401, 429]
        assert await there.status(bearer(text)) == 200


KINDS: dict[str, dict[str, Any]] = {
    "its tenant": {"tenant": "acme"},
    "its subject": {"tenant": "acme", "subject": "alice"},
    "its jti": {"jti": "j1"},
    "its issuer": {"issuer": "local"},
    "all issued before": {"before": 0.0},
    "its tenant, issued before": {"tenant": "acme", "before": 0.0},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_known_token_is_refused_soon_after_another_process_revoked(tmp_path: Path, kind: str) -> None:
    async with site(tmp_path) as there:
        mine = harness.bearer(there.gateway, scope="r", jti="j1", iat=int(time.time()) - 5)
        later = harness.bearer(there.gateway, "globex", scope="r", sub="bob", jti="j2", iat=time.time() + 30)
        assert (await there.status(mine), await there.status(later)) == (200, 200)
        what = {**KINDS[kind], **({"before": time.time()} if "before" in KINDS[kind] else {})}
        number = there.revoke(**what)
        await there.until(401, mine)
        assert "was revoked" in there.said and 'error="invalid_token"' in there.challenge
        assert await there.status(later) == (401 if kind == "its issuer" else 200)
        there.other.lift(number, "test", time.time())
        await there.until(200, mine)


async def test_a_revoked_key_ends_its_streams_and_no_others(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        key, text = there.key()
        await there.until(200, bearer(text))
        address = harness.address(there.gateway)
        socket = await connect(address, "/app/ws", bearer(text))
        other = await opened(there.gateway, "/app/ws", scope="r")
        streams = []
        for path in ("/app/events", "/documents/orders/changes"):
            client = await RawClient.connect(address)
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {text}\r\n\r\n".encode())
            assert " 200 " in await client.head()
            streams.append(client)
        there.other.revoke_key(key.id, "test", time.time())
        assert await socket.closed(AT_ONCE) == (1008, "The token is not valid any more.")
        socket.close(1008)
        for client in streams:
            assert (await to_the_end(client)).endswith(b"0\r\n\r\n")
            client.close()
        assert await there.status(bearer(text)) == 401
        assert len(there.gateway.lifetimes) == 1 and not other.reader.at_eof()
        said = {101: 1, 200: 2}
        await eventually(lambda: ends(there) == said, lambda: logged(there.gateway))
        socket.cut()


async def test_a_rotation_refuses_no_request_and_ends_no_stream_before_the_overlap_is_over(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        key, text = there.key()
        await there.until(200, bearer(text))
        socket = await connect(harness.address(there.gateway), "/app/ws", bearer(text))
        new, digest = new_secret(key.id)
        there.other.rotate_key(key.id, digest, time.time(), 600.0, "test")
        while await there.status(bearer(new)) != 200:
            assert await there.status(bearer(text)) == 200
        assert await there.status(bearer(text)) == 200 and not socket.reader.at_eof()
        newer, digest = new_secret(key.id)
        there.other.rotate_key(key.id, digest, time.time(), 1.0, "test")
        assert await socket.closed(AT_ONCE) == (1008, "The token has expired.")
        socket.cut()
        await there.until(200, bearer(newer))
        for before in (text, new):
            assert await there.status(bearer(before)) == 401 and "replaced by a new one" in there.said


async def test_a_stream_that_begins_while_its_token_is_revoked_ends_too(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
        await asyncio.Event().wait()

    async with site(tmp_path) as there:
        there.backend.script = slow
        client = await RawClient.connect(harness.address(there.gateway))
        lines = harness.bearer(there.gateway, scope="r")["Authorization"]
        client.send(f"GET /app/events HTTP/1.1\r\nHost: x\r\nAuthorization: {lines}\r\n\r\n".encode())
        await eventually(lambda: there.backend.heard)
        there.revoke(tenant="acme")
        await there.gateway.stored.refresh()
        gate.set()
        assert (await to_the_end(client)).endswith(b"0\r\n\r\n")
        client.close()


async def test_a_key_that_expires_is_refused_from_then_on_though_it_is_known(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        _, text = there.key(lasts=2.0)
        await there.until(200, bearer(text))
        await there.until(401, bearer(text))
        assert "has expired" in there.said


async def test_a_change_that_revokes_nobody_leaves_everybody_known(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        mine = harness.bearer(there.gateway, scope="r")
        assert await there.status(mine) == 200
        known = len(there.gateway.credentials)
        there.key()
        await there.gateway.stored.refresh()
        assert len(there.gateway.credentials) == known == 1
        there.revoke(tenant="globex")
        await there.gateway.stored.refresh()
        assert len(there.gateway.credentials) == 1
        await nothing_for(0.01)


async def test_a_key_of_another_file_is_unknown_after_the_file_was_replaced(tmp_path: Path) -> None:
    """As after a backup was put in its place while the gateway ran."""
    async with site(tmp_path) as there:
        _, text = there.key()
        await there.until(200, bearer(text))
        backup = AuthStore(tmp_path / "backup.sqlite")
        backup.ensure()
        key, other = new_key("acme", "etl", "r", "", FOREVER, "test", time.time())
        backup.create_key(replace(key, name="from the backup"))
        for end in ("-wal", "-shm"):
            there.other.path.with_name(FILE + end).unlink(missing_ok=True)
        backup.path.replace(there.other.path)
        await there.until(401, bearer(text))
        await there.until(200, bearer(other))


async def test_what_one_gateway_of_a_host_changes_is_in_force_at_the_other(tmp_path: Path) -> None:
    config = harness.routing([harness.route("documents", "documents")])
    async with harness.running(tmp_path, config) as one, harness.running(tmp_path, config) as other:
        async with aiohttp.ClientSession() as session:
            now = time.time()
            key, text = new_key("acme", "etl", "", "", FOREVER, "test", now)
            await one.stored.change(one.stored.store.create_key, key)

            async def answers(status: int, gateway: Gateway) -> bool:
                where = harness.url(gateway, "/documents/orders")
                async with session.get(where, headers=bearer(text)) as response:
                    return response.status == status

            assert await answers(404, one)  # no such collection
            await eventually_await(lambda: answers(404, other), end=AT_ONCE)
            await other.stored.change(other.stored.store.revoke_key, key.id, "test", now)
            assert await answers(401, other)
            await eventually_await(lambda: answers(401, one), end=AT_ONCE)
