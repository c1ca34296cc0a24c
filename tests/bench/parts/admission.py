"""Does a noisy tenant take the service from the others? gunicorn with 8 threads and views of 50 ms, behind
the gateway, behind nginx and HAProxy, and on its own; and what admission itself costs."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.bench import admission_cost, machine
from tests.bench.load import closed
from tests.bench.load.closed import quantile
from tests.bench.load.open import Answer, Seen, Stream
from tests.bench.load.open import run as play
from tests.bench.parts import shields
from tests.bench.reports import admission_plot
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import Site
from tests.bench.sites.servers import Server

THREADS = 8
VIEW = 50  # milliseconds
LONG = 20  # times that, for the requests of a slow tenant
NOISY, QUIET = 400.0, 10.0  # requests per second
PATIENCE = 10.0  # seconds until a client leaves
PICTURE = Path(__file__).parents[1] / "quiet_tenant.svg"  # README.md shows it
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Seconds. drop: of each turn, before what is measured. pairs: of turns beside a hung backend."""

    drop: float = 10.0
    measured: float = 20.0
    others: float = 8.0  # measured, of what is not judged
    shares: float = 14.0
    phases: tuple[float, float, float] = (5.0, 6.0, 8.0)  # before an overload: normal, at the limit; after
    overload: float = 60.0
    overload_without: float = 10.0  # with no reserve
    pairs: int = 3


_QUICK = Size(3.0, 5.0, 4.0, 8.0, (3.0, 4.0, 5.0), overload=20.0, overload_without=0.0, pairs=2)


def run(folder: Path, quick: bool, say: Say) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, LoadFailed, OSError."""
    machine.raise_open_files(16_000)
    size, bench = (_QUICK if quick else Size()), Bench(folder, say)
    found: dict[str, Any] = {"threads": THREADS, "view_ms": VIEW, **asdict(size)}
    found["capacity"] = capacity = bench.capacity(5 if quick else 8)
    rows, over_time = _fronts(bench, size, capacity, quick)
    found |= {"rows": rows, "over_time": over_time}
    found["shares"] = [_shares(bench, size, heavier) for heavier in ((3.0,) if quick else (1.0, 3.0))]
    found["overload"] = [
        _overload(bench, size.phases, seconds, reserve, capacity)
        for seconds, reserve in ((size.overload, None), (size.overload_without, 0))
        if seconds
    ]
    found["hung"] = _hung(bench, size)
    found["cost"] = admission_cost.run(quick)
    if not quick:
        PICTURE.write_text(admission_plot.draw(over_time, size.drop))
        say(f"written: {PICTURE}")
    return {**found, "bars": _bars(found)}


class Bench:
    """Each turn has an app and a front of its own, so that what one leaves undone delays no other."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.say = say
        self._folder = folder
        self._turns = 0

    def capacity(self, seconds: float) -> float:
        """Requests/s that eight clients in a closed loop get from the app directly."""
        with self._app() as (_, app):
            url = f"http://127.0.0.1:{app.port}/wait/{VIEW}"
            found = closed.run(closed.choose(), url, {}, THREADS, seconds).rps
        self.say(f"capacity: {found:.1f}/s")
        return found

    def play(
        self,
        streams: list[Stream],
        front: str = "gateway",
        reserve: int | None = None,
        weights: dict[str, float] | None = None,
        hung: int = 0,
        patience: float = PATIENCE,
        workers: int = 1,
    ) -> tuple[Seen, float]:
        """Play the streams, with paths as the app knows them. hung: the port of another backend, below /hung.
        Gives what was seen, and how busy the front was in percent of a core."""
        with ExitStack() as stack:
            site, server = stack.enter_context(self._app())
            prefix = ""
            if front != "direct":
                names = {one.tenant: 1.0 for one in streams} | (weights or {})
                text = routing(site.backend_port, reserve, names, hung) if front == "gateway" else ""
                config = {"nginx": "shield_nginx.conf", "haproxy": "seats_haproxy.cfg"}.get(front, "")
                served_by = contenders.server(front, site, routing=text, config=config, workers=workers)
                server = stack.enter_context(served_by)
                prefix = "/bench"
            if front == "gateway":
                tokens = {name: site.token(tenant=name) for name in names}
                streams = [replace(one, token=tokens[one.tenant]) for one in streams]
            streams = [
                one if one.path.startswith("/hung/") else replace(one, path=prefix + one.path)
                for one in streams
            ]
            used = server.cpu_seconds()
            seen = play(server.port, streams, patience)
            return seen, 100 * (server.cpu_seconds() - used) / max(one.end for one in streams)

    @contextmanager
    def _app(self) -> Iterator[tuple[Site, Server]]:
        self._turns += 1
        folder = self._folder / str(self._turns)
        folder.mkdir()
        site = Site(folder)
        with shields.app(site, 1, THREADS) as server:
            yield site, server


