"""No stream outlives the token that opened it, its key or its tenant: one rule for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.app import Gateway
from gateway.auth.keys import ensure_signing_key
from gateway.call import Call
from gateway.core.http.head import Head
from gateway.core.model import CallerRule, Identity, Route, TenantId
from gateway.edge.lifetimes import Lifetimes
from tests import harness
from tests.edge.test_drain_streams import EVENTS, chunk, logged
from tests.edge.websocket.tunnels import cut_at_the_end, opened
from tests.eventually import eventually, nothing_for
from tests.fakes import Backend, Heard, RawClient
from tests.support.sockets import Peer, websocket

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio

GIVEN = {
    "/events": EVENTS.format("").encode() + chunk(b"data: 1\n\ndata: 2"),
    "/encoded": EVENTS.format("Content-Encoding: gzip\r\n").encode() + chunk(b"data: 1\n\n"),
    "/large": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
    "/slow": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"12345"),
}
REST = {
    "/events": chunk(b"2\n\ndata: 3"),
    "/large": b"67890",
    "/slow": chunk(b"67890") + b"0\r\n\r\n",
}
WHOLE = chunk(b"data: 1\n\ndata: 2") + chunk(b"2\n\n") + b"0\r\n\r\n"


class Streams:
    """A backend whose answers go on when `more` is set."""

    def __init__(self) -> None:
        self.more = asyncio.Event()

    async def __call__(
        self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        path = heard.line.split()[1]
        writer.write(GIVEN[path])
        await self.more.wait()
        rest = {
            "/events": chunk(b"2\n\ndata: 3"),
            "/large": b"67890",
            "/slow": chunk(b"67890") + b"0\r\n\r\n",
        }
        writer.write(rest.get(path, b""))
        if path not in rest or path == "/events":
            await asyncio.Event().wait()


def config(address: str, tenants: dict[str, Any], **backend: Any) -> dict[str, Any]:
    routes = [
        harness.route("app", "app"),
        harness.route("endless", "app", timeouts={"total": 0}),
        harness.route("documents", "documents"),
    ]
    backends = {"app": {"kind": "http", "addresses": [address], **backend}}
    return {**harness.routing(routes, backends=backends), "tenants": tenants}


BOTH: dict[str, Any] = {"acme": {}, "globex": {}}
THREADED = {"kind": "gunicorn", "threads": 8, "streams": 4}


@asynccontextmanager
async def through(folder: Path, **backend: Any) -> AsyncIterator[tuple[Gateway, Streams]]:
    streams = Streams()
    async with Backend(streams) as app:
        async with harness.running(folder, config(app.address, BOTH, **backend)) as gateway:
            yield gateway, streams


async def begun(gateway: Gateway, path: str, **claims: Any) -> RawClient:
    """A stream whose first byte has come."""
    client = await RawClient.connect(harness.address(gateway))
    authorization = harness.bearer(gateway, **claims)["Authorization"]
    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode())
    assert " 200 " in await client.head()
    return client


async def to_the_end(client: RawClient) -> bytes:
    """Raises ConnectionResetError where it was cut."""
    received = b""
    while not received.endswith(b"0\r\n\r\n") and (data := await client.reader.read(65536)):
        received += data
    return received


End = Callable[[Gateway], Awaitable[None]]


async def edit(gateway: Gateway, tenants: dict[str, Any]) -> None:
    path = Path(gateway.config.routing)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "tenants": tenants}))
    await gateway.reload()


async def disabled(gateway: Gateway) -> None:
    await edit(gateway, {"acme": {"disabled": True}, "globex": {}})


async def removed(gateway: Gateway) -> None:
    await edit(gateway, {"globex": {}})


async def revoked(gateway: Gateway) -> None:
    """The key that signed its token is not in the set any more."""
    path = Path(gateway.config.keys)
    path.unlink()
    ensure_signing_key(path)
    await gateway.reload()


ENDS: dict[str, tuple[End, str]] = {
    "its tenant is disabled": (disabled, "forbidden"),
    "its tenant is removed": (removed, "forbidden"),
    "its key is taken away": (revoked, "unauthenticated"),
}


@pytest.mark.parametrize("backend", [{}, THREADED], ids=["asynchronous", "threaded"])
@pytest.mark.parametrize("end", ENDS)
async def test_an_event_stream_ends_behind_a_whole_event_when(
    tmp_path: Path, end: str, backend: dict[str, Any]
) -> None:
    act, code = ENDS[end]
    async with through(tmp_path, **backend) as (gateway, streams):
        client = await begun(gateway, "/app/events")
        other = await begun(gateway, "/app/events", tenant="globex") if act is not revoked else None
        await act(gateway)
        streams.more.set()
        assert await to_the_end(client) == WHOLE
        client.close()
        if other is not None:
            assert (
                await other.reader.readexactly(len(WHOLE) - 5)
                == WHOLE.replace(chunk(b"2\n\n") + b"0\r\n\r\n", chunk(b"2\n\ndata: 3"))[: len(WHOLE) - 5]
            )
            other.close()
        await eventually(lambda: not len(gateway.lifetimes))
    assert (200, code) in [(line["status"], line["code"]) for line in logged(gateway)]


async def test_an_event_stream_ends_behind_a_whole_event_when_its_token_expires(tmp_path: Path) -> None:
    async with through(tmp_path) as (gateway, streams):
        client = await begun(gateway, "/app/events", exp=time.time() + 0.3)
        await nothing_for(0.35)
        streams.more.set()
        assert await to_the_end(client) == WHOLE
        client.close()
        assert not len(gateway.lifetimes)
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(200, "unauthenticated")]


@pytest.mark.parametrize(
    "path", ["/app/events", "/app/encoded", "/endless/slow"], ids=["no whole event", "unseen", "no end said"]
)
async def test_what_has_no_end_that_a_client_could_see_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("gateway.edge.lifetimes.ENDING", 0.1)
    async with through(tmp_path) as (gateway, _):
        client = await begun(gateway, path)
        await disabled(gateway)
        with pytest.raises(ConnectionResetError):
            await to_the_end(client)
        await eventually(lambda: not any(gateway.admission.in_use().values()))
        assert not len(gateway.lifetimes)


@pytest.mark.parametrize("path", ["/app/large", "/app/slow", "/endless/large"])
async def test_an_answer_that_ends_by_itself_is_finished(tmp_path: Path, path: str) -> None:
    async with through(tmp_path) as (gateway, streams):
        client = await begun(gateway, path)
        await disabled(gateway)
        streams.more.set()
        received = b""
        while b"67890" not in received:
            received += await client.reader.read(100)
        client.close()


@pytest.mark.parametrize("end", ENDS)
async def test_a_feed_of_documents_ends_when(tmp_path: Path, end: str) -> None:
    act, code = ENDS[end]
    async with through(tmp_path) as (gateway, _):
        client = await begun(gateway, "/documents/orders/changes")
        await act(gateway)
        assert (await to_the_end(client)).endswith(b"0\r\n\r\n")
        client.close()
        await eventually(lambda: not len(gateway.lifetimes) and not len(gateway.feeds))
    assert (200, code) in [(line["status"], line["code"]) for line in logged(gateway)]


async def test_a_websocket_is_closed_with_1008_when_its_key_is_taken_away(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        assert (await backend.closed())[0] == 1008
        backend.close(1008)

    async with Backend(websocket(play)) as app:
        rule = config(app.address, BOTH)
        rule["routes"][0]["websocket"] = True
        async with harness.running(tmp_path, rule) as gateway:
            peer = await opened(gateway, "/app/socket")
            await revoked(gateway)
            assert await peer.closed() == (1008, "The token is not valid any more.")
            peer.close(1008)
            await eventually(lambda: not len(gateway.lifetimes))


async def test_a_stream_whose_tenant_was_disabled_while_it_began_ends_too(tmp_path: Path) -> None:
    """Its request was authorised by the snapshot before."""
    gate = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
        await asyncio.Event().wait()

    async with Backend(script) as app, harness.running(tmp_path, config(app.address, BOTH)) as gateway:
        beginning = asyncio.create_task(begun(gateway, "/app/events"))
        await eventually(lambda: app.heard)
        await disabled(gateway)
        gate.set()
        client = await beginning
        assert await to_the_end(client) == chunk(b"data: 1\n\n") + b"0\r\n\r\n"
        client.close()


async def test_a_token_that_ends_in_ten_thousand_years_opens_a_stream(tmp_path: Path) -> None:
    async with through(tmp_path) as (gateway, streams):
        client = await begun(gateway, "/app/events", exp=253402300000)
        assert len(gateway.lifetimes) == 1
        streams.more.set()
        await client.reader.readuntil(b"data: 3")
        client.close()
        await eventually(lambda: not len(gateway.lifetimes))


async def test_of_very_many_streams_those_of_the_revoked_end_and_the_others_go_on() -> None:
    """In several turns of the loop."""
    revoked: set[str] = set()
    lifetimes = Lifetimes(lambda identity: 0.0 if identity.subject in revoked else identity.expires)
    ended = []
    for number in range(1201):
        call = Call("GET", "/", Head(), "", None)  # type: ignore[arg-type]
        call.identity = Identity(TenantId("acme"), f"u{number % 2}", frozenset(), time.time() + 600)
        lifetimes.add(call, lambda reason, number=number: ended.append(number))  # type: ignore[misc]
    revoked.add("u1")
    lifetimes.recheck()
    await eventually(lambda: len(ended) == 600)
    assert sorted(ended) == list(range(1, 1201, 2))


async def test_a_stream_ends_at_the_time_that_is_known_last() -> None:
    end, ended = [time.time() + 600], []
    lifetimes = Lifetimes(lambda identity: end[0])
    call = Call("GET", "/", Head(), "", None)  # type: ignore[arg-type]
    call.identity = Identity(TenantId("acme"), "etl", frozenset(), end[0])
    lifetimes.add(call, ended.append)
    end[0] = time.time() + 0.05
    lifetimes.recheck()
    await eventually(lambda: ended == ["The token has expired."])


class _Issuer:
    """Finds a credential good for another minute, each time that it is asked about it. says: what is other in
    it now."""

    def __init__(self, **says: Any) -> None:
        self.asked = 0
        self._says = says

    def try_authenticate(self, call: Call) -> Identity | None:
        return None

    async def authenticate(self, call: Call) -> Identity:
        self.asked += 1
        assert call.identity is not None
        return replace(call.identity, good_until=time.time() + 60, **self._says)


async def test_an_issuer_is_asked_about_a_stream_when_its_word_is_over_and_not_before() -> None:
    issuer, lifetimes, now = _Issuer(), Lifetimes(), time.time()
    call = Call("GET", "/", Head(), "", None)  # type: ignore[arg-type]
    call.route = Route("r", "/", "t", None, authentication=issuer)  # type: ignore[arg-type]
    call.identity = Identity(TenantId("acme"), "etl", frozenset(), now + 600, good_until=now - 1)
    lifetimes.add(call, lambda reason: None)
    for _ in range(3):
        await lifetimes.reask()
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("says", "ends"),
    [({}, False), ({"tenant": TenantId("b")}, True), ({"subject": "bob"}, True), ({"issuer": "b"}, True)],
    ids=["nothing", "another tenant", "another subject", "what the route does not take"],
)
async def test_a_stream_ends_when_its_credential_is_verified_again_and_says(says: Any, ends: bool) -> None:
    issuer, lifetimes, ended = _Issuer(**says), Lifetimes(), list[str]()
    call = Call("GET", "/", Head(), "", None)  # type: ignore[arg-type]
    rule = CallerRule(issuers=frozenset({"a"}))
    call.route = Route("r", "/", "t", None, authentication=issuer, callers=rule)  # type: ignore[arg-type]
    call.identity = Identity(TenantId("acme"), "etl", frozenset(), time.time() + 600, issuer="a")
    lifetimes.add(call, ended.append)
    lifetimes.doubt()
    await lifetimes.reask()
    assert ended == (["The token is not valid any more."] if ends else [])
