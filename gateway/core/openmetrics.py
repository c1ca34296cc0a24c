"""Counters, gauges and histograms, and their text form: OpenMetrics 1.0, which Prometheus scrapes.

Pure: no clock, no I/O. Counting is cheap; the work is done when the metrics are rendered. Every instrument is
bounded: beyond `limit` sets of label values, new ones count under `other`.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]
# How the values that several processes have of one gauge become one.
Merge = Literal["sum", "max", "min"]
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END = "# EOF\n"
OTHER = "other"
SERIES_LIMIT = 1000

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_needs_escape = re.compile('[\\\\"\n\ud800-\udfff]').search
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def escape(value: str) -> str:
    """A label value as it is written between quotes; what UTF-8 cannot encode (a lone surrogate) becomes
    `?`."""
    if not _needs_escape(value):
        return value
    return value.translate(_ESCAPES).encode("utf-8", "replace").decode("utf-8")


def labels(names: Iterable[str], values: Iterable[str]) -> str:
    """`a="x",b="y"`, or nothing when there are no names."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True))


@dataclass(frozen=True, slots=True)
class Family:
    """What is said of a metric. name: of a counter without `_total`, of facts without `_info`. unit: must be
    the last part of the name. merge: of a gauge; counters and histograms of several processes are summed."""

    name: str
    kind: Kind
    help_text: str
    unit: str = ""
    merge: Merge = "sum"

    def head(self) -> str:
        """The metadata, in lines."""
        units = f"# UNIT {self.name} {self.unit}\n" if self.unit else ""
        help_text = self.help_text.translate(_HELP_ESCAPES)
        return f"# TYPE {self.name} {self.kind}\n{units}# HELP {self.name} {help_text}\n"

    def lines(self, label_text: str, value: float | Series) -> str:
        """Those of one sample. label_text: as of `labels`."""
        if isinstance(value, Series):
            return value.text(self.name, label_text)
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return f"{self.name}{suffix}{f'{{{label_text}}}' if label_text else ''} {value}\n"


# The labels and the value; None is a step of work towards the next one.
Samples = Iterator[tuple[str, "float | Series"] | None]


class Instrument:
    """A metric. Made of a Family; `samples` gives what it says now."""

    def __init__(self, family: Family) -> None:
        self.family = family

    @property
    def name(self) -> str:
        """That of the family."""
        return self.family.name

    def samples(self) -> Samples:
        """Its values now. Others may run between two of them."""
        raise NotImplementedError

    def lines(self) -> Iterator[str]:
        """The metadata and samples, each line with its newline; an empty text is a step of work."""
        yield self.family.head()
        for sample in self.samples():
            yield self.family.lines(*sample) if sample is not None else ""


class Counter(Instrument):
    """A number that only grows, one for each set of label values. name: without `_total`. names: of the
    labels."""

    def __init__(
        self, name: str, help_text: str, names: tuple[str, ...] = (), limit: int = SERIES_LIMIT
    ) -> None:
        super().__init__(Family(name, "counter", help_text))
        self._names = names
        self._limit = limit
        self._other = (OTHER,) * len(names)
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, amount: float = 1) -> None:
        """Add to the series of these label values; an amount of 0 makes it appear."""
        try:
            self._counts[values] += amount
        except KeyError:
            if len(self._counts) >= self._limit:
                values = self._other
            self._counts[values] = self._counts.get(values, 0) + amount

    def samples(self) -> Samples:
        """See Instrument."""
        for values, count in list(self._counts.items()):
            yield labels(self._names, values), count


class Gauge(Instrument):
    """A number that is read when it is rendered. read: gives it for each set of label values, as a mapping or
    one by one; then None is a step of work towards the next one. merge: what the numbers of several processes
    are together: their sum, the largest or the smallest."""

    kind: Kind = "gauge"

    def __init__(
        self,
        name: str,
        help_text: str,
        read: Callable[[], Mapping[tuple[str, ...], float] | Iterator[tuple[tuple[str, ...], float] | None]],
        names: tuple[str, ...] = (),
        unit: str = "",
        limit: int = SERIES_LIMIT,
        merge: Merge = "sum",
    ) -> None:
        super().__init__(Family(name, self.kind, help_text, unit, merge))
        self._read = read
        self._names = names
        self._limit = limit

    def samples(self) -> Samples:
        """See Instrument."""
        found, left = self._read(), self._limit
        for item in list(found.items()) if isinstance(found, Mapping) else found:
            if item is None:
                yield None
            elif left > 0:
                left -= 1
                yield labels(self._names, item[0]), item[1]


class Total(Gauge):
    """A number that only grows, counted elsewhere and read when it is rendered. name: without `_total`."""

    kind: Kind = "counter"


class Info(Instrument):
    """Facts that do not change, as labels. name: without `_info`."""

    def __init__(self, name: str, help_text: str, facts: Mapping[str, str]) -> None:
        super().__init__(Family(name, "info", help_text, merge="max"))
        self._labels = labels(facts.keys(), facts.values())

    def samples(self) -> Samples:
        """See Instrument."""
        yield self._labels, 1


class Series:
    """The state of one histogram. bounds: upper ones of the buckets, inclusive. counts: of values in each
    bucket, not cumulative; the last bucket is +Inf. sum: of all values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...], counts: list[int] | None = None, sum: float = 0.0) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1) if counts is None else counts
        self.sum = sum

    def follow(self, before: float) -> None:
        """The sum was this before. Floats that are added in another order may give a little less, which a
        reader would take for a restart."""
        if math.isclose(self.sum, before, rel_tol=1e-9):
            self.sum = max(self.sum, before)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def text(self, name: str, label_text: str) -> str:
        """The samples, with cumulative buckets. label_text: not empty, without braces."""
        bucket = f'{name}_bucket{{{label_text},le="'
        totals = list(accumulate(self.counts))
        lines = [f"{bucket}{le} {total}\n" for le, total in zip(_le_texts(self.bounds), totals, strict=True)]
        lines.append(f"{name}_count{{{label_text}}} {totals[-1]}\n{name}_sum{{{label_text}}} {self.sum}\n")
        return "".join(lines)


@cache
def _le_texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The bounds as text, cached for all series: formatting a float costs more than the rest of a line."""
    return tuple(f'{bound}"}}' for bound in (*bounds, "+Inf"))
