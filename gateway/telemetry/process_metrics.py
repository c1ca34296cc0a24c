"""The process gauges: registered on ASAB's MetricsService, and what that service holds as OpenMetrics text.

ASAB's own text is refused by strict parsers, so its storage is read here. ASAB keeps many named values in
one gauge: those of our gauge `process` become `process_<value>`, the names that dashboards expect; any other
gauge becomes `asab_<gauge>{name="<value>"}`.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.core.openmetrics import head, labels
from gateway.runtime.periodic import PeriodicTask

if TYPE_CHECKING:
    from asab.metrics import MetricsService

GAUGE = "process"
_LAG_INTERVAL = 1.0  # seconds
_LAG_SAMPLES = 60

# value -> kind, help. cpu_seconds only grows: a counter for whoever scrapes, whatever ASAB calls it.
_PROCESS = {
    "resident_memory_bytes": ("gauge", "Resident memory."),
    "cpu_seconds": ("counter", "User and system CPU time spent."),
    "open_fds": ("gauge", "Open file descriptors."),
    "max_fds": ("gauge", "The most file descriptors that may be open."),
    "threads": ("gauge", "Threads of the operating system."),
    "start_time_seconds": ("gauge", "When the process started, since the epoch."),
    "event_loop_lag_seconds": ("gauge", "The longest that the event loop was late within the last minute."),
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


class ProcessMetrics:
    """Keeps ASAB's `process` gauge current. Made on the running loop; `render` is for Metrics.add_source."""

    def __init__(self, service: MetricsService) -> None:
        self._service = service
        self._lag = LoopLag(asyncio.get_running_loop())
        self._gauge = service.create_gauge(GAUGE, help="The gateway's process.")
        self.refresh()
        service.App.PubSub.subscribe("Metrics.flush!", self.refresh)  # for the targets that ASAB pushes to

    def refresh(self, event_type: str = "") -> None:
        """Read the process's numbers now. What this system cannot tell is left out."""
        self._gauge.set("event_loop_lag_seconds", self._lag.worst)
        with suppress(OSError):  # no descriptor is left to read them with: the rest stays as it was
            for name, value in _read_process():
                self._gauge.set(name, value)

    def render(self) -> str:
        """Every gauge of ASAB's service as complete OpenMetrics families."""
        self.refresh()
        return "".join(_families(self._service.Storage.Metrics, self._service.Tags))

    def close(self) -> None:
        """Stop measuring the event loop."""
        self._lag.close()


def _read_process() -> Iterator[tuple[str, float]]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "cpu_seconds", usage.ru_utime + usage.ru_stime
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


def _families(stored: list[dict[str, Any]], global_tags: Mapping[str, str]) -> Iterator[str]:
    """The gauges among ASAB's metrics. Tags that all carry (host and so on) are the scraper's to add."""
    families: dict[str, dict[str, str]] = {}  # head -> sample without its number -> number
    for metric in stored:
        if metric["type"] != "Gauge":
            continue
        for field in metric["fieldset"]:
            own = {_name(tag): text for tag, text in field["tags"].items() if tag not in global_tags}
            for value, number in field["values"].items():
                if isinstance(number, bool) or not isinstance(number, int | float):
                    continue
                family, sample = _sample(metric, value, own)
                families.setdefault(family, {})[sample] = repr(number)
    for family, samples in families.items():
        yield family
        yield from (f"{sample} {number}\n" for sample, number in samples.items())


def _sample(metric: Mapping[str, Any], value: str, tags: Mapping[str, str]) -> tuple[str, str]:
    """The head of the family that a value belongs to, and its sample without the number."""
    if metric["name"] == GAUGE and value in _PROCESS:
        kind, help_text = _PROCESS[value]
        name, suffix = f"{GAUGE}_{value}", "_total" if kind == "counter" else ""
        return head(name, kind, help_text), f"{name}{suffix}{labels(tags.keys(), tags.values())}"
    name = f"asab_{_name(metric['name'])}"
    all_labels = {**tags, "name": value}
    help_text = metric.get("help") or "A gauge of ASAB's metrics service."
    return head(name, "gauge", help_text), f"{name}{labels(all_labels.keys(), all_labels.values())}"


def _name(text: str) -> str:
    """A name as OpenMetrics allows it."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", text)
    return name if name[:1].isalpha() else f"x{name}"
