"""The whole system under load: a backend is killed, the gateway is killed, the config is edited."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.backends.system.whole import Whole, alive, backend_pid, spawn, whole, write_config
from tests.eventually import AT_ONCE, END, eventually, eventually_await, nothing_for, takes

pytestmark = [pytest.mark.asyncio, pytest.mark.whole]


async def test_a_killed_backend_is_back_soon_and_nothing_is_executed_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with whole(tmp_path_factory.mktemp("kill")) as system:
        acknowledged: list[str] = []
        answers: list[tuple[float, int]] = []
        stop = asyncio.Event()
        bearer = system.bearer()
        async with aiohttp.ClientSession() as session:

            async def write(worker: int) -> None:
                for number in range(10_000):
                    if stop.is_set():
                        return
                    sku = f"W{worker}-{number}"
                    product = {"sku": sku, "name": "thing", "price": "1.00"}
                    async with session.post(
                        system.url("/catalog/products"), json=product, headers=bearer
                    ) as response:
                        answers.append((time.monotonic(), response.status))
                        # 409 would say that this very request was executed before
                        assert response.status in (201, 502, 503), await response.text()
                        if response.status == 201:
                            acknowledged.append(sku)
                    await takes(0.01)

            workers = [asyncio.create_task(write(n)) for n in range(8)]
            await eventually(lambda: len(acknowledged) >= 8)
            alone = await _start_time(system)
            await eventually(lambda: all(status == 201 for _, status in answers[-8:]))
            begun = len(answers)
            os.killpg(backend_pid(system, "catalog"), signal.SIGKILL)
            killed = time.monotonic()
            await eventually(lambda: any(status != 201 for _, status in answers[begun:]))
            await eventually(lambda: all(status == 201 for _, status in answers[-8:]), end=alone + END)
            stop.set()
            await asyncio.gather(*workers)

            bad = [moment for moment, status in answers[begun:] if status != 201]
            print(f"served again {max(bad) - killed:.2f} s after the kill; a start alone takes {alone:.2f} s")
            await _each_is_there_once(system, session, acknowledged)


async def _start_time(system: Whole) -> float:
    """How long the catalog takes from its start to its first healthy answer, alone, restarted by hand."""
    pid = backend_pid(system, "catalog")
    begun = time.monotonic()
    os.killpg(pid, signal.SIGKILL)

    async def back() -> bool:
        states = await asyncio.to_thread(_states, system)
        with_pid = next(s for s in states if s["name"] == "catalog")
        return with_pid["pid"] not in (None, pid) and with_pid["state"] == "running"

    await eventually_await(back)
    return time.monotonic() - begun


def _states(system: Whole) -> list[dict[str, object]]:
    import urllib.request

    with urllib.request.urlopen(system.admin + "/admin/backends", timeout=30) as answer:
        found: list[dict[str, object]] = json.loads(answer.read())["backends"]
        return found


async def _each_is_there_once(system: Whole, session: aiohttp.ClientSession, skus: list[str]) -> None:
    found: Counter[str] = Counter()
    path = "/catalog/products?limit=100"
    while path:
        async with session.get(system.url(path), headers=system.bearer()) as response:
            page = await response.json()
        found.update(item["sku"] for item in page["items"])
        path = page["next"].removeprefix(system.public) if page["next"] else ""
    assert set(skus) <= set(found)
    assert max(found.values()) == 1


async def test_killing_the_gateway_leaves_no_child(tmp_path_factory: pytest.TempPathFactory) -> None:
    with whole(tmp_path_factory.mktemp("orphans")) as system:
        children = system.children()
        assert len(children) >= 6, "four backends, and a worker for each gunicorn"
        system.process.kill()
        await eventually(lambda: not any(alive(pid) for pid in children))


async def test_a_terminated_gateway_leaves_no_child_and_exits_0(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with whole(tmp_path_factory.mktemp("term")) as system:
        children = system.children()
        system.process.send_signal(signal.SIGTERM)
        await eventually(lambda: system.process.poll() is not None)
        assert system.process.returncode == 0
        assert not any(alive(pid) for pid in children)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        pytest.param("port", "the port is in use", id="port in use"),
        pytest.param("admin", "the port is in use", id="admin port in use"),
        pytest.param("routing", "there is no backend 'nowhere'", id="bad routing config"),
        pytest.param("conf", "did you mean 'listen'?", id="bad process config"),
    ],
)
async def test_what_cannot_start_says_why_and_exits_1(
    tmp_path: Path, system: Whole, break_it: str, message: str
) -> None:
    public, admin = write_config(tmp_path)
    conf, routing = tmp_path / "gateway.conf", tmp_path / "routing.yaml"
    taken = {"port": (public, system.public), "admin": (admin, system.admin)}
    if break_it in taken:
        port, busy = taken[break_it]
        conf.write_text(conf.read_text().replace(f":{port}", f":{busy.rpartition(':')[2]}"))
    elif break_it == "routing":
        routing.write_text(routing.read_text().replace("target: pricing", "target: nowhere"))
    else:
        conf.write_text(conf.read_text().replace("[admin]", "[admin]\nlissten = x"))
    process = spawn(tmp_path)
    await eventually(lambda: process.poll() is not None)
    log = (tmp_path / "log").read_text()
    assert process.returncode == 1, log
    assert message in log
    assert "Traceback" not in log
    assert "is ready" not in log


def _routing(edit: int, good: bool) -> str:
    """The project's routes, one more that names the edit, and for a bad edit a mistake."""
    text = (Path(__file__).parents[3] / "config" / "routing.yaml").read_text()
    marker = f"\n  - {{ name: edit-{edit}, path: /edit/{edit}, target: documents, strip: /edit }}\n"
    wrong = [
        "  - { name: wrong, path: /wrong, target: nowhere }\n",
        "  - { name: wrong, path: wrong, target: documents }\n",
        "nonsense: [\n",
        "  - { name: edit, pth: /x, target: documents }\n",
    ]
    return text + marker + ("" if good else wrong[edit % len(wrong)])