def routing(port: int, reserve: int | None, weights: dict[str, float], hung: int = 0) -> str:
    """The gateway's routing config. weights: by tenant. hung: the port of a second backend, 0 for none."""
    seats: dict[str, Any] = {"kind": "gunicorn", "threads": THREADS}
    seats |= {} if reserve is None else {"reserve": reserve}
    ports = {"bench": port} | ({"hung": hung} if hung else {})
    scopes = {"read": ["bench:read"], "write": ["bench:write"]}
    document = {
        "version": 1,
        "backends": {
            name: {**seats, "addresses": [f"http://127.0.0.1:{number}"]} for name, number in ports.items()
        },
        "tenants": {name: {"weight": weight} for name, weight in weights.items()},
        "routes": [
            {"name": n, "path": f"/{n}/{{rest*}}", "strip": f"/{n}", "target": n, "scopes": scopes}
            for n in ports
        ],
    }
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)


# --- a noisy tenant beside a quiet one ---


@dataclass(frozen=True)
class Case:
    """One row. noisy: how many such tenants. judged: at most so many times the quiet tenant's p99 alone, and
    at least so much of the capacity (0.0: not judged)."""

    name: str
    front: str = "gateway"
    reserve: int | None = None
    noisy: int = 1
    long: int = 1
    poisson: bool = False
    workers: int = 1
    p99: float = 0.0
    goodput: float = 0.0


ALONE = "alone"
CASES = [
    Case(ALONE, noisy=0),
    Case("gateway", p99=1.3, goodput=0.92),
    Case("gateway, reserve 0", reserve=0, p99=2.0, goodput=0.97),
    Case("gateway, two noisy", noisy=2, p99=1.3, goodput=0.92),
    Case(f"gateway, noisy {LONG} x longer", long=LONG, p99=1.3),
    Case("gateway, two workers", workers=2, p99=1.5, goodput=0.85),
    Case("gateway, Poisson", poisson=True),
    Case("gunicorn alone", "direct"),
    Case("nginx", "nginx"),
    Case("haproxy", "haproxy"),
]
_QUICK_LEFT_OUT = {"gateway, two noisy", "gateway, Poisson", "nginx", "haproxy"}
PLOTTED = ("gateway", "haproxy", "nginx", "gunicorn alone")


