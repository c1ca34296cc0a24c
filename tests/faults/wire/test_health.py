"""Backends that fall ill and recover, over real sockets: who is asked, who is spared, what clients see."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.app import Gateway
from gateway.core.websocket import handshake
from tests import harness
from tests.eventually import AT_ONCE, eventually, head_start, nothing_for, takes
from tests.fakes import Backend, Heard, RawClient, Script, always, answer, then_close
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio
PROBES = {"path": "/healthz", "interval": "400ms", "timeout": "150ms", "fall": 2}
Writer = asyncio.StreamWriter


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def config(addresses: list[str], *, threads: int = 0, health: Any = None, **more: Any) -> dict[str, Any]:
    app: dict[str, Any] = {"kind": "gunicorn" if threads else "http", "addresses": addresses}
    if threads:
        app["threads"] = threads
    if health:
        app["health"] = health
    return harness.routing([harness.route("svc", "app", **more)], backends={"app": app})


async def get(gateway: Gateway, session: aiohttp.ClientSession, **headers: str) -> tuple[int, str]:
    """The status and the code of a request."""
    given = {**harness.bearer(gateway), **headers}
    async with session.get(harness.url(gateway, "/svc/"), headers=given) as response:
        if response.content_type != "application/problem+json":
            return response.status, ""
        code = (await response.json())["code"]
        if response.status == 503:
            assert int(response.headers["Retry-After"]) >= 1
        return response.status, code


UNAVAILABLE = (503, "backend_unavailable")


def states(gateway: Gateway) -> list[str]:
    (backend,) = gateway.health.states()
    return [address["state"] for address in backend["addresses"]]


class Clock:
    """The circuits' clock, which a test moves on: no pause passes by itself on a busy machine."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def _never(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
    await takes(30)


