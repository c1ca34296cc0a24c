"""The bench of the documents measures what it says: no timing is asserted here."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.load.closed import Load
from tests.bench.parts import documents, documents_export, documents_feed
from tests.bench.reports import documents as report_documents
from tests.bench.sites import documents_bare, documents_site, kinto
from tests.bench.sites.documents_site import EACH, FEW, LARGE, ORDERS, PAGE, SMALL, DocumentsSite


def test_every_customer_has_as_many_documents_spread_over_all() -> None:
    for count in (FEW, 50_000):
        found = [documents_site.document(number, count)["customer"] for number in range(count)]
        assert set(Counter(found).values()) == {EACH}
        # The first customer's documents lie apart, so that a page of them is no page of neighbours.
        places = [number for number, customer in enumerate(found) if customer == 0]
        assert places[-1] - places[0] > count * 0.9


def test_ids_are_in_the_order_of_their_numbers() -> None:
    names = [documents_site.identifier(number) for number in (0, 9, 10, 999_999)]
    assert names == sorted(names)


def _loads(*rates: float, errors: int = 0) -> list[tuple[Load, float, float]]:
    return [(Load(rate, 1000 / rate, 2000 / rate, errors), 99.0, 50.0) for rate in rates]


def test_ratios_are_paired_by_round() -> None:
    found = documents.summarise({"ours": _loads(10, 20, 30), "theirs": _loads(20, 80, 30)})
    assert found["ratios"] == {"rps": 0.5, "p50": 2.0, "p99": 2.0} and found["failed"] == 0
    assert found["rows"]["ours"]["rps"] == 20 and found["rows"]["theirs"]["rps"] == 30


def test_a_pair_of_rates_gives_the_ratio_of_its_own_round() -> None:
    found = documents_bare.summarise([(10, 20), (30, 40), (10, 100)])
    assert found == {"store": 10, "bare": 40, "ratio": 0.5}


def test_nothing_measured_has_no_ratio() -> None:
    found = documents.summarise({"ours": _loads(10), "theirs": [(Load(0, 0, 0, 3), 9.0, 9.0)]})
    assert found["ratios"] == {} and found["failed"] == 3


def _found(**changed: Any) -> dict[str, Any]:
    part = documents.summarise({"one": _loads(10, 10), "other": _loads(10, 10)})
    times = {"p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0}
    found = {
        "documents": 50_000,
        "fill_s": 1.0,
        "rounds": 2,
        "seconds": 1.0,
        "connections": 32,
        "writes": {"32": {"store": 3, "bare": 10, "ratio": 0.3}, "1": {"store": 4, "bare": 10, "ratio": 0.4}},
        "created": {name: {"rps": 2.0, "errors": 0} for name in ("32", "1")},
        "export": {"mib": 6, "export": 50, "bare": 100, "ratio": 0.5, "grown_mib": 17.0},
        "events": {"subscribers": 10, "through": times, "other": times},
        "missing": "",
        "kinto": {"read": part},
        **dict.fromkeys(("proxied", "large", "deep", "deep_sorted"), part),
    }
    return {**found, **changed}


def test_each_bar_is_judged_by_its_own_figure() -> None:
    met = {one["text"]: one["met"] for one in documents.bars(_found())}
    assert [text for text, reached in met.items() if not reached] == [
        "read: gateway / Kinto",
        "create, one client / bare, a commit each",
        "memory that an export takes",
    ]
    assert len(documents.bars(_found(kinto={}))) == len(met) - 1


def test_failed_requests_prove_nothing() -> None:
    part = documents.summarise({"one": _loads(10, errors=1), "other": _loads(10)})
    unproven = [one["text"] for one in documents.bars(_found(large=part)) if not one["proven"]]
    assert unproven == ["p99 of a page, 50,000 documents / 1,000"]


def test_what_kinto_refuses_counts_for_it_and_what_we_refuse_does_not() -> None:
    refuses = documents.summarise({"one": _loads(10), "other": _loads(10, errors=1)})
    refused = documents.summarise({"one": _loads(10, errors=1), "other": _loads(10)})
    for part, unproven in ((refuses, []), (refused, ["read: gateway / Kinto"])):
        found = documents.bars(_found(kinto={"read": part}))
        assert [one["text"] for one in found if not one["proven"]] == unproven


def test_the_table_tells_what_is_missing_and_what_failed() -> None:
    part = documents.summarise({"one": _loads(10, errors=7), "other": _loads(10)})
    found = _found(deep=part, kinto={}, missing="PostgreSQL is not installed")
    console = Console(width=120, file=None)
    with console.capture() as captured:
        console.print(report_documents.documents({**found, "bars": documents.bars(found)}))
    assert "without Kinto: PostgreSQL is not installed" in captured.get()
    assert "failed: by id, page one: 7" in captured.get()


def test_the_newest_postgresql_is_taken(tmp_path: Path) -> None:
    assert kinto.programs(tmp_path) is None
    for version in ("9", "15", "11"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert kinto.programs(tmp_path) == tmp_path / "15" / "bin"


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: Counter[tuple[str, str, bytes]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.seen[self.command, self.path, body] += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[ThreadingHTTPServer]:
    _Recorder.seen = Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.skipif(machine.find("wrk") is None, reason="wrk is not installed")
@pytest.mark.parametrize("body", [None, {"a": 1}])
def test_a_load_goes_through_all_its_paths(
    recorder: ThreadingHTTPServer, tmp_path: Path, body: dict[str, Any] | None
) -> None:
    listed = ["/one?x=%7B%7D", "/two", "/three"]
    found = documents_site.load(tmp_path, recorder.server_port, listed, {}, 1, 1.0, body)
    method, sent = ("GET", b"") if body is None else ("POST", b'{"a": 1}')
    assert found.errors == 0 and set(_Recorder.seen) == {(method, path, sent) for path in listed}
    assert max(_Recorder.seen.values()) - min(_Recorder.seen.values()) <= 1


def test_without_wrk_the_part_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find", lambda program: None)
    with pytest.raises(closed.LoadFailed, match="apt install wrk"):
        closed.paths("http://127.0.0.1:1", tmp_path / "paths", {}, 1, 1.0)


def test_both_kinds_of_writer_write(tmp_path: Path) -> None:
    found = documents_bare.writes(tmp_path, 1, 0.05)
    assert set(found) == {"32", "1"}
    assert all(row["store"] > 0 and row["bare"] > 0 for row in found.values())


def test_a_site_answers_pages_exports_and_events(tmp_path: Path) -> None:
    with DocumentsSite(tmp_path, 2 * FEW) as site:
        for tenant in (LARGE, SMALL):
            page = site.get(tenant, documents_site.listing(3))
            assert len(page["items"]) == PAGE and page["next"]
            assert {item["customer"] for item in page["items"]} == {3}
        path = f"{ORDERS}{documents_site.identifier(7)}"
        assert site.get(SMALL, path).items() >= documents_site.document(7, FEW).items()
        exported = documents_export.run(site, 1)  # it compares the bytes itself
        assert exported["documents"] == 2 * FEW and exported["ratio"] > 0
        events = documents_feed.run(site, 0.1)
        assert 0 < events["through"]["p50_ms"] <= events["through"]["p99_ms"]
        assert events["writes"] == 50