def _fronts(
    bench: Bench, size: Size, capacity: float, quick: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row of each case, and the quiet tenant's answers over time of those that are drawn."""
    rows: list[dict[str, Any]] = []
    over_time = {}
    for case in CASES:
        if case.front in contenders.missing() or (quick and case.name in _QUICK_LEFT_OUT):
            continue
        judged = case.p99 or case.name == ALONE
        end = size.drop + (size.measured if judged else size.others)
        seen, busy = bench.play(streams(case, end), case.front, case.reserve, workers=case.workers)
        row = summarise(case, seen, size.drop, end, capacity) | {"busy": busy}
        rows.append(row)
        p99 = "none" if row["p99_ms"] is None else f"{row['p99_ms']:.1f} ms"
        bench.say(f"{case.name}: quiet p99 {p99}, answered {100 * row['answered']:.1f} %")
        if case.name in PLOTTED:
            over_time[case.name] = [(one.due, one.ms, one.status) for one in seen.answers["quiet"]]
    return rows, over_time


def streams(case: Case, end: float) -> list[Stream]:
    """What the case's tenants ask for."""
    quiet = Stream("quiet", f"/wait/{VIEW}", "", QUIET, end, poisson=case.poisson)
    path = f"/wait/{case.long * VIEW}"
    return [quiet, *(Stream(f"noisy-{n}", path, "", NOISY, end) for n in range(case.noisy))]


def summarise(case: Case, seen: Seen, begin: float, end: float, capacity: float) -> dict[str, Any]:
    """One row: the quiet tenant's requests that were due from begin to end, and all that was served then.
    goodput: as a part of the capacity; a long request counts as so many short ones."""
    quiet = within(seen.answers["quiet"], begin, end)
    good = sorted(one.ms for one in quiet if one.status == 200)
    noisy = [one for name in seen.answers if name != "quiet" for one in seen.answers[name]]
    refused = sorted(one.ms for one in within(noisy, begin, end) if one.status in (429, 503))
    work = served(seen.answers["quiet"], begin, end) + case.long * served(noisy, begin, end)
    return {
        **asdict(case),
        "requests": len(quiet),
        "answered_by": len(good),
        "answered": len(good) / len(quiet) if quiet else 0.0,
        "p50_ms": quantile(good, 0.5) if good else None,
        "p99_ms": quantile(good, 0.99) if good else None,
        "served_s": work / (end - begin),
        "of_capacity": work / (end - begin) / capacity,
        "refused": len(refused),
        "refused_p99_ms": quantile(refused, 0.99) if refused else None,
        "late_ms": seen.late_ms,
        "load_core": seen.busy,
    }


def within(answers: list[Answer], begin: float, end: float) -> list[Answer]:
    """Those that were due then."""
    return [one for one in answers if begin <= one.due < end]


def served(answers: list[Answer], begin: float, end: float) -> int:
    """How many were answered well then, whenever they were due."""
    return sum(one.status == 200 and begin <= one.at < end for one in answers)


# --- twenty tenants ---


def _shares(bench: Bench, size: Size, heavier: float) -> dict[str, Any]:
    """20 tenants who all want more than their share, one of them 20 times as much; half have this weight."""
    weights = {f"tenant-{n}": heavier if n % 2 else 1.0 for n in range(20)}
    begin, rate = 6.0, 1.3 * 160 * heavier / sum(weights.values())
    end = begin + size.shares
    asked = [
        Stream(name, f"/wait/{VIEW}", "", rate * (20 if name == "tenant-0" else 1), end) for name in weights
    ]
    seen, busy = bench.play(asked, weights=weights)
    found = {name: served(seen.answers[name], begin, end) for name in weights}
    off = deviation(found, weights)
    bench.say(f"20 tenants, weights 1:{heavier:g}: at most {100 * off:.1f} % off the fair share")
    row = {"weights": f"1:{heavier:g}", "served": found, "off": off, "busy": busy, "load_core": seen.busy}
    return {**row, "asked_s": sum(one.rate for one in asked), "served_s": sum(found.values()) / size.shares}


def deviation(found: dict[str, int], weights: dict[str, float]) -> float:
    """How far the tenant that is farthest off is from its fair share, as a part of that."""
    total, weight = sum(found.values()), sum(weights.values())
    if not total:
        return 1.0
    return max(abs(found[name] * weight / (total * weights[name]) - 1) for name in weights)


def _overload(
    bench: Bench, phases: tuple[float, float, float], seconds: float, reserve: int | None, capacity: float
) -> dict[str, Any]:
    """20 tenants: a normal time, the capacity, half as much again, three times as much, a normal time."""
    before, limit, after = phases
    plan = [(0.5, before), (1.0, limit), (1.5, limit), (3.0, seconds), (0.5, after)]
    asked, marks, at = [], [], 0.0
    for load_factor, length in plan:
        marks.append((at, at + length))
        rate = load_factor * capacity / 20
        asked += [Stream(f"tenant-{n}", f"/wait/{VIEW}", "", rate, at + length, at) for n in range(20)]
        at += length
    seen, busy = bench.play(asked, reserve=reserve)
    everything = [one for answers in seen.answers.values() for one in answers]
    rates = [served(everything, begin + 1, end) / (end - begin - 1) for begin, end in marks]
    normal = sorted(one.ms for one in within(everything, marks[0][0] + 1, marks[0][1]) if one.status == 200)
    p99 = quantile(normal, 0.99)
    refused = sorted(one.ms for one in within(everything, *marks[3]) if one.status in (429, 503))
    again = recovered(everything, marks[4][0], marks[4][1], p99)
    text = "default" if reserve is None else str(reserve)
    peak = max(rates[1:3])
    kept = rates[3] / peak if peak else None
    bench.say(f"3 x overload, reserve {text}: {rates[3]:.1f}/s of {peak:.1f}/s, normal after {again:.1f} s")
    row = {"reserve": text, "seconds": seconds, "peak_s": peak, "served_s": rates[3], "kept": kept}
    row |= {"of_capacity": rates[3] / capacity, "normal_p99_ms": p99, "normal_again_s": again}
    row |= {"refused_p99_ms": quantile(refused, 0.99) if refused else None}
    return {**row, "busy": busy, "load_core": seen.busy}


def recovered(answers: list[Answer], end: float, until: float, normal: float) -> float:
    """Seconds from `end` until nearly all requests (95 % of each half second) are answered within 1.3 times
    the normal p99 (ms) and stay so."""
    step, after = 0.5, 0.0
    for number in range(int((until - end) / step)):
        begin = end + number * step
        rows = within(answers, begin, begin + step)
        good = sum(one.status == 200 and one.ms <= 1.3 * normal for one in rows)
        if good < 0.95 * len(rows):
            after = (number + 1) * step
    return after


# --- a backend that hangs ---


def _hung(bench: Bench, size: Size) -> dict[str, Any]:
    """Requests to a backend, by turns without and with requests to another that takes them and is silent."""
    turn = 3.0
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1024)
        port = silent.getsockname()[1]
        begin = [1.0 + 2 * turn * number for number in range(size.pairs)]
        end = 1.0 + 2 * turn * size.pairs
        asked = [Stream("quiet", "/item", "", 100.0, end)]
        asked += [Stream("noisy", "/hung/item", "", 100.0, at + 2 * turn, at + turn) for at in begin]
        seen, busy = bench.play(asked, hung=port, patience=2.0)
    answers = seen.answers["quiet"]
    p99 = [
        [_p99(within(answers, at, at + turn)), _p99(within(answers, at + turn, at + 2 * turn))]
        for at in begin
    ]
    without = statistics.median(one for one, _ in p99)
    rise = statistics.median(two - one for one, two in p99)
    failed = sum(one.status != 200 for one in answers)
    bench.say(f"beside a hung backend: p99 {without:.1f} ms, {rise:+.1f} ms")
    row = {"p99_ms": p99, "without_ms": without, "rise_ms": rise, "failed": failed}
    return {**row, "busy": busy, "load_core": seen.busy}


