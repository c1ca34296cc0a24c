"""What the admin listener shows of many routes, backends and tenants leaves the event loop to requests.

Counted in turns of the loop, not in time: a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.admin.pieces import gathered
from gateway.admission import view
from gateway.app import Gateway
from gateway.core.redact import redact, redact_pieces
from tests import harness
from tests.support.admin import admin_of


@contextmanager
def turns() -> Iterator[Callable[[], int]]:
    """How often others had their turn."""
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    try:
        yield lambda: count
    finally:
        task.cancel()


async def test_others_run_after_each_slice_and_after_each_step_of_work() -> None:
    with turns() as count:
        assert await gathered(["a"] * 10) == b"a" * 10
        assert count() == 0
        assert await gathered(["é" * 1000] * 200) == "é".encode() * 200_000
        assert 10 <= count() <= 20
        before = count()
        await gathered([""] * 50)
        assert count() - before >= 50
        before = count()
        await gathered(["a"] * 10_000)  # a piece costs, whatever its length
        assert count() - before >= 50


def large(count: int) -> dict[str, Any]:
    """This many routes to as many backends."""
    backends = {
        f"b{n}": {"kind": "gunicorn", "threads": 4, "addresses": [f"http://127.0.0.1:{n + 1}"]}
        for n in range(count)
    }
    routes = [harness.route(f"r{n}", f"b{n}") for n in range(count)]
    return harness.routing(routes, backends=backends)


@asynccontextmanager
async def large_admin(folder: Path) -> Any:
    async with admin_of(folder) as asked:
        (folder / "routing.yaml").write_text(json.dumps(large(300)))  # JSON is YAML
        await asked.gateway.reload()
        assert len(asked.gateway.live.current.table.routes) == 300
        yield asked


def used(gateway: Gateway) -> None:
    """Every route has answered some, and a crowd of tenants waits for one backend."""
    for n in range(300):
        for status in (200, 404, 503):
            gateway.metrics.observe(f"r{n}", status, f"t{n}", 0.01)


@pytest.mark.parametrize("path", ["/metrics", "/admin/health", "/admin/admission"])
async def test_a_large_view_is_made_in_slices_and_is_whole(tmp_path: Path, path: str) -> None:
    async with large_admin(tmp_path) as asked:
        used(asked.gateway)
        with turns() as count:
            await asked.ask("/livez")
            small = count()
            _, _, shown = await asked.ask(path)
            assert count() - small >= small + 8
    if path == "/metrics":
        families = {family.name: family for family in text_string_to_metric_families(shown)}
        assert len(families["gateway_request_seconds"].samples) == 300 * 3 * 18
    else:
        assert len(shown["backends"]) == 300


async def test_the_text_of_a_large_config_is_read_for_secrets_in_slices(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        text = json.dumps(large(400), indent=1) + "\n# see https://user:hunter2@example.com/\n"
        (tmp_path / "routing.yaml").write_text(text)
        await asked.gateway.reload()
        with turns() as count:
            await asked.ask("/livez")
            small = count()
            _, _, shown = await asked.ask("/admin/config?text")
            assert count() - small >= small + 8
    assert shown == text.replace("user:hunter2", "***")


@pytest.mark.parametrize("key", ["", "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"])
def test_pieces_hide_what_the_whole_would(key: str) -> None:
    text = "# token: secret\nurl: https://me:secret@a.example/\n" * 500 + key + "last: line"
    assert "".join(redact_pieces(text)) == redact(text)
    assert "secret" not in redact(text)


async def test_a_refused_config_with_many_problems_is_shown_in_slices(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        routes = [harness.route(f"r{n}", "nobody") for n in range(300)]
        (tmp_path / "routing.yaml").write_text(json.dumps(harness.routing(routes)))
        await asked.gateway.reload()
        with turns() as count:
            await asked.ask("/livez")
            small = count()
            _, _, shown = await asked.ask("/admin/config")
            assert count() - small >= small + 3
    assert len(shown["refused"]["problems"]) >= 100


def test_ten_thousand_tenants_that_wait_are_looked_at_in_steps() -> None:
    queues = {f"t{n}": OrderedDict.fromkeys(range(1 + n % 7), 0.0) for n in range(10_000)}
    flows = {key: SimpleNamespace(key=key, queue=queue) for key, queue in queues.items()}
    waiting = sum(map(len, queues.values()))
    queue: Any = SimpleNamespace(fair=SimpleNamespace(waiting=waiting, flows=flows))
    steps = 0
    looking = view.waiting_by_tenant(queue)
    while True:
        try:
            next(looking)
            steps += 1
        except StopIteration as end:
            shown = end.value
            break
    assert steps >= 9
    assert len(shown) == 101
    assert sum(shown.values()) == waiting
    assert set(list(shown.values())[:100]) == {7}


def test_while_nobody_waits_no_tenant_is_looked_at() -> None:
    queue: Any = SimpleNamespace(fair=SimpleNamespace(waiting=0, flows=None))
    assert list(view.waiting_by_tenant(queue)) == []
