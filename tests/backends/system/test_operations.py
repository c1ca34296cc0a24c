"""What an operator does with the running system: probes, metrics, logs, signals."""

from __future__ import annotations

import json
import signal

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.backends.system.whole import ROOT, Whole, alive, spawn, wait_ready, whole, write_config
from tests.eventually import AT_ONCE, eventually, eventually_await, nothing_for

pytestmark = pytest.mark.whole


async def test_metrics_are_strict_openmetrics_with_the_process_gauges_and_no_raw_path(system: Whole) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(system.url("/catalog/secret-path-7"), headers=system.bearer()) as response:
            assert response.status == 404
        counted = None
        while counted is None:  # a request is counted when it has ended, and its client may know first
            async with session.get(system.admin + "/metrics") as response:
                assert response.headers["Content-Type"].startswith("application/openmetrics-text")
                text = await response.text()
            families = {family.name: family for family in text_string_to_metric_families(text)}
            samples = {
                (s.name, s.labels.get("route"), s.labels.get("status")): s.value
                for s in families["gateway_request_seconds"].samples
            }
            counted = samples.get(("gateway_request_seconds_count", "catalog", "4xx"))
    assert counted >= 1
    tenants = {s.labels["tenant"] for s in families["gateway_tenant_requests"].samples}
    assert "acme" in tenants
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert "process_cpu_seconds" in families
    assert "secret-path" not in text


async def test_each_call_is_one_json_line_that_says_who_where_and_how_long(system: Whole) -> None:
    async with aiohttp.ClientSession(headers=system.bearer("globex")) as session:
        async with session.get(system.url("/catalog/products?hidden=1")) as response:
            request_id, size = response.headers["X-Request-ID"], len(await response.read())
    log = system.folder / "var" / "access.log"
    await eventually(lambda: request_id in log.read_text())
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    mine = [line for line in lines if line["id"] == request_id]
    assert len(mine) == 1
    line = mine[0]
    assert (line["tenant"], line["subject"], line["route"], line["backend"]) == (
        "globex",
        "alice",
        "catalog",
        "catalog",
    )
    assert (line["status"], line["method"]) == (200, "GET")
    assert line["bytes_out"] >= size
    assert 0 < line["ms_backend"] <= line["ms_total"]
    assert line["ms_queue"] < 50
    assert "hidden" not in text
    assert "eyJ" not in text


async def test_sighup_loads_the_config_at_once_and_reopens_the_log(system: Whole) -> None:
    original = system.routing.read_text()
    log = system.folder / "var" / "access.log"
    try:
        async with aiohttp.ClientSession() as session:
            log.rename(log.with_suffix(".1"))
            system.routing.write_text(original + "\n# said again\n")
            system.process.send_signal(signal.SIGHUP)
            await eventually(log.exists)
            async with session.get(system.url("/documents/"), headers=system.bearer()) as response:
                request_id = response.headers["X-Request-ID"]
            await eventually(lambda: request_id in log.read_text())
    finally:
        system.routing.write_text(original)


async def test_a_bad_edit_is_shown_with_all_its_problems_beside_the_live_revision(system: Whole) -> None:
    original = system.routing.read_text()
    try:
        async with aiohttp.ClientSession() as session:

            async def shown() -> dict[str, object]:
                async with session.get(system.admin + "/admin/config") as response:
                    found: dict[str, object] = await response.json()
                    return found

            async def refusal() -> object:
                return (await shown())["refused"]

            async def no_refusal() -> bool:
                return await refusal() is None

            before = await shown()
            system.routing.write_text(original.replace("target: pricing", "target: prising") + "\nextra: 1\n")
            refused = await eventually_await(refusal)
            assert (await shown())["revision"] == before["revision"]
            assert isinstance(refused, dict)
            assert [p["path"] for p in refused["problems"]] == ["routes[4].target", "extra"]
            assert refused["problems"][1]["line"] == original.count("\n") + 2
            system.routing.write_text(original)
            await eventually_await(no_refusal)
    finally:
        system.routing.write_text(original)
    assert "the key 'extra' is unknown" in system.log()


async def test_readiness_ends_when_draining_begins_and_calls_in_flight_are_finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("drain")
    public, admin = write_config(folder)
    conf = folder / "gateway.conf"
    conf.write_text(conf.read_text().replace("pre_stop = 0", "pre_stop = 3"))
    system = Whole(folder, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}", spawn(folder))
    wait_ready(system)
    children = system.children()
    async with aiohttp.ClientSession() as session:
        stream = await session.get(system.url("/events/events/stream"), headers=system.bearer())
        assert stream.status == 200
        system.process.send_signal(signal.SIGTERM)

        async def unready() -> bool:
            async with session.get(system.admin + "/readyz") as response:
                return response.status == 503

        await eventually_await(unready)
        async with session.get(system.admin + "/readyz") as response:
            assert (response.status, await response.text()) == (503, "draining\n")
        async with session.get(system.admin + "/livez") as response:
            assert response.status == 200
        async with session.get(system.url("/documents/"), headers=system.bearer()) as response:
            assert response.status == 200, "it accepts until pre_stop has passed"
            assert response.headers["Connection"] == "close"
        stream.close()
    await eventually(lambda: system.process.poll() is not None)
    assert system.process.returncode == 0
    assert not any(alive(pid) for pid in children)


async def test_a_second_sigterm_ends_all_of_it_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    with whole(tmp_path_factory.mktemp("twice")) as system:
        children = system.children()
        async with aiohttp.ClientSession() as session:
            stream = await session.get(system.url("/events/events/stream"), headers=system.bearer())
            assert stream.status == 200
            system.process.send_signal(signal.SIGTERM)
            await nothing_for(0.3)
            assert system.process.poll() is None, "it waits for the stream"
            system.process.send_signal(signal.SIGTERM)
            await eventually(
                lambda: system.process.poll() is not None and not any(map(alive, children)), end=AT_ONCE
            )
            stream.close()


def test_the_projects_own_config_is_clean() -> None:
    from gateway.cli.main import main

    assert main(["check", "-c", str(ROOT / "config" / "gateway.conf")]) == 0