def _p99(answers: list[Answer]) -> float:
    return quantile(sorted(one.ms for one in answers), 0.99)


# --- the verdict ---


def _bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    alone = next(row["p99_ms"] for row in found["rows"] if row["name"] == ALONE)
    bars = []
    for row in found["rows"]:
        if not row["p99"]:
            continue
        name, proven = row["name"], row["load_core"] < 95
        ratio = row["p99_ms"] / alone if row["p99_ms"] and alone else None
        bars.append(bar(f"{name}: quiet tenant answered", 100 * row["answered"], 100, least=True, unit="%"))
        bars.append(bar(f"{name}: its p99 / alone", ratio, row["p99"], proven=proven))
        if row["goodput"]:
            of_it = 100 * row["of_capacity"]
            text = f"{name}: goodput / capacity"
            bars.append(bar(text, of_it, 100 * row["goodput"], least=True, unit="%", proven=proven))
        bars.append(bar(f"{name}: refusals' p99", row["refused_p99_ms"], 20.0, unit="ms", proven=proven))
    for row in found["shares"]:
        bars.append(bar(f"20 tenants {row['weights']}: off the fair share", 100 * row["off"], 5.0, unit="%"))
    for row in found["overload"]:
        name = f"3 x overload, reserve {row['reserve']}"
        bars.append(bar(f"{name}: goodput / peak", 100 * row["kept"], 97.0, least=True, unit="%"))
        bars.append(bar(f"{name}: normal again after", row["normal_again_s"], 2.0, unit="s"))
    hung = found["hung"]
    most = max(3.0, 0.1 * hung["without_ms"])
    bars.append(bar("hung backend: p99 of the other rises by", hung["rise_ms"], most, unit="ms"))
    bars.append(bar("hung backend: failed at the other", hung["failed"], 0))
    return bars + admission_cost.bars(found["cost"])