def healthz(status: str, others: Script) -> Script:
    """Answers probes with the status, and leaves the others to another script."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        await (always(answer(b"", status)) if " /healthz " in heard.line else others)(heard, reader, writer)

    return script


async def test_a_killed_backend_is_503_at_once_and_probes_bring_it_back_without_traffic(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    port = free_port()
    routing = config([f"http://127.0.0.1:{port}"], health=PROBES)
    async with harness.running(tmp_path, routing) as gateway:
        async with Backend(always(answer()), port=port):
            assert await get(gateway, session) == (200, "")
        await eventually(lambda: states(gateway) == ["open"])
        for _ in range(20):
            assert await get(gateway, session) == UNAVAILABLE
        await nothing_for(0.5)  # it stays down for longer than a probe takes
        async with Backend(always(answer()), port=port) as backend:
            await eventually(lambda: states(gateway) == ["closed"])
            assert {heard.line for heard in backend.heard} == {"GET /healthz HTTP/1.1"}
            assert await get(gateway, session) == (200, "")


@pytest.mark.parametrize("threads", [0, 1])
async def test_without_probes_the_next_request_after_the_pause_is_the_trial(
    tmp_path: Path, clock: Clock, session: aiohttp.ClientSession, threads: int
) -> None:
    port = free_port()
    async with harness.running(
        tmp_path, config([f"http://127.0.0.1:{port}"], threads=threads), now=clock
    ) as gateway:
        for _ in range(3):
            assert await get(gateway, session) == UNAVAILABLE
        assert states(gateway) == ["open"]
        async with Backend(always(answer()), port=port) as backend:
            assert await get(gateway, session) == UNAVAILABLE
            assert not backend.connections, "it was asked before its time"
            clock.passes(0.26)
            assert await get(gateway, session) == (200, "")
        assert states(gateway) == ["closed"]


async def test_one_trial_goes_at_a_time_and_the_others_are_503_at_once(
    tmp_path: Path, clock: Clock, session: aiohttp.ClientSession
) -> None:
    port = free_port()
    go_on = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        await go_on.wait()
        writer.write(answer())

    async with harness.running(tmp_path, config([f"http://127.0.0.1:{port}"]), now=clock) as gateway:
        for _ in range(3):
            await get(gateway, session)
        async with Backend(script, port=port) as backend:
            clock.passes(0.26)
            trial = asyncio.create_task(get(gateway, session))
            await eventually(lambda: states(gateway) == ["half-open"])
            for _ in range(5):
                assert await get(gateway, session) == UNAVAILABLE
            assert len(backend.heard) <= 1
            go_on.set()
            assert await trial == (200, "")
            assert len(backend.heard) == 1
            assert await get(gateway, session) == (200, "")


async def test_of_those_who_waited_for_a_seat_one_has_the_trial(
    tmp_path: Path, clock: Clock, session: aiohttp.ClientSession
) -> None:
    fall, trials = asyncio.Event(), 0

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        nonlocal trials
        if not fall.is_set():
            await fall.wait()
            writer.close()
            return
        trials += 1
        await takes(0.1)
        writer.write(answer())

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], threads=2), now=clock) as gateway:
            inside = [asyncio.create_task(get(gateway, session)) for _ in range(2)]
            await eventually(lambda: gateway.admission.in_use() == {"app": 2})
            for _ in range(3):
                gateway.health.failed(gateway.live.current.backends["app"].addresses[0], "connect")
            clock.passes(0.26)
            waiting = [asyncio.create_task(get(gateway, session)) for _ in range(2)]
            await eventually(lambda: gateway.admission.waiting() == {"app": 2})
            fall.set()
            assert sorted(await asyncio.gather(*waiting)) == [(200, ""), UNAVAILABLE]
            assert trials == 1
            assert set(await asyncio.gather(*inside)) == {(502, "backend_reset")}


async def test_a_websocket_that_opens_is_a_good_trial(
    tmp_path: Path, clock: Clock, session: aiohttp.ClientSession
) -> None:
    port = free_port()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        accepted = handshake.accept(heard.one("Sec-WebSocket-Key") or "")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accepted.encode()
        )
        await reader.read()

    async with harness.running(
        tmp_path, config([f"http://127.0.0.1:{port}"], websocket=True), now=clock
    ) as gateway:
        for _ in range(3):
            await get(gateway, session)
        async with Backend(script, port=port):
            clock.passes(0.26)
            quick = aiohttp.ClientWSTimeout(ws_close=0.1)
            where, given = harness.url(gateway, "/svc/"), harness.bearer(gateway)
            async with session.ws_connect(where, headers=given, timeout=quick):
                assert states(gateway) == ["closed"]


async def test_an_upload_is_refused_before_its_body_is_read(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    routing = config([f"http://127.0.0.1:{free_port()}"], threads=1)
    async with harness.running(tmp_path, routing) as gateway:
        for _ in range(3):
            await get(gateway, session)
        client = await RawClient.connect(harness.address(gateway))
        bearer = f"Authorization: Bearer {harness.token(gateway)}"
        client.send(f"POST /svc/ HTTP/1.1\r\nHost: x\r\n{bearer}\r\nContent-Length: 100\r\n\r\n".encode())
        head, _ = await client.answer()
        assert head.startswith("HTTP/1.1 503 ")
        client.close()


async def test_a_client_that_leaves_with_the_trial_does_not_take_it_along(
    tmp_path: Path, clock: Clock, session: aiohttp.ClientSession
) -> None:
    port = free_port()
    async with harness.running(tmp_path, config([f"http://127.0.0.1:{port}"]), now=clock) as gateway:
        for _ in range(3):
            await get(gateway, session)
        async with Backend(_never, port=port):
            clock.passes(0.26)
            trial = asyncio.create_task(get(gateway, session))
            await eventually(lambda: states(gateway) == ["half-open"])
            trial.cancel()
            await eventually(lambda: states(gateway) == ["open"])
        async with Backend(always(answer()), port=port):
            clock.passes(0.26)
            assert await get(gateway, session) == (200, "")


@pytest.mark.parametrize("threads", [0, 4])
async def test_a_hung_backend_is_503_at_once_after_its_probes_failed(
    tmp_path: Path, session: aiohttp.ClientSession, threads: int
) -> None:
    hung = [True]

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        await eventually(lambda: not hung[0])
        writer.write(answer())

    async with Backend(script) as backend:
        routing = config([backend.address], threads=threads, health=PROBES)
        async with harness.running(tmp_path, routing) as gateway:
            if threads:  # a thread ends what it has begun, so its probe has to end before the next one
                hung[0] = False
                await eventually(lambda: len(backend.heard) > 0)
                hung[0] = True
                patient = asyncio.create_task(get(gateway, session))
                await nothing_for(0.8)
                assert len(backend.heard) <= 4
                assert gateway.admission.in_use() == {"app": 2}
                hung[0] = False
                assert await patient == (200, "")
                await eventually(lambda: gateway.admission.in_use() == {"app": 0})
                return
            await eventually(lambda: states(gateway) == ["open"])
            assert await get(gateway, session) == UNAVAILABLE
            hung[0] = False
            await eventually(lambda: states(gateway) == ["closed"])
            assert await get(gateway, session) == (200, "")


async def test_timeouts_in_a_row_open_the_circuit_too(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with Backend(_never) as backend:
        routing = config([backend.address], timeouts={"first_byte": "50ms"})
        async with harness.running(tmp_path, routing) as gateway:
            found = await asyncio.gather(*(get(gateway, session) for _ in range(10)))
            assert set(found) == {(504, "backend_timeout")}
            assert states(gateway) == ["open"]
            assert await get(gateway, session) == UNAVAILABLE


async def test_a_client_in_a_hurry_cannot_shut_a_backend_for_others(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(_never) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            hurried = (get(gateway, session, **{"X-Request-Timeout": "0.3"}) for _ in range(15))
            assert (504, "backend_timeout") in await asyncio.gather(*hurried)
            assert states(gateway) == ["closed"]


async def test_a_client_in_a_hurry_does_not_keep_the_trial(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Its time was up before the address was known to be back or not: that is still to be found out."""
    with socket.socket() as full:  # a listener whose queue is full drops the SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        async with Backend(always(answer())) as backend:
            addresses = [f"http://127.0.0.1:{full.getsockname()[1]}", backend.address]
            routing = config(addresses, timeouts={"connect": "100ms"})
            async with harness.running(tmp_path, routing) as gateway:
                await asyncio.gather(*(get(gateway, session) for _ in range(20)))
                await eventually(lambda: states(gateway)[0] == "open")
                trials = 0
                while trials < 2:
                    hurried = [get(gateway, session, **{"X-Request-Timeout": "0.05"}) for _ in range(4)]
                    found = asyncio.gather(*hurried)
                    await head_start(0.02)
                    trials += states(gateway)[0] == "half-open"
                    await found
                    assert states(gateway)[0] == "open"
        for sock in waiting:
            sock.close()


