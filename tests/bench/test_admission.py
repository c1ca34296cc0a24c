"""The bench of admission measures what it says: no timing is asserted here."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from gateway.config.compilation import compile_text
from tests.bench import admission_cost
from tests.bench.load import open as open_load
from tests.bench.load.open import Answer, Seen, Stream
from tests.bench.parts import admission, admission_fronts
from tests.bench.parts.admission import CASES, Case
from tests.bench.reports import admission as report_admission
from tests.bench.reports import admission_plot
from tests.bench.sites.servers import Server
from tests.support.ports import free_port


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    with Server(
        "backend", [sys.executable, "-m", "tests.bench.sites.backend", str(port)], port, tmp_path
    ) as server:
        yield server


def test_even_arrivals_keep_their_rate_and_stay_within_five_percent_of_their_places() -> None:
    due = list(Stream("a", "/", "", 10.0, end=100.0, begin=20.0).schedule(1))
    assert 799 <= len(due) <= 801 and due[0] >= 20.0 and due[-1] < 100.0
    off = [at - due[0] - number / 10 for number, at in enumerate(due)]
    assert max(map(abs, off)) <= 0.005 + 1e-9 and len({round(one, 4) for one in off}) > 50


def test_poisson_arrivals_keep_their_rate_and_are_not_even() -> None:
    due = list(Stream("a", "/", "", 100.0, end=100.0, poisson=True).schedule(1))
    apart = [two - one for one, two in itertools.pairwise(due)]
    assert 9_500 < len(due) < 10_500 and min(apart) > 0 and max(apart) > 0.05


def test_the_open_load_sees_each_answer_by_tenant(backend: Server) -> None:
    streams = [Stream("a", "/item", "x", 100.0, 0.5), Stream("b", "/item", "", 20.0, 0.5)]
    seen = open_load.run([backend.port], streams, 2.0)
    assert 49 <= len(seen.answers["a"]) <= 51 and 9 <= len(seen.answers["b"]) <= 11
    assert {one.status for rows in seen.answers.values() for one in rows} == {200}
    assert all(one.ms > 0 for one in seen.answers["a"])


def test_the_open_load_asks_at_several_ports_by_turns() -> None:
    with socket.socket() as one, socket.socket() as other:
        for silent in (one, other):
            silent.bind(("127.0.0.1", 0))
            silent.listen(100)
            silent.setblocking(False)
        ports = [silent.getsockname()[1] for silent in (one, other)]
        open_load.run(ports, [Stream("a", "/", "", 50.0, 0.2)], 1.0)
        assert [accepted(silent) for silent in (one, other)] == [5, 5]


def accepted(listener: socket.socket) -> int:
    """How many connections it has."""
    for number in itertools.count():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return number
    raise AssertionError


def test_who_is_not_answered_in_time_leaves_and_counts_from_when_it_was_due() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        seen = open_load.run([silent.getsockname()[1]], [Stream("a", "/", "", 50.0, 0.2)], 0.3)
    rows = seen.answers["a"]
    assert len(rows) == 10 and {one.status for one in rows} == {0} and min(one.ms for one in rows) >= 300


def test_a_connection_that_breaks_counts_as_unanswered() -> None:
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", 0))
        rude.listen(100)
        rude.settimeout(5)

        def slam() -> None:
            for _ in range(3):
                connection, _ = rude.accept()
                connection.recv(10)
                connection.close()

        thread = threading.Thread(target=slam)
        thread.start()
        seen = open_load.run([rude.getsockname()[1]], [Stream("a", "/", "", 30.0, 0.1)], 2.0)
        thread.join()
    assert [one.status for one in seen.answers["a"]] == [0, 0, 0]


@pytest.mark.parametrize("hung", [0, 9001])
def test_the_routing_config_is_clean_and_gives_seats_reserve_and_weights(hung: int) -> None:
    text = admission_fronts.routing(9000, 0, {"one": 1.0, "three": 3.0}, hung)
    compiled = compile_text(text, lambda backend: None, "")
    assert len(compiled.backends) == len(compiled.table.routes) == 1 + bool(hung)
    assert all((one.threads, one.reserve) == (8, 0) for one in compiled.backends.values())
    assert compiled.tenants["three"].weight == 3.0


def seen_of(quiet: list[Answer], noisy: list[Answer], late: float = 1.0, busy: float = 50.0) -> Seen:
    return Seen({"quiet": quiet, "noisy-0": noisy}, late, busy)


def test_a_row_leaves_the_start_out_and_counts_what_was_served_in_its_time() -> None:
    quiet = [Answer(9.9, 5000.0, 200), Answer(11.0, 60.0, 200), Answer(19.0, 1.0, 503)]
    noisy = [Answer(9.0, 2000.0, 200), Answer(12.0, 4.0, 429), Answer(19.9, 500.0, 200)]
    row = admission.summarise(Case("x", long=20), seen_of(quiet, noisy), 10.0, 20.0, 2.0)
    assert (row["requests"], row["answered"], row["p99_ms"]) == (2, 0.5, 60.0)
    assert (
        row["served_s"] == 2.2 and row["of_capacity"] == 1.1
    )  # two of the quiet one, a long one: 22 in 10 s
    assert (row["refused"], row["refused_p99_ms"]) == (1, 4.0)


def test_a_turn_is_void_when_the_load_was_late_or_its_core_full() -> None:
    assert admission.why_void(seen_of([], [])) == ""
    assert admission.why_void(seen_of([], [], late=12.3)) == "the load process was 12.3 ms late"
    assert admission.why_void(seen_of([], [], busy=99.0)) == "the load core was the limit"


def test_cases_that_are_asked_for_come_beside_the_quiet_tenant_alone() -> None:
    assert [case.name for case in admission.chosen(True, ["two nodes"])] == ["alone", "gateway, two nodes"]
    assert admission.chosen(False) == CASES and len(admission.chosen(True)) < len(CASES)
    with pytest.raises(
        ValueError, match="no case of admission has 'three' in its name: 'alone', 'gateway', "
    ):
        admission.chosen(False, ["three"])


def test_the_farthest_from_its_fair_share_counts() -> None:
    assert admission.deviation({"a": 10, "b": 30}, {"a": 1.0, "b": 3.0}) == 0
    assert admission.deviation({"a": 12, "b": 28}, {"a": 1.0, "b": 3.0}) == pytest.approx(0.2)
    assert admission.deviation({"a": 0, "b": 0}, {"a": 1.0, "b": 1.0}) == 1.0


def test_an_overload_is_over_when_nearly_all_are_quick_again_and_stay_so() -> None:
    quick = [Answer(n / 10, 50.0, 200) for n in range(100)]
    assert admission.recovered(quick, 0.0, 10.0, 50.0) == 0.0
    slow = [Answer(one.due, 400.0, 200) if one.due < 1.2 else one for one in quick]
    assert admission.recovered(slow, 0.0, 10.0, 50.0) == 1.5
    relapsed = [Answer(one.due, 1.0, 503) if 4.0 <= one.due < 4.2 else one for one in slow]
    assert admission.recovered(relapsed, 0.0, 10.0, 50.0) == 4.5


def test_each_cases_tenants_ask_as_it_says() -> None:
    for case in CASES:
        asked = admission.streams(case, 5.0)
        assert [one.rate for one in asked] == [10.0, *[400.0] * case.noisy]
    assert admission.streams(Case("x", long=20), 5.0)[1].path == "/wait/1000"


def test_the_costs_are_measured() -> None:
    assert admission_cost._take(100, 10) > 0
    assert asyncio.run(admission_cost._decide(50)) > 0
    assert isinstance(asyncio.run(admission_cost._idle(2_000)), int)


def test_the_picture_is_whole_xml_with_a_line_and_a_name_for_each() -> None:
    good = [(n / 10, 50.0 + n, 200) for n in range(100)]
    bad = [(due, ms, 200 if n % 2 else 503) for n, (due, ms, _) in enumerate(good)]
    text = admission_plot.draw({"gateway": good, "a & b": bad, "none": [(0.9, 10_000.0, 0)] * 9}, 1.0)
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(text)
    lines = [one.attrib["points"].split() for one in root.iter(f"{space}polyline")]
    assert [len(points) for points in lines] == [10, 5, 0]  # as long as the shortest
    names = {"".join(one.itertext()) for one in root.iter(f"{space}text")}
    assert {"gateway", "a & b", "none", "10 s"} <= names and "prefers-color-scheme: dark" in text


def test_names_at_the_ends_do_not_cover_each_other() -> None:
    rows = [(n / 10, 9_000.0, 200) for n in range(50)]
    root = ElementTree.fromstring(admission_plot.draw(dict.fromkeys("abcd", rows), 1.0))
    found = [one for one in root.iter("{http://www.w3.org/2000/svg}text") if one.attrib["class"][0] == "t"]
    heights = sorted(float(one.attrib["y"]) for one in found if "name" in one.attrib["class"])
    assert len(heights) == 4 and all(two - one >= 15 for one, two in itertools.pairwise(heights))


def test_the_tables_show_each_case_and_say_when_the_load_core_was_the_limit() -> None:
    quiet = [Answer(n / 10, 50.0, 200) for n in range(100)]
    noisy = [Answer(n / 10, 5.0, 429) for n in range(100)]
    rows = [
        admission.summarise(case, seen_of(quiet, noisy, busy=99.0), 1.0, 9.0, 160.0) | {"busy": 10.0}
        for case in CASES
    ]
    found = {
        "threads": 8,
        "view_ms": 50,
        "capacity": 160.0,
        "rows": rows,
        "left_out": {"nginx": "nginx"},
        "shares": [],
        "overload": [],
        "hung": {"p99_ms": [[50.0, 51.0]], "without_ms": 50.0, "rise_ms": 1.0, "failed": 0},
        "cost": {"take_us": 1.0, "take_many_us": 1.0, "decision_us": 1.0, "idle_bytes": 0, "tenants": 10_000},
    }
    found["bars"] = admission._bars(found)
    console = Console(width=160)
    with console.capture() as captured:
        console.print(report_admission.admission(found))
    text = captured.get()
    assert all(case.name in text for case in CASES) and "gateway: void: the load core was the limit" in text
    assert "nginx: left out, since nginx is not installed" in text
    assert "gateway: its p99 / alone: 1 (no proof)" in text
