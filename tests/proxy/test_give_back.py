"""Whatever raises between taking something for a call and handing it over, it is given back: the seat, the
call of a tenant that is limited, the trial, the connection, the retry that was paid for, the body's file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.admission.admission import Admission
from gateway.admission.backend_queue import BackendQueue
from gateway.app import Gateway
from gateway.core.model import Address
from gateway.core.model import Backend as ModelBackend
from gateway.core.policy import retry
from gateway.core.policy.circuit import HealthRule
from gateway.core.policy.retry import RetryBudgets
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.pool import Pool, Pools
from gateway.edge.client.connection import ClientConnection
from gateway.edge.response.relay import Relay
from gateway.edge.spool import Spool
from gateway.edge.websocket.tunnel import Tunnel, Tunnels
from gateway.health.circuits import Health
from gateway.health.probes import Probes
from gateway.proxy import websocket
from gateway.proxy.proxied_call import ProxiedCall
from gateway.proxy.request import Requests
from gateway.proxy.retry import Retry
from gateway.proxy.target import Proxy
from gateway.telemetry.metrics import Metrics
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend, Heard, RawClient, answer
from tests.support.sockets import echo, request
from tests.support.sockets import websocket as play


class Bug(Exception):
    """No error of the gateway's own."""


def breaks(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, after: bool = False) -> list[int]:
    """The next call of it raises (after: once it has done its work). Gives a list that is not empty then."""
    done: list[int] = []
    real = getattr(owner, name)

    def broken(*arguments: Any, **more: Any) -> Any:
        if done:
            return real(*arguments, **more)
        done.append(1)
        if after:
            real(*arguments, **more)
        raise Bug(f"{owner.__name__}.{name}")

    monkeypatch.setattr(owner, name, broken)
    return done


async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if "/reset" in heard.line and len(RESETS) < 1:
        RESETS.append(1)
        writer.close()
        return
    writer.write(answer(heard.body or b"ok"))


RESETS: list[int] = []
BODY = b"x" * 200_000  # too long to be taken in before the call begins, or to be kept in memory


@asynccontextmanager
async def through(folder: Path, **route: Any) -> AsyncIterator[Gateway]:
    """A gateway in front of one thread, so that one seat that is lost is all of them. acme is limited too."""
    RESETS.clear()
    async with Backend(script) as backend:
        app = {"kind": "gunicorn", "threads": 1, "addresses": [backend.address]}
        config = harness.routing([harness.route("svc", "app", **route)], backends={"app": app})
        config["tenants"] = {"acme": {"concurrency": 1}}
        async with harness.running(folder, config) as gateway:
            yield gateway


