"""Does a noisy tenant take the service from the others? gunicorn with 8 threads and views of 50 ms, behind
the gateway, behind nginx and HAProxy, and on its own; and what admission itself costs."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import admission_cost, machine
from tests.bench.load.closed import quantile
from tests.bench.load.open import Answer, Seen, Stream
from tests.bench.parts.admission_fronts import GATEWAY, THREADS, Bench, Front
from tests.bench.reports import admission_plot
from tests.bench.reports.bars import bar

VIEW = 50  # milliseconds
LONG = 20  # times that, for the requests of a slow tenant
NOISY, QUIET = 400.0, 10.0  # requests per second
_FULL = 95.0  # percent that the load core may be busy
_LATE = 5.0  # milliseconds: when requests are sent so late, what is measured is the load process
PICTURE = Path(__file__).parents[1] / "quiet_tenant.svg"  # README.md shows it
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Seconds. drop: of each turn, before what is measured. pairs: of turns beside a hung backend. tries: at
    most so many for a judged turn, as long as it is void."""

    drop: float = 10.0
    measured: float = 20.0
    others: float = 8.0  # measured, of what is not judged
    shares: float = 14.0
    phases: tuple[float, float, float] = (5.0, 6.0, 8.0)  # before an overload: normal, at the limit; after
    overload: float = 60.0
    overload_without: float = 10.0  # with no reserve
    pairs: int = 3
    tries: int = 3


_QUICK = Size(3.0, 5.0, 4.0, 8.0, (3.0, 4.0, 5.0), overload=20.0, overload_without=0.0, pairs=2, tries=1)


def run(folder: Path, quick: bool, say: Say, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Gives what goes into the JSON result. wanted: texts; the cases with one of them in their names are all
    that is measured, beside a quiet tenant alone. Raises ServerFailed, LoadFailed, OSError, ValueError."""
    cases = chosen(quick, wanted)
    machine.raise_open_files(16_000)
    size, bench = (_QUICK if quick else Size()), Bench(folder, say)
    found: dict[str, Any] = {"threads": THREADS, "view_ms": VIEW, "size": asdict(size)}
    found["capacity"] = capacity = bench.capacity(VIEW, 5 if quick else 8)
    found["left_out"] = {case.name: case.front.missing() for case in cases if case.front.missing()}
    rows, over_time = _fronts(bench, size, capacity, [c for c in cases if c.name not in found["left_out"]])
    found |= {"rows": rows, "over_time": over_time}
    if not wanted:
        found |= _rest(bench, size, capacity, quick)
    if not wanted and not quick:
        PICTURE.write_text(admission_plot.draw(over_time, size.drop))
        say(f"written: {PICTURE}")
    return {**found, "bars": _bars(found)}


def _rest(bench: Bench, size: Size, capacity: float, quick: bool) -> dict[str, Any]:
    """Twenty tenants, overload, a hung backend, and what admission itself costs."""
    return {
        "shares": [_shares(bench, size, heavier) for heavier in ((3.0,) if quick else (1.0, 3.0))],
        "overload": [
            _overload(bench, size.phases, seconds, reserve, capacity)
            for seconds, reserve in ((size.overload, None), (size.overload_without, 0))
            if seconds
        ],
        "hung": _hung(bench, size),
        "cost": admission_cost.run(quick),
    }


# --- a noisy tenant beside a quiet one ---


@dataclass(frozen=True)
class Case:
    """One row. noisy: how many such tenants. judged: at most so many times the quiet tenant's p99 alone, and
    at least so much of the capacity (0.0: not judged)."""

    name: str
    front: Front = GATEWAY
    noisy: int = 1
    long: int = 1
    poisson: bool = False
    p99: float = 0.0
    goodput: float = 0.0


ALONE = "alone"
CASES = [
    Case(ALONE, noisy=0),
    Case("gateway", p99=1.3, goodput=0.92),
    Case("gateway, reserve 0", Front(reserve=0), p99=2.0, goodput=0.97),
    Case("gateway, two noisy", noisy=2, p99=1.3, goodput=0.92),
    Case(f"gateway, noisy {LONG} x longer", long=LONG, p99=1.3),
    Case("gateway, two workers", Front(workers=2), p99=1.5, goodput=0.85),
    Case("gateway, two nodes", Front(nodes=2), p99=1.5, goodput=0.85),
    Case("gateway, Poisson", poisson=True),
    Case("gunicorn alone", Front("direct")),
    Case("nginx", Front("nginx")),
    Case("haproxy", Front("haproxy")),
]
_QUICK_LEFT_OUT = {"gateway, two noisy", "gateway, Poisson", "nginx", "haproxy"}
PLOTTED = ("gateway", "haproxy", "nginx", "gunicorn alone")


def chosen(quick: bool, wanted: Sequence[str] = ()) -> list[Case]:
    """The cases to measure. wanted: texts in the names of those that are asked for. Raises ValueError."""
    if not wanted:
        return [case for case in CASES if not quick or case.name not in _QUICK_LEFT_OUT]
    found = [case for case in CASES if case.name == ALONE or any(text in case.name for text in wanted)]
    if len(found) == 1 and ALONE not in wanted:
        names = ", ".join(repr(case.name) for case in CASES)
        raise ValueError(f"no case of admission has {' or '.join(map(repr, wanted))} in its name: {names}")
    return found


def _fronts(
    bench: Bench, size: Size, capacity: float, cases: list[Case]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row of each case, and the quiet tenant's answers over time of those that are drawn."""
    rows: list[dict[str, Any]] = []
    over_time = {}
    for case in cases:
        judged = case.p99 or case.name == ALONE
        end = size.drop + (size.measured if judged else size.others)
        for _ in range(size.tries if judged else 1):
            seen, busy = bench.play(streams(case, end), case.front)
            row = summarise(case, seen, size.drop, end, capacity) | {"busy": busy}
            p99 = "none" if row["p99_ms"] is None else f"{row['p99_ms']:.1f} ms"
            void = f"; void: {row['void']}" if row["void"] else ""
            bench.say(f"{case.name}: quiet p99 {p99}, answered {100 * row['answered']:.1f} %{void}")
            if not row["void"]:
                break
        rows.append(row)
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
        "void": why_void(seen),
    }