async def test_one_dead_address_of_two_costs_no_client_anything(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    dead = free_port()
    async with Backend(always(answer())) as backend:
        routing = config([f"http://127.0.0.1:{dead}", backend.address])
        async with harness.running(tmp_path, routing) as gateway:
            found = Counter(await asyncio.gather(*(get(gateway, session) for _ in range(40))))
            assert states(gateway) == ["open", "closed"]
            found.update([await get(gateway, session) for _ in range(100)])
            assert found == {(200, ""): 140}
        assert len(backend.heard) == 140


async def test_one_hung_address_of_two_costs_nothing_once_its_circuit_is_open(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(_never) as hung, Backend(always(answer())) as backend:
        routing = config([hung.address, backend.address], health=PROBES)
        async with harness.running(tmp_path, routing) as gateway:
            await eventually(lambda: states(gateway) == ["open", "closed"])
            found = Counter([await get(gateway, session) for _ in range(100)])
            assert found == {(200, ""): 100}
        assert not [heard for heard in hung.heard if "/healthz" not in heard.line]


async def test_a_saturated_backend_is_never_unhealthy_and_is_not_probed(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    slow = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        if "/healthz" not in heard.line:
            await slow.wait()
        writer.write(answer())

    async with Backend(script) as backend:
        health = {"path": "/healthz", "interval": "100ms", "timeout": "50ms", "fall": 1}
        routing = config([backend.address], threads=2, health=health, timeouts={"queue": "50ms"})
        async with harness.running(tmp_path, routing) as gateway:
            inside = [asyncio.create_task(get(gateway, session)) for _ in range(2)]
            await eventually(lambda: gateway.admission.in_use() == {"app": 2})
            probes = len([heard for heard in backend.heard if "/healthz" in heard.line])
            refused = await asyncio.gather(*(get(gateway, session) for _ in range(20)))
            await nothing_for(0.4)
            assert set(refused) == {(503, "backend_saturated")}
            assert states(gateway) == ["closed"]
            assert len([heard for heard in backend.heard if "/healthz" in heard.line]) == probes
            slow.set()
            assert await asyncio.gather(*inside) == [(200, ""), (200, "")]


async def test_a_probe_takes_a_seat_and_a_slow_one_never_a_second(tmp_path: Path) -> None:
    async with Backend(_never) as backend:
        routing = config([backend.address], threads=3, health={**PROBES, "interval": "100ms"})
        async with harness.running(tmp_path, routing) as gateway:
            await eventually(lambda: gateway.admission.in_use() == {"app": 1})
            await nothing_for(0.5)
            assert gateway.admission.in_use() == {"app": 1}
            assert len(backend.heard) == 1


async def test_no_probe_is_sent_while_requests_succeed(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer())) as backend:
        health = {**PROBES, "interval": "300ms"}
        async with harness.running(tmp_path, config([backend.address], health=health)) as gateway:
            assert await get(gateway, session) == (200, "")
            sent = len([heard for heard in backend.heard if "/healthz" in heard.line])
            for _ in range(60):
                assert await get(gateway, session) == (200, "")
                await takes(0.02)
            assert len([heard for heard in backend.heard if "/healthz" in heard.line]) == sent
            await eventually(lambda: "/healthz" in backend.heard[-1].line)


async def test_who_waits_for_a_seat_is_told_at_once_when_the_backend_falls(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    fall = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: Writer) -> None:
        await fall.wait()
        writer.close()

    async with Backend(script) as backend:
        routing = config([backend.address], threads=5)
        async with harness.running(tmp_path, routing) as gateway:
            calls = [asyncio.create_task(get(gateway, session)) for _ in range(40)]
            await eventually(lambda: gateway.admission.waiting() == {"app": 35})
            begun = time.monotonic()
            fall.set()
            found = Counter(await asyncio.gather(*calls))
            assert time.monotonic() - begun < AT_ONCE, "the queue's time is 5 s"
            assert set(found) == {(502, "backend_reset"), UNAVAILABLE}
            assert found[UNAVAILABLE] >= 30
            assert gateway.admission.in_use() == {"app": 0}
            assert gateway.admission.waiting() == {"app": 0}


async def test_what_a_probe_may_answer_is_the_configs_to_say(tmp_path: Path) -> None:
    async with Backend(healthz("503 Service Unavailable", always(answer()))) as backend:
        for expect, state in (("200-399", "open"), ("200-399, 503", "closed")):
            health = {**PROBES, "interval": "100ms", "expect": expect}
            async with harness.running(tmp_path, config([backend.address], health=health)) as gateway:
                if state == "open":
                    await eventually(lambda: states(gateway) != ["closed"])
                    ((address,),) = [backend["addresses"] for backend in gateway.health.states()]
                    assert address["last_error"] == "probe: status 503"
                else:
                    await nothing_for(0.5)
                    assert states(gateway) == ["closed"]


async def test_server_errors_count_only_when_the_config_says_so(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer(b"", "500 Internal Server Error"))) as backend:
        for counted, last in ((False, (500, "")), (True, UNAVAILABLE)):
            routing = config([backend.address], health={"server_errors": counted})
            async with harness.running(tmp_path, routing) as gateway:
                found = [await get(gateway, session) for _ in range(6)]
                assert found == [*[(500, "")] * 5, last]


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0\r\n\r\n"])
async def test_resets_and_junk_in_a_row_open_the_circuit(
    tmp_path: Path, session: aiohttp.ClientSession, raw: bytes
) -> None:
    async with Backend(then_close(raw)) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            found = [(await get(gateway, session))[0] for _ in range(6)]
            assert found == [502] * 5 + [503]
            assert len(backend.heard) == 5


async def test_a_reload_keeps_the_circuits_and_forgets_the_addresses_that_are_gone(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config([dead])) as gateway:

        async def reload(addresses: list[str]) -> None:
            (tmp_path / "routing.yaml").write_text(yaml.safe_dump(config(addresses)))
            await gateway.live.reload()

        for _ in range(3):
            await get(gateway, session)
        assert states(gateway) == ["open"]
        await reload([dead, backend.address])
        assert states(gateway) == ["open", "closed"]
        assert await get(gateway, session) == (200, "")
        await reload([backend.address])
        assert states(gateway) == ["closed"]
        assert dead not in gateway.metrics.render()
        await reload([dead])
        assert states(gateway) == ["closed"]  # nothing is known of it any more
        assert f'address="{dead}"}} 1\n' in gateway.metrics.render()


async def test_metrics_and_the_log_tell_of_each_circuit(
    tmp_path: Path, clock: Clock, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    async with harness.running(tmp_path, config([address]), now=clock) as gateway:
        series = f'gateway_backend_healthy{{backend="app",address="{address}"}}'
        assert f"{series} 1\n" in gateway.metrics.render()
        with caplog.at_level("WARNING"):
            for _ in range(3):
                await get(gateway, session)
        assert f"{series} 0\n" in gateway.metrics.render()
        assert 'gateway_circuit_transitions_total{backend="app",state="open"} 1\n' in gateway.metrics.render()
        (record,) = caplog.records
        assert f"The circuit of {address} (backend app) is open after 3 failures" in record.getMessage()
        async with Backend(always(answer()), port=port):
            clock.passes(0.26)
            assert await get(gateway, session) == (200, "")
        assert f"{series} 1\n" in gateway.metrics.render()
        for state in ("half-open", "closed"):
            assert f'_transitions_total{{backend="app",state="{state}"}} 1\n' in gateway.metrics.render()