async def ask(gateway: Gateway, path: str = "/svc/", body: bytes | None = None) -> str:
    """The status, "" when the connection was cut."""
    client = await RawClient.connect(harness.address(gateway))
    head = f"Host: x\r\nAuthorization: Bearer {harness.token(gateway)}\r\n"
    if body is None:
        client.send(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    else:  # held back, so that it is not the short way
        head += "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
        client.send(f"PUT {path} HTTP/1.1\r\n{head}\r\n".encode())
        return await status(client, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    return await status(client)


async def status(client: RawClient, body: bytes = b"") -> str:
    """body: what is sent when the gateway says so."""
    try:
        async with asyncio.timeout(30):
            line = (await client.head()).split("\r\n")[0]
            if line[9:12] == "100":
                client.send(body)
                line = (await client.head()).split("\r\n")[0]
    except (asyncio.IncompleteReadError, ConnectionError):
        line = ""
    client.close()
    return line[9:12]


async def shake(gateway: Gateway) -> str:
    """Ask for a WebSocket, and leave. Gives the status."""
    client = await RawClient.connect(harness.address(gateway))
    client.send(request("/svc/", "x", f"Authorization: Bearer {harness.token(gateway)}"))
    return await status(client)


async def check_nothing_is_held(gateway: Gateway) -> None:
    admission = gateway.admission
    await eventually(lambda: admission.in_use() == {"app": 0})
    await eventually(lambda: not gateway.life.inside)
    assert admission.waiting() == {"app": 0}
    assert not admission._calls
    assert not list(admission._queues["app"].fair.items())
    await eventually(lambda: gateway.pools.under_way == 0)
    assert len(gateway.tunnels) == 0
    assert all(a["state"] == "closed" for b in gateway.health.states() for a in b["addresses"])
    for pool in gateway.pools._pools.values():
        assert all(connection.user is None for connection in pool._idle)


DIRECT = [
    (Health, "is_closed"),
    (Admission, "_count_call"),
    (Pools, "of"),
    (Pool, "take"),
    (Requests, "whole"),
    (Proxy, "_proxied"),
    (Relay, "__init__"),
    (Proxy, "_allow_retry"),
    (RetryBudgets, "deposit"),
    (ProxiedCall, "start"),
    (Exchange, "__init__"),
    (Pools, "watch"),
    (Exchange, "send"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), DIRECT, ids=lambda value: getattr(value, "__name__", value))
async def test_a_bug_on_the_short_way_keeps_nothing(
    owner: type, name: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(tmp_path, retry="idempotent") as gateway:
        assert await ask(gateway) == "200"  # now there is a warm connection
        await eventually(lambda: gateway.admission.in_use() == {"app": 0})
        after = after and name not in ("_count_call", "__init__")  # there is nothing behind what these do
        done = breaks(monkeypatch, owner, name, after)
        assert await ask(gateway) in ("500", "200")
        assert done
        await check_nothing_is_held(gateway)
        assert await ask(gateway) == "200"
        assert await ask(gateway) == "200"


WAITING = [
    (Health, "require"),
    (Admission, "check"),
    (Admission, "_count_call"),
    (BackendQueue, "try_take"),
    (Spool, "fill"),
    (Health, "enter"),
    (Pools, "of"),
    (Pool, "take"),
    (Pool, "connect"),
    (Requests, "head"),
    (Proxy, "_proxied"),
    (Relay, "__init__"),
    (Proxy, "_start"),
    (ProxiedCall, "start"),
    (Exchange, "__init__"),
    (Pools, "watch"),
    (Exchange, "send"),
    (Spool, "chunks"),
    (ProxiedCall, "finished"),
]


@pytest.mark.parametrize(("owner", "name"), WAITING, ids=lambda value: getattr(value, "__name__", value))
async def test_a_bug_on_the_long_way_keeps_nothing(
    owner: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(tmp_path) as gateway:
        done = breaks(monkeypatch, owner, name)
        assert await ask(gateway, body=BODY) == "500"
        assert done
        await check_nothing_is_held(gateway)
        assert await ask(gateway, body=BODY) == "200"
        assert await ask(gateway) == "200"


async def test_a_bug_after_an_upload_has_begun_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(tmp_path) as gateway:
        done = breaks(monkeypatch, ProxiedCall, "beside", after=True)
        assert await ask(gateway, body=BODY) == "500"
        assert done
        await check_nothing_is_held(gateway)
        assert await ask(gateway, body=BODY) == "200"


async def test_a_bug_before_waiting_leaves_no_place_in_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(tmp_path) as gateway:
        line = gateway.admission._queues["app"]
        seat = line.try_take("globex", 1.0)
        assert seat is not None
        done = breaks(monkeypatch, BackendQueue, "wake")
        assert await ask(gateway, body=b"x") == "500"
        assert done
        seat.release()
        await check_nothing_is_held(gateway)


ANSWER = [
    (ProxiedCall, "head_came"),
    (Relay, "write"),
    (Relay, "end"),
    (Pools, "forget"),
    (Pool, "give_back"),
    (Exchange, "resume"),
    (Health, "responded"),
    (BackendQueue, "give_back"),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["short", "long"])
@pytest.mark.parametrize(("owner", "name"), ANSWER, ids=lambda value: getattr(value, "__name__", value))
async def test_a_bug_while_an_answer_comes_keeps_nothing_and_nobody_waiting(
    owner: type, name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = None if way == "short" else BODY
    async with through(tmp_path) as gateway:
        assert await ask(gateway, body=body) == "200"
        await eventually(lambda: gateway.admission.in_use() == {"app": 0})
        after = (owner, name) == (BackendQueue, "give_back")
        done = breaks(monkeypatch, owner, name, after)
        assert await ask(gateway, body=body) in ("500", "502", "200", "")
        assert done
        await eventually(lambda: gateway.admission.in_use() == {"app": 0})
        assert not gateway.admission._calls
        await eventually(lambda: not gateway.life.inside)
        assert await ask(gateway, body=body) == "200"
        await eventually(lambda: not gateway.life.inside)


TUNNEL = [
    (websocket.Handshake, "follow"),
    (websocket.Handshake, "_open"),
    (websocket.Handshake, "_response"),
    (Tunnel, "__init__"),
    (Tunnels, "add"),
    (ProxiedCall, "upgraded"),
    (ClientConnection, "begin_tunnel"),
    (Tunnel, "start"),
]


@pytest.mark.parametrize(("owner", "name"), TUNNEL, ids=lambda value: getattr(value, "__name__", value))
async def test_a_bug_while_a_websocket_opens_keeps_nothing(
    owner: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Backend(play(echo)) as backend:
        app = {"kind": "uvicorn", "concurrency": 1, "streams": 1, "addresses": [backend.address]}
        routes = [harness.route("svc", "app", websocket=True)]
        config = harness.routing(routes, backends={"app": app}, tenants={"acme": {"concurrency": 1}})
        async with harness.running(tmp_path, config) as gateway:
            done = breaks(monkeypatch, owner, name)
            assert await shake(gateway) in ("500", "502", "")
            assert done
            await check_nothing_is_held(gateway)
            assert await shake(gateway) == "101"
            await check_nothing_is_held(gateway)


# --- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "refunded"),
    [
        (Retry, "_again", True),
        (Proxy, "_connect", True),
        (Health, "enter", True),
        (ProxiedCall, "take", False),
        (Pools, "watch", False),
        (Exchange, "send", False),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_retry_that_fails_by_a_bug_keeps_nothing(
    owner: type, name: str, refunded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(tmp_path, retry="idempotent") as gateway:
        assert await ask(gateway) == "200"
        await eventually(lambda: gateway.admission.in_use() == {"app": 0})
        before = gateway.retries._budgets["app"]
        withdraw = RetryBudgets.withdraw
        done: list[list[int]] = []

        def withdraws(self: RetryBudgets, backend: str) -> bool:
            done.append(breaks(monkeypatch, owner, name))
            return withdraw(self, backend)

        monkeypatch.setattr(RetryBudgets, "withdraw", withdraws)
        assert await ask(gateway, "/svc/reset") in ("500", "502", "")
        assert done and done[0]
        await check_nothing_is_held(gateway)
        if refunded:
            assert gateway.retries._budgets["app"] == before + 1
        assert await ask(gateway) == "200"


def test_a_refund_is_what_a_retry_costs() -> None:
    left = retry.withdraw(retry.START)
    assert left is not None and retry.refund(left) == retry.START


# --- trials and probes -----------------------------------------------------------------------------


async def test_a_bug_in_counting_a_call_keeps_its_client_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(tmp_path) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        bearer = harness.token(gateway)
        for number in range(3):
            done = breaks(monkeypatch, Metrics, "observe") if number < 2 else [1]
            client.send(f"GET /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())
            head, _ = await client.answer()
            assert head.startswith("HTTP/1.1 200 ") and done
        client.close()
        await check_nothing_is_held(gateway)
        assert not gateway.life.inside


async def test_a_trial_that_a_retry_leaves_for_another_address_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It got a seat where a trial was due, and went on to the address that is healthy."""
    async with Backend(script) as one, Backend(script) as other:
        app = {"kind": "uvicorn", "addresses": [one.address, other.address]}
        config = harness.routing([harness.route("svc", "app", public=True)], backends={"app": app})
        async with harness.running(tmp_path, config) as gateway:
            backend = gateway.live.current.backends["app"]
            ill, well = backend.addresses
            for _ in range(3):
                gateway.health.failed(ill, "connect")
            gateway.health.retry_now("app")
            (route,) = gateway.live.current.table.routes
            call = cast(Any, SimpleNamespace(route=route, method="GET", started=0.0))
            proxy = cast(Proxy, call.route.target)
            line = gateway.admission._queues["app"]
            seat = line.take_at(ill, "acme")
            assert seat is not None and gateway.health.enter(ill, call)
            monkeypatch.setattr("gateway.proxy.target._left", lambda call, timeouts, most: most)
            _, connection = await proxy._connect(call, seat, call.route.timeouts, ill)
            assert connection.address is well
            states = {a["address"]: a["state"] for b in gateway.health.states() for a in b["addresses"]}
            assert states[ill.text] == "open", "and not half-open for ever"
            connection.close()
            seat.release()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Health, "begin_probe"), (Pools, "of"), (Pool, "connect"), (Exchange, "__init__"), (Exchange, "send")],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_probe_that_fails_by_a_bug_gives_back_its_seat_and_its_trial(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Backend(script) as server:
        host, _, port = server.address.removeprefix("http://").partition(":")
        address = Address(f"{host}:{port}", host, int(port))
        rule = HealthRule(path="/", interval=0.05, rise=1)
        backend = ModelBackend("app", "gunicorn", (address,), 1, health=rule)
        health, admission, pools = Health(), Admission(), Pools()
        probes = Probes(health, admission, pools)
        health.reconcile({"app": backend})
        admission.reconcile({"app": backend})
        for _ in range(3):
            health.failed(address, "connect")
        done = breaks(monkeypatch, owner, name)
        health.retry_now("app")
        probes.send_due()
        await eventually(lambda: done and admission.in_use() == {"app": 0})
        assert not probes._out
        assert health.states()[0]["addresses"][0]["state"] == "open"
        health.retry_now("app")
        probes.send_due()
        await eventually(lambda: health.is_closed(address))
        await eventually(lambda: admission.in_use() == {"app": 0})
        probes.close()
        pools.close()
