"""The numbers of the process, of which ASAB's MetricsService is told too, and the gauges of others there.

ASAB's own text is refused by strict parsers, so its storage is read here. It keeps many named values in one
gauge, which becomes `asab_<gauge>{name="<value>"}`; but ours become `process_<value>`, as dashboards expect.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.core.openmetrics import Family, Gauge, Instrument, Kind, Merge, Samples, Total, labels
from gateway.runtime.periodic import PeriodicTask

if TYPE_CHECKING:
    from asab.metrics import MetricsService

GAUGE = "process"
_LAG_INTERVAL = 1.0  # seconds
_LAG_SAMPLES = 60

# value -> kind, help, and what those of several processes are together. cpu_seconds only grows: a counter for
# whoever scrapes, whatever ASAB calls it.
_PROCESS: Mapping[str, tuple[Kind, str, Merge]] = {
    "resident_memory_bytes": ("gauge", "Resident memory.", "sum"),
    "cpu_seconds": ("counter", "User and system CPU time spent.", "sum"),
    "open_fds": ("gauge", "Open file descriptors.", "max"),
    "max_fds": ("gauge", "The most file descriptors that may be open.", "min"),
    "threads": ("gauge", "Threads of the operating system.", "sum"),
    "start_time_seconds": ("gauge", "When the process started, since the epoch.", "min"),
    "event_loop_lag_seconds": (
        "gauge",
        "The longest that the event loop was late within the last minute.",
        "max",
    ),
}


class LoopLag:
    """How late the event loop calls what is due: once a second, the worst of the last minute is kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._late: deque[float] = deque(maxlen=_LAG_SAMPLES)
        self._due = loop.time() + _LAG_INTERVAL
        self._periodic = PeriodicTask("measuring the event loop", _LAG_INTERVAL, self._measure)
        self._periodic.start()

    @property
    def worst(self) -> float:
        """Seconds."""
        return max(self._late, default=0.0)

    def close(self) -> None:
        """Stop measuring."""
        self._periodic.cancel()

    def _measure(self) -> None:
        now = self._loop.time()
        self._late.append(max(0.0, now - self._due))
        self._due = now + _LAG_INTERVAL


class ProcessNumbers:
    """Those of this process. Made on the running loop."""

    def __init__(self) -> None:
        self._lag = LoopLag(asyncio.get_running_loop())
        self._known: dict[str, float] = {}

    def read(self) -> dict[str, float]:
        """Its numbers now. What this system cannot tell is left out."""
        self._known["event_loop_lag_seconds"] = self._lag.worst
        with suppress(OSError):  # no descriptor is left to read them with: the rest stays as it was
            self._known.update(_read_process())
        return self._known

    def instruments(self) -> Iterator[Instrument]:
        """For Metrics.add_source. The files of the system are read with the first gauge: who only asks what
        has grown, each second, needs none."""
        numbers = cache(self.read)
        for name, (kind, help_text, merge) in _PROCESS.items():
            full = f"{GAUGE}_{name}"
            if kind == "counter":
                yield Total(full, help_text, lambda: {(): _cpu_seconds()})
            else:
                yield Gauge(full, help_text, partial(_known, numbers, name), merge=merge)

    def close(self) -> None:
        """Stop measuring the event loop."""
        self._lag.close()


def _known(numbers: Callable[[], dict[str, float]], name: str) -> dict[tuple[str, ...], float]:
    found = numbers()
    return {(): found[name]} if name in found else {}


class ProcessMetrics:
    """Keeps ASAB's `process` gauge current, and has what ASAB knows. Made on the running loop."""

    def __init__(self, service: MetricsService) -> None:
        self._service = service
        self._numbers = ProcessNumbers()
        self._gauge = service.create_gauge(GAUGE, help="The gateway's process.")
        self.refresh()
        service.App.PubSub.subscribe("Metrics.flush!", self.refresh)  # for the targets that ASAB pushes to

    def refresh(self, event_type: str = "") -> None:
        """Read the process's numbers now, for ASAB."""
        for name, number in self._numbers.read().items():
            self._gauge.set(name, number)

    def instruments(self) -> Iterator[Instrument]:
        """For Metrics.add_source: the process's, and every other gauge of ASAB's service."""
        yield from self._numbers.instruments()
        yield from _of_asab(self._service.Storage.Metrics, self._service.Tags)

    def close(self) -> None:
        """Stop measuring the event loop."""
        self._numbers.close()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _read_process() -> Iterator[tuple[str, float]]:
    yield "cpu_seconds", _cpu_seconds()
    yield "max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    own = Path("/proc/self")
    if not own.exists():  # not Linux
        return
    yield "open_fds", _open_fds(own / "fd")
    # proc(5): the fields after the command's name, which may hold anything but ends with the last ")"
    fields = (own / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    yield "threads", int(fields[17])
    yield "resident_memory_bytes", int(fields[21]) * resource.getpagesize()
    booted = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    if booted:
        yield "start_time_seconds", int(booted[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _open_fds(folder: Path) -> int:
    """Newer kernels (6.2) say the number; to list ten thousand of them takes milliseconds."""
    return folder.stat().st_size or sum(1 for _ in folder.iterdir()) - 1  # less the one that lists


class _OfAsab(Instrument):
    """Gauges of ASAB's with one name. values: by their labels."""

    def __init__(self, name: str, help_text: str) -> None:
        super().__init__(Family(name, "gauge", help_text))
        self.values: dict[str, float] = {}

    def samples(self) -> Samples:
        yield from self.values.items()


def _of_asab(stored: list[dict[str, Any]], global_tags: Mapping[str, str]) -> Iterator[Instrument]:
    """The gauges among ASAB's metrics but for ours. Tags that all carry (host and so on) are the scraper's to
    add."""
    found: dict[str, _OfAsab] = {}
    for metric in stored:
        if metric["type"] != "Gauge" or metric["name"] == GAUGE:
            continue
        name = f"asab_{_name(metric['name'])}"
        help_text = metric.get("help") or "A gauge of ASAB's metrics service."
        gauge = found.setdefault(name, _OfAsab(name, help_text))
        for field in metric["fieldset"]:
            own = {_name(tag): text for tag, text in field["tags"].items() if tag not in global_tags}
            for value, number in field["values"].items():
                if isinstance(number, int | float) and not isinstance(number, bool):
                    tags = {**own, "name": value}
                    gauge.values[labels(tags.keys(), tags.values())] = number
    yield from found.values()


def _name(text: str) -> str:
    """A name as OpenMetrics allows it."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", text)
    return name if name[:1].isalpha() else f"x{name}"
