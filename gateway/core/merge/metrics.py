"""The metrics of several processes as those of one: nothing is counted twice, and no total goes down.

A process reports its series as pieces of text, so that none of them holds anybody up. Counters and histograms
of one that has ended are kept, as it reported them last; a gauge says how it is merged (openmetrics.Gauge).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import astuple
from itertools import chain

from gateway.core.openmetrics import Family, Instrument, Samples, Series, escape

_FEW = 50  # samples of a piece: half a millisecond
KEPT = 10_000  # series of a metric that are kept of processes that have ended
_GROWS = ("counter", "histogram")

_Value = float | Series


class Reporter:
    """Reports what a process counts. instruments: gives all there are."""

    def __init__(self, instruments: Callable[[], Iterable[Instrument]]) -> None:
        self._instruments = instruments
        self._reported: dict[tuple[str, str], float] = {}  # by family and labels: the count

    def everything(self) -> Iterator[str]:
        """All metrics, as pieces for `Report.add`; an empty one is a step of work."""
        for instrument in self._instruments():
            yield from self._pieces(instrument, changed=False)

    def changed(self) -> Iterator[str]:
        """As `everything`, of what has grown since the last report."""
        for instrument in self._instruments():
            if instrument.family.kind in _GROWS:
                yield from self._pieces(instrument, changed=True)

    def _pieces(self, instrument: Instrument, *, changed: bool) -> Iterator[str]:
        family = instrument.family
        bounds: tuple[float, ...] | None = None
        samples: list[tuple[str, object]] = []
        looked_at = 0
        for sample in instrument.samples():
            looked_at += 1
            if sample is None or (changed and not looked_at % _FEW):
                yield ""
            if sample is None or not (self._is_news(family, *sample) or not changed):
                continue
            label_text, value = sample
            if isinstance(value, Series):
                if samples and value.bounds != bounds:
                    yield _piece(family, bounds, samples)
                    samples = []
                bounds = value.bounds
                samples.append((label_text, (value.counts, value.sum)))
            else:
                samples.append((label_text, value))
            if len(samples) >= _FEW:
                yield _piece(family, bounds, samples)
                samples = []
        if samples or not changed:
            yield _piece(family, bounds, samples)

    def _is_news(self, family: Family, label_text: str, value: _Value) -> bool:
        """Whether it has another value than was reported; that counts as reported from now on."""
        if family.kind not in _GROWS:
            return True
        key, count = (family.name, label_text), sum(value.counts) if isinstance(value, Series) else value
        if self._reported.get(key) == count:
            return False
        self._reported[key] = count
        return True


def _piece(family: Family, bounds: tuple[float, ...] | None, samples: list[tuple[str, object]]) -> str:
    return json.dumps((astuple(family), bounds, samples), separators=(",", ":"))


class _Reported(Instrument):
    """One metric of a process. values: by their labels."""

    def __init__(self, family: Family) -> None:
        super().__init__(family)
        self.values: dict[str, _Value] = {}

    def samples(self) -> Samples:
        yield from self.values.items()

    def merge(self, label_text: str, value: _Value) -> None:
        """A value of another process."""
        known = self.values.get(label_text)
        if known is None:
            self.values[label_text] = value
        elif isinstance(value, Series) or isinstance(known, Series):
            if isinstance(value, Series) and isinstance(known, Series):  # else a version has another kind
                self.values[label_text] = _sum(known, value)
        elif self.family.merge == "sum":
            self.values[label_text] = known + value
        else:
            self.values[label_text] = (max if self.family.merge == "max" else min)(known, value)


class Report:
    """What one process has counted, from the pieces of its Reporter, or from instruments of this process."""

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self.metrics: dict[str, _Reported] = {}
        for instrument in instruments:
            self._of(instrument.family).values.update(filter(None, instrument.samples()))

    def add(self, piece: str) -> None:
        """The next piece. Raises ValueError, TypeError for what is none."""
        if not piece:
            return
        family, bounds, samples = json.loads(piece)
        values = self._of(Family(*family)).values
        for label_text, value in samples:
            if bounds is None or not isinstance(value, list):
                values[label_text] = value
                continue
            values[label_text] = Series(tuple(bounds), *value)

    def update(self, other: Report) -> None:
        """Take what another report of the same process says beyond this one."""
        for metric in other.metrics.values():
            self._of(metric.family).values.update(metric.values)

    def merge(self, other: Report, *, kinds: Collection[str] = ()) -> None:
        """Add what another process says. kinds: of the metrics that are added, all by default."""
        for metric in other.metrics.values():
            if kinds and metric.family.kind not in kinds:
                continue
            own = self._of(metric.family)
            for label_text, value in metric.values.items():
                own.merge(label_text, value)

    def _of(self, family: Family) -> _Reported:
        metric = self.metrics.get(family.name)
        if metric is None:
            metric = self.metrics[family.name] = _Reported(family)
        return metric


class Totals:
    """The metrics of processes that come and go. A process is named by anything that is its own alone."""

    def __init__(self) -> None:
        self._living: dict[Hashable, Report] = {}
        self._ended = Report()
        self._sums: dict[tuple[str, str], float] = {}  # of histograms, as they were shown last

    def join(self, process: Hashable) -> None:
        """It counts from now on."""
        self._living[process] = Report()

    def replace(self, process: Hashable, report: Report) -> None:
        """Everything that it says now. Nothing happens where it has ended: what it said before is kept."""
        if process in self._living:
            self._living[process] = report

    def update(self, process: Hashable, report: Report) -> None:
        """What has grown. See `replace`."""
        if process in self._living:
            self._living[process].update(report)

    def end(self, process: Hashable) -> None:
        """It has ended: what it counted stays, its gauges go."""
        report = self._living.pop(process, None)
        if report is not None:
            self._ended.merge(report, kinds=_GROWS)
            for metric in self._ended.metrics.values():
                while len(metric.values) > KEPT:
                    del metric.values[next(iter(metric.values))]

    def keep_routes(self, routes: Iterable[str]) -> None:
        """Forget the routes that the config no longer has, as each process does: else names that are new all
        the time fill the memory."""
        kept = {f'route="{escape(route)}"' for route in routes}
        for metric in self._ended.metrics.values():
            gone = [
                label_text
                for label_text in metric.values
                if label_text.startswith("route=") and label_text.partition(",")[0] not in kept
            ]
            for label_text in gone:
                del metric.values[label_text]

    def instruments(self, own: Iterable[Instrument], silent: Collection[Hashable] = ()) -> list[Instrument]:
        """All together. own: of this process. silent: those that gave no report now; their gauges are old."""
        merged = Report(own)
        for process, report in self._living.items():
            merged.merge(report, kinds=_GROWS if process in silent else ())
        merged.merge(self._ended)
        self._keep_sums(merged)
        return list(merged.metrics.values())

    def _keep_sums(self, merged: Report) -> None:
        """Those of histograms never go down."""
        sums: dict[tuple[str, str], float] = {}
        for name, metric in merged.metrics.items():
            for label_text, value in metric.values.items():
                if isinstance(value, Series):
                    value.follow(self._sums.get((name, label_text), 0.0))
                    sums[name, label_text] = value.sum
        self._sums = sums


def _sum(one: Series, other: Series) -> Series:
    """Both together. Another version of the gateway may have other bounds: what fell in a bucket is within
    its upper bound still."""
    together = one.sum + other.sum
    if one.bounds == other.bounds:
        counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        return Series(one.bounds, counts, together)
    total = Series(tuple(sorted({*one.bounds, *other.bounds})), sum=together)
    place = {bound: index for index, bound in enumerate(total.bounds)}
    for bound, count in chain(*(zip(each.bounds, each.counts, strict=False) for each in (one, other))):
        total.counts[place[bound]] += count
    total.counts[-1] = one.counts[-1] + other.counts[-1]
    return total
