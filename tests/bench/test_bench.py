"""The bench measures what it says: no timing is asserted here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from gateway.config.compilation import compile_text
from tests.bench import machine
from tests.bench.__main__ import main
from tests.bench.load import closed
from tests.bench.load.slow_clients import Plan
from tests.bench.parts import routing_table, shields, token_cost, workers
from tests.bench.parts.proxy import Turn, summarise, why_void
from tests.bench.parts.reload import replace
from tests.bench.reports import report
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders, shield_app
from tests.bench.sites.backend import BODY
from tests.bench.sites.contenders import CONTENDERS, ContenderWrong, Site
from tests.bench.sites.servers import Server, ServerFailed, answers
from tests.support.ports import free_port

CHECKS = {
    "backend.conf": ["nginx", "-t", "-q", "-c"],
    "nginx.conf": ["nginx", "-t", "-q", "-c"],
    "shield_nginx.conf": ["nginx", "-t", "-q", "-c"],
    "haproxy.cfg": ["haproxy", "-c", "-q", "-f"],
    "Caddyfile": ["caddy", "validate", "--adapter", "caddyfile", "--config"],
}


@pytest.fixture
def slow_backend(tmp_path: Path) -> Iterator[Server]:
    """The backend in Python, which asks for no token."""
    port = free_port()
    with Server(
        "backend", [sys.executable, "-m", "tests.bench.sites.backend", str(port)], port, tmp_path
    ) as server:
        yield server


def turn(rps: float, void: str = "") -> Turn:
    return Turn(rps, 1.0, 2.0, 0, 1.0, 99.0, 50.0, void)


def test_a_quick_run_writes_its_result_as_json_and_compares_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--quick", "--only", "table", "--json", "result.json"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["version"] == 1 and result["machine"]["cores"] and "proxy" not in result
    rows = result["table"]["rows"]
    assert {(row["traffic"], row["kind"]) for row in rows} == {
        (traffic, kind) for traffic in routing_table.TRAFFIC for kind in routing_table.KINDS
    }
    assert all(list(row["best_ns"]) == ["10", "1000", "10000"] for row in rows)
    assert [path.suffix for path in (tmp_path / "var/bench").iterdir()] == [".json"]
    assert "10,000 routes" in capsys.readouterr().out
    assert main(["--compare", "result.json", "result.json"]) == 0
    assert "+0.0 %" in capsys.readouterr().out


def test_each_benched_path_is_matched_by_the_route_of_its_kind_and_a_miss_by_none() -> None:
    table = routing_table.table_of(30)
    for kind in ("static", "param", "rest"):
        route, _ = table.match("GET", "", routing_table._CALLS[kind].format(n=7))
        assert route.name == f"{kind}-7"
    with pytest.raises(routing_table.NoRoute):
        table.match("GET", "", routing_table._CALLS["miss"].format(n=7))


@pytest.mark.parametrize("name", CHECKS)
def test_a_contenders_config_is_accepted_by_it(name: str, tmp_path: Path) -> None:
    program, *flags = CHECKS[name]
    path = machine.find(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    config = Site(tmp_path).fill(name, free_port())
    assert "@" not in config.read_text()
    done = subprocess.run([path, *flags, str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_gateways_routing_config_is_clean_and_of_a_thousand_routes(tmp_path: Path) -> None:
    for extra in ("", "/edited"):
        text = Site(tmp_path).routing(extra)
        assert len(compile_text(text, lambda backend: None, "").table.routes) == contenders.ROUTES


def test_a_contender_that_does_not_keep_its_policy_is_found_out(slow_backend: Server, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write_keys()
    contenders.check(CONTENDERS["direct"], slow_backend.port, site)
    with pytest.raises(ContenderWrong, match="with no token it answered 200"):
        contenders.check(CONTENDERS["haproxy"], slow_backend.port, site)


def test_the_gateway_and_haproxy_keep_the_policy_that_is_said_of_them(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with contenders.backend(site):
        for name in ("gateway", "haproxy"):
            if name in contenders.missing():
                continue
            with contenders.server(name, site) as server:
                contenders.check(CONTENDERS[name], server.port, site)


@pytest.mark.parametrize("body", [0, 4096])
@pytest.mark.parametrize("generator", ["wrk", "h2load", "python"])
def test_a_load_generator_counts_answers_errors_and_bytes(
    generator: str, body: int, slow_backend: Server
) -> None:
    if generator != "python" and machine.find(generator) is None:
        pytest.skip(f"{generator} is not installed")
    url = f"http://127.0.0.1:{slow_backend.port}/item"
    found = closed.run(generator, url, {"Authorization": "Bearer x"}, 2, 0.5, body)
    assert found.rps > 0 and found.errors == 0 and 0 < found.p50 <= found.p99
    assert found.mib * 2**20 >= found.rps * len(BODY)


def test_the_paced_load_keeps_its_rate(slow_backend: Server) -> None:
    if machine.find("h2load") is None:
        pytest.skip("h2load is not installed")
    found = closed.paced(f"http://127.0.0.1:{slow_backend.port}/item", {}, 200, 1)
    assert found.errors == 0 and found.rps == 200 and 0 < found.p50 <= found.p99


def test_a_bar_is_met_at_its_limit_and_never_by_nothing() -> None:
    assert bar("", 0.4, 0.4, 0.6, least=True)["met"] and not bar("", 0.39, 0.4, least=True)["met"]
    assert bar("", 2.0, 2.0)["met"] and not bar("", 2.1, 2.0)["met"]
    assert bar("", 0.5, 0.4, 0.6, least=True)["moonshot_met"] is False
    assert bar("", None, 1.0)["met"] is False and bar("", 1.0, 1.0)["moonshot_met"] is None


def test_unseen_tokens_are_timed_for_both_algorithms_and_shown(tmp_path: Path) -> None:
    found = token_cost.run(tmp_path, 4)
    assert [row["algorithm"] for row in found["rows"]] == ["EdDSA", "HS256"] and len(found["bars"]) == 2
    console = Console(width=120, file=None)
    with console.capture() as captured:
        console.print(report.token(found))
    assert "HS256: verification of an unseen token" in captured.get()


def test_the_client_proxy_passes_paths_and_bodies(slow_backend: Server, tmp_path: Path) -> None:
    site = Site(tmp_path, backend_port=slow_backend.port)
    site.write_keys()
    with contenders.server("client", site) as server:
        contenders.check(CONTENDERS["client"], server.port, site)
        url = f"http://127.0.0.1:{server.port}/bench/item"
        tries = (closed.run("python", url, {}, 2, 0.3, 4096) for _ in range(20))  # busy: perhaps no answer
        assert next(found for found in tries if found.rps).errors == 0


def test_the_shielded_app_counts_who_is_inside_and_what_came_on_a_kept_connection() -> None:
    class Connection:
        pass

    counts, one, two = shield_app._Counts(), Connection(), Connection()
    for connection in (one, two, one):
        counts.enter(connection)
    counts.leave()
    assert counts.take() == {"inside": 2, "most": 3, "served": 3, "reused": 1}
    assert counts.take() == {"inside": 2, "most": 2, "served": 0, "reused": 0}


@pytest.mark.parametrize("addresses", [1, 300])
def test_the_shields_routing_config_is_clean_and_gives_each_address_its_seats(addresses: int) -> None:
    compiled = compile_text(shields.routing(8000, addresses), lambda backend: None, "")
    assert len(compiled.table.routes) == addresses
    assert {backend.threads for backend in compiled.backends.values()} == {shields.THREADS}


def test_the_gateway_hands_the_slow_upload_over_whole(tmp_path: Path) -> None:
    with shields._site(tmp_path / "site", "gateway") as (site, server, prefix):
        shields._counts(site)  # the bench looked whether it answers
        plan = Plan(server.port, 20, prefix, f"Bearer {site.token()}")
        with shields._slow("upload", plan) as clients:
            found = shields._finish(clients)
        assert found["statuses"] == {"200": 20} and found["whole"] == 20
        assert shields._counts(site)["served"] == 20 and shields.complaints(server) == []


def test_the_answer_is_150_bytes() -> None:
    assert len(BODY) == 150


def test_a_server_that_ends_is_reported_with_what_it_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such file'); raise SystemExit(1)"]
    with pytest.raises(ServerFailed, match="no such file"), Server("gone", command, free_port(), tmp_path):
        pass


def test_a_server_is_gone_after_its_with(tmp_path: Path) -> None:
    port = free_port()
    with Server(
        "backend", [sys.executable, "-m", "tests.bench.sites.backend", str(port)], port, tmp_path
    ) as server:
        assert answers(port) and server.cpu_seconds() > 0
    assert not answers(port) and server.cpu_seconds() == 0


def test_a_turn_is_void_when_the_tested_server_was_idle_or_the_load_core_full() -> None:
    assert why_void(99.0, 60.0, 0) == ""
    assert why_void(80.0, 60.0, 0) == "the tested server was 80 % busy"
    assert why_void(99.0, 99.0, 0) == "the load core was 99 % busy"
    assert why_void(99.0, 60.0, 3) == "3 requests failed"
    assert why_void(None, 100.0, 0) == ""  # the ceiling


def test_ratios_are_paired_by_round_and_leave_void_turns_out() -> None:
    gateway = [turn(10), turn(20), turn(5, void="noise"), turn(30)]
    nginx = [turn(20), turn(80), turn(100), turn(100)]
    found = summarise(CONTENDERS["nginx"], nginx, gateway)
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (0.3, 0.25, 0.5)
    assert (found["valid_pairs"], found["void"], found["rps"]) == (3, 0, 90)


def test_workers_are_compared_with_what_had_the_same_round() -> None:
    assert workers.ratio([9.0, 5.0, 8.0], [10.0, 10.0, 10.0]) == {"median": 0.8, "min": 0.5, "max": 0.9}


def test_a_contender_whose_turns_are_all_void_is_marked_as_no_proof() -> None:
    gateway, nginx = [turn(10)], [turn(40, void="the tested server was 60 % busy")]
    rows = {
        name: summarise(CONTENDERS[name], t, gateway) for name, t in (("gateway", gateway), ("nginx", nginx))
    }
    shape = {"generator": "wrk", "backend": "nginx", "connections": 32, "rounds": 1, "seconds": 3}
    console = Console(width=120, file=None)
    with console.capture() as captured:
        console.print(report.proxy({**shape, "contenders": rows}))
    assert "~40" in captured.get() and "~0.25" in captured.get() and "1 of 1" in captured.get()


def test_an_edit_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text("old")
    before = path.stat().st_ino
    replace(path, "new")
    assert path.read_text() == "new" and path.stat().st_ino != before