def why_void(seen: Seen) -> str:
    """Why a turn proves nothing; empty when it does."""
    if seen.busy >= _FULL:
        return "the load core was the limit"
    return f"the load process was {seen.late_ms:.1f} ms late" if seen.late_ms >= _LATE else ""


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
    seen, busy = bench.play(asked, Front(reserve=reserve))
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
    alone = next(row for row in found["rows"] if row["name"] == ALONE)
    bars = []
    for row in found["rows"]:
        if row["p99"]:
            bars += _bars_of_case(row, alone)
    for row in found.get("shares", []):
        bars.append(bar(f"20 tenants {row['weights']}: off the fair share", 100 * row["off"], 5.0, unit="%"))
    for row in found.get("overload", []):
        name = f"3 x overload, reserve {row['reserve']}"
        bars.append(bar(f"{name}: goodput / peak", 100 * row["kept"], 97.0, least=True, unit="%"))
        bars.append(bar(f"{name}: normal again after", row["normal_again_s"], 2.0, unit="s"))
    if hung := found.get("hung"):
        most = max(3.0, 0.1 * hung["without_ms"])
        bars.append(bar("hung backend: p99 of the other rises by", hung["rise_ms"], most, unit="ms"))
        bars.append(bar("hung backend: failed at the other", hung["failed"], 0))
    return bars + (admission_cost.bars(found["cost"]) if "cost" in found else [])


def _bars_of_case(row: dict[str, Any], alone: dict[str, Any]) -> list[dict[str, Any]]:
    name, proven = row["name"], not row["void"]
    ratio = row["p99_ms"] / alone["p99_ms"] if row["p99_ms"] and alone["p99_ms"] else None
    bars = [
        bar(f"{name}: quiet tenant answered", 100 * row["answered"], 100, least=True, unit="%"),
        bar(f"{name}: its p99 / alone", ratio, row["p99"], proven=proven and not alone["void"]),
    ]
    if row["goodput"]:
        of_it, least = 100 * row["of_capacity"], 100 * row["goodput"]
        bars.append(bar(f"{name}: goodput / capacity", of_it, least, least=True, unit="%", proven=proven))
    return [*bars, bar(f"{name}: refusals' p99", row["refused_p99_ms"], 20.0, unit="ms", proven=proven)]
