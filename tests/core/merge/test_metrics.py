"""The metrics of several processes are those of one: nothing twice, no total that goes down."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.merge import metrics as merge
from gateway.core.merge.metrics import Report, Reporter, Totals
from gateway.core.openmetrics import Counter, Family, Gauge, Instrument, Merge, Samples, Series


class Histogram(Instrument):
    def __init__(self, bounds: tuple[float, ...] = (1.0, 2.0)) -> None:
        super().__init__(Family("h", "histogram", "H."))
        self.series: dict[str, Series] = {}
        self.bounds = bounds

    def observe(self, label: str, value: float) -> None:
        self.series.setdefault(label, Series(self.bounds)).observe(value)

    def samples(self) -> Samples:
        for label, series in self.series.items():
            yield f'route="{label}"', series
            yield None


class Process:
    """One that counts, and reports to the totals."""

    def __init__(self, totals: Totals, name: str, bounds: tuple[float, ...] = (1.0, 2.0)) -> None:
        self.totals, self.name = totals, name
        self.counter, self.histogram = Counter("c", "C.", ("route",)), Histogram(bounds)
        self.gauge = 0
        self.reporter = Reporter(
            lambda: [self.counter, self.histogram, Gauge("g", "G.", lambda: {(): self.gauge})]
        )
        totals.join(name)

    def scraped(self) -> None:
        self.totals.replace(self.name, read(self.reporter.everything()))

    def polled(self) -> int:
        pieces = list(self.reporter.changed())
        self.totals.update(self.name, read(pieces))
        return len(list(filter(None, pieces)))


def read(pieces) -> Report:
    report = Report()
    for piece in pieces:
        report.add(piece)
    return report


def shown(totals: Totals, own=(), silent=()) -> dict[str, float]:
    """Each line's number."""
    lines = "".join(line for one in totals.instruments(own, silent) for line in one.lines()).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


def test_counters_histograms_and_gauges_of_all_are_summed() -> None:
    totals = Totals()
    one, other = Process(totals, "1"), Process(totals, "2")
    for process, number in ((one, 3), (other, 4)):
        process.counter.add("a", amount=number)
        process.histogram.observe("a", number / 2)
        process.gauge = number
        process.scraped()
    own = Counter("c", "C.", ("route",))
    own.add("b")
    assert shown(totals, [own]) == {
        'c_total{route="a"}': 7,
        'c_total{route="b"}': 1,
        'h_bucket{route="a",le="1.0"}': 0,
        'h_bucket{route="a",le="2.0"}': 2,
        'h_bucket{route="a",le="+Inf"}': 2,
        'h_count{route="a"}': 2,
        'h_sum{route="a"}': 3.5,
        "g": 7,
    }
    one.scraped()
    assert shown(totals)['c_total{route="a"}'] == 7, "a second look counts nothing twice"


@pytest.mark.parametrize(("how", "expected"), [("sum", 5), ("max", 3), ("min", 2)])
def test_a_gauge_is_merged_as_it_says(how: Merge, expected: float) -> None:
    totals = Totals()
    for name, number in (("1", 2), ("2", 3)):
        totals.join(name)
        gauge = Gauge("g", "G.", lambda number=number: {(): number}, merge=how)
        totals.replace(name, read(Reporter(lambda gauge=gauge: [gauge]).everything()))
    assert shown(totals) == {"g": expected}


def test_what_one_that_has_ended_counted_stays_and_its_gauges_go() -> None:
    totals = Totals()
    one = Process(totals, "1")
    one.counter.add("a")
    one.gauge = 5
    one.scraped()
    late = read(one.reporter.everything())
    totals.end("1")
    assert shown(totals) == {'c_total{route="a"}': 1}
    totals.replace("1", late)  # it was on its way
    totals.update("1", late)
    totals.end("1")
    assert shown(totals) == {'c_total{route="a"}': 1}


def test_the_gauges_of_one_that_does_not_answer_are_not_shown() -> None:
    totals = Totals()
    one = Process(totals, "1")
    one.counter.add("a")
    one.gauge = 5
    one.scraped()
    assert shown(totals, silent=["1"]) == {'c_total{route="a"}': 1}


def test_between_scrapes_only_what_has_grown_is_reported() -> None:
    totals = Totals()
    one = Process(totals, "1")
    for label in "abc":
        one.counter.add(label)
        one.histogram.observe(label, 1.0)
    one.scraped()
    assert one.polled() == 0
    one.counter.add("b")
    one.gauge = 9
    assert one.polled() == 1
    assert shown(totals)['c_total{route="b"}'] == 2
    assert shown(totals)["g"] == 0


def test_many_series_come_in_pieces_and_looking_is_done_in_steps() -> None:
    counter = Counter("c", "C.", ("route",), limit=2000)
    for number in range(1000):
        counter.add(str(number))
    reporter = Reporter(lambda: [counter])
    pieces = list(reporter.everything())
    assert len(pieces) > 4
    assert len(read(pieces).metrics["c"].values) == 1000
    assert list(filter(None, reporter.changed())) == []
    assert len(list(reporter.changed())) > 4


def test_other_bounds_of_another_version_stay_one_histogram() -> None:
    totals = Totals()
    old, new = Process(totals, "1"), Process(totals, "2", (0.5, 1.0, 3.0))
    for process in (old, new):
        for value in (0.4, 0.9, 1.5, 9.0):
            process.histogram.observe("a", value)
        process.scraped()
    found = shown(totals)
    buckets = [found[f'h_bucket{{route="a",le="{le}"}}'] for le in ("0.5", "1.0", "2.0", "3.0", "+Inf")]
    assert buckets == [1, 4, 5, 6, 8]
    assert found['h_count{route="a"}'] == 8


def test_routes_that_are_gone_are_forgotten_and_what_is_kept_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge, "KEPT", 2)
    totals = Totals()
    one = Process(totals, "1")
    for label in "abc":
        one.counter.add(label)
    one.scraped()
    totals.end("1")
    assert list(shown(totals)) == ['c_total{route="b"}', 'c_total{route="c"}']
    totals.keep_routes(["c"])
    assert list(shown(totals)) == ['c_total{route="c"}']


@given(
    st.lists(st.tuples(st.sampled_from(["count", "scrape", "poll", "end", "new"]), st.integers(0, 5))),
    st.randoms(use_true_random=False),
)
def test_no_total_ever_goes_down_nor_beyond_what_was_counted(
    steps: list[tuple[str, int]], random: random.Random
) -> None:
    totals, counted, names = Totals(), 0, iter(range(10_000))
    processes = [Process(totals, str(next(names)))]
    before: dict[str, float] = {}
    for step, which in steps:
        process = processes[which % len(processes)]
        if step == "count":
            process.counter.add("a")
            process.histogram.observe("a", random.uniform(0, 3))
            counted += 1
        elif step == "scrape":
            process.scraped()
        elif step == "poll":
            process.polled()
        elif step == "end":
            totals.end(process.name)
            processes.append(Process(totals, str(next(names))))
            processes.remove(process)
        else:
            processes.append(Process(totals, str(next(names))))
        found = {key: number for key, number in shown(totals).items() if key != "g"}
        assert all(found[key] >= number for key, number in before.items())
        assert found.get('c_total{route="a"}', 0) <= counted
        assert found.get('h_count{route="a"}', 0) <= counted
        before = found