async def test_edits_under_load_fail_no_request_and_only_good_ones_go_live(system: Whole) -> None:
    edits = int(os.environ.get("GATEWAY_TEST_EDITS", "24"))
    original, failed, live_after = system.routing.read_text(), Counter[int](), []
    bearer, stop, sent = system.bearer(), asyncio.Event(), 0
    paths = ["/documents/", "/catalog/products", "/pricing/prices", "/events/events"]
    async with aiohttp.ClientSession() as session:

        async def one(path: str) -> None:
            async with session.get(system.url(path), headers=bearer) as response:
                await response.read()
                if response.status != 200:
                    failed[response.status] += 1

        async def load() -> None:
            nonlocal sent
            calls: set[asyncio.Task[None]] = set()
            begun = time.monotonic()
            while not stop.is_set():
                call = asyncio.create_task(one(paths[sent % len(paths)]))
                calls.add(call)
                call.add_done_callback(calls.discard)
                sent += 1
                await takes(max(0, begun + sent / 100 - time.monotonic()))
            await asyncio.gather(*calls)

        async def is_live(edit: int) -> bool:
            async with session.get(system.url(f"/edit/{edit}"), headers=bearer) as response:
                return (await response.json()).get("code") != "no_route"

        loading = asyncio.create_task(load())
        try:
            for edit in range(edits):
                good = edit % 3 != 2
                beside = system.routing.with_suffix(".new")
                beside.write_text(_routing(edit, good))
                if edit % 2:
                    beside.replace(system.routing)  # as careful editors save
                else:
                    system.routing.write_text(_routing(edit, good))  # as the others do
                written = time.monotonic()
                if good:
                    await eventually_await(lambda: is_live(edit), lambda: f"edit {edit}")  # noqa: B023 (now)
                    live_after.append(time.monotonic() - written)
                else:
                    await nothing_for(0.4)
                    assert not await is_live(edit), f"edit {edit}"
        finally:
            stop.set()
            await loading
            system.routing.write_text(original)
        async with session.get(system.admin + "/metrics") as response:
            metrics = await response.text()
    print(f"{edits} edits, {sent} requests, slowest good edit live after {max(live_after):.2f} s")
    assert not failed
    assert sorted(live_after)[len(live_after) // 2] < AT_ONCE, "half of them: a machine may stall"
    assert 'gateway_config_reloads_total{result="refused"}' in metrics
