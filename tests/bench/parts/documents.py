"""The gateway's own documents: beside what it proxies, beside Kinto on PostgreSQL, beside bare SQLite; and
whether a large collection is slower than a small one."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.load.closed import Load
from tests.bench.parts import documents_export, documents_feed
from tests.bench.reports.bars import bar
from tests.bench.sites import documents_bare, documents_site, kinto
from tests.bench.sites.documents_site import (
    EACH,
    FEW,
    LARGE,
    ORDERS,
    PAGE,
    SMALL,
    DocumentsSite,
    document,
    identifier,
    listing,
)

CONNECTIONS = 32
MANY, MANY_QUICK = 1_000_000, 50_000
DEEP = 0.9  # of the collection stands before the deep page
_WALK = 1000  # documents of a page on the way there
_GROWN_MIB = 16.0  # what an export may take of memory, however large the collection

Turn = Callable[[float], Load]
Say = Callable[[str], None]


def run(folder: Path, quick: bool, venv: Path, say: Say) -> dict[str, Any]:
    """Gives what goes into the JSON result. venv: where Kinto is, or is installed. Raises ServerFailed,
    ContenderWrong, LoadFailed."""
    rounds, seconds = (2, 1.0) if quick else (5, 2.0)
    found: dict[str, Any] = {"rounds": rounds, "seconds": seconds, "connections": CONNECTIONS}
    absent = kinto.missing(venv)
    if absent:
        say(f"without Kinto: {absent}")
    (folder / "bare").mkdir()
    (folder / "gateway").mkdir()
    with _on_the_load_core():
        say("creating, beside a bare sqlite3 loop")
        found["writes"] = documents_bare.writes(folder / "bare", rounds, seconds)
        say(f"filling a store with {MANY_QUICK if quick else MANY:,} documents")
        with DocumentsSite(folder / "gateway", MANY_QUICK if quick else MANY) as site:
            found |= {"documents": site.count, "fill_s": site.fill_seconds}
            say(f"filled in {site.fill_seconds:.0f} s")
            found["proxied"] = _rounds(_proxied(site), rounds, seconds, say)
            found["large"] = _rounds(_sizes(site), rounds, seconds, say)
            for name, order in (("deep", ""), ("deep_sorted", "customer")):
                found[name] = _rounds(_depths(site, order, say), rounds, seconds, say)
            say("creating over HTTP")
            found["created"] = {name: _created(site, int(name), rounds, seconds) for name in found["writes"]}
            say("exporting")
            found["export"] = documents_export.run(site, 1 if quick else 3)
            say("events")
            found["events"] = documents_feed.run(site, 2 * seconds)
            found["missing"] = absent
            found["kinto"] = {} if absent else _kinto(site, venv, rounds, seconds, say)
    return {**found, "bars": bars(found)}


@contextmanager
def _on_the_load_core() -> Iterator[None]:
    """What this process does itself must not take from the server's core."""
    before = os.sched_getaffinity(0)
    if machine.LOAD_CORE in before:
        os.sched_setaffinity(0, {machine.LOAD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _proxied(site: DocumentsSite) -> dict[str, Turn]:
    """Reads of documents, and of the backend through the same gateway, whose answers are as large."""
    return {
        "read by id": lambda seconds: site.load(SMALL, _ids(), CONNECTIONS, seconds),
        "proxied": lambda seconds: site.load(LARGE, ["/bench/item"], CONNECTIONS, seconds),
    }


def _ids() -> list[str]:
    return [f"{ORDERS}{identifier(number)}" for number in range(FEW)]


def _sizes(site: DocumentsSite) -> dict[str, Turn]:
    """A page by an indexed field, one client: of many documents, and of few."""
    sizes = {"many": (LARGE, site.count), "few": (SMALL, FEW)}
    return {name: _listing(site, tenant, count) for name, (tenant, count) in sizes.items()}


def _listing(site: DocumentsSite, tenant: str, count: int) -> Turn:
    listed = [listing(customer) for customer in range(count // EACH)]
    if len(site.get(tenant, listed[0])["items"]) != PAGE:
        raise ValueError("a customer has fewer documents than a page")
    return lambda seconds: site.load(tenant, listed, 1, seconds)


def _depths(site: DocumentsSite, order: str, say: Say) -> dict[str, Turn]:
    """A deep page and the first one, one client. order: of the list, else by id."""
    path = f"{ORDERS}?sort={order}&limit=" if order else f"{ORDERS}?limit="
    began, cursor = time.monotonic(), ""
    for _ in range(int(site.count * DEEP) // _WALK):
        cursor = "&cursor=" + site.get(LARGE, f"{path}{_WALK}&fields=customer{cursor}")["next"]
    say(f"walked {DEEP:.0%} of the collection in {time.monotonic() - began:.0f} s")
    paths = {"deep": f"{path}{PAGE}{cursor}", "first": f"{path}{PAGE}"}
    return {name: _one_path(site, listed) for name, listed in paths.items()}


def _one_path(site: DocumentsSite, path: str) -> Turn:
    return lambda seconds: site.load(LARGE, [path], 1, seconds)


def _created(site: DocumentsSite, clients: int, rounds: int, seconds: float) -> dict[str, float]:
    """Creates a second over HTTP, each client its next one when the last one is durable."""
    created = ["/documents/created/"]
    turns = [site.load(SMALL, created, clients, seconds, document(0, FEW)) for _ in range(rounds)]
    rates, errors = [turn.rps for turn in turns], sum(turn.errors for turn in turns)
    return {"rps": statistics.median(rates), "errors": errors}


def _kinto(site: DocumentsSite, venv: Path, rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Each work on both, over as many documents."""
    documents = [{"id": identifier(number), **document(number, FEW)} for number in range(FEW)]
    with ExitStack() as stack:
        other = stack.enter_context(kinto.running(site.site, venv, documents))
        customers = range(FEW // EACH)
        works: dict[str, tuple[list[str], list[str], dict[str, Any] | None]] = {
            "read": (_ids(), [f"{kinto.COLLECTION}/{one['id']}" for one in documents], None),
            "page": (
                [listing(customer) for customer in customers],
                [f"{kinto.COLLECTION}?customer={customer}&_limit={PAGE}" for customer in customers],
                None,
            ),
            # Into a collection of its own: what is created must not slow the pages.
            "create": (["/documents/created/"], [kinto.CREATED], document(0, FEW)),
        }
        found = {}
        for name, (ours, theirs, body) in works.items():
            wrapped = body and {"data": body}
            turns: dict[str, Turn] = {
                f"{name}, gateway": _turn(site, site.server.port, ours, site.headers(SMALL), body),
                f"{name}, Kinto": _turn(site, other.server.port, theirs, other.headers, wrapped),
            }
            found[name] = _rounds(turns, rounds, seconds, say)
    return found


def _turn(
    site: DocumentsSite, port: int, listed: list[str], headers: dict[str, str], body: dict[str, Any] | None
) -> Turn:
    folder = site.site.folder
    return lambda seconds: documents_site.load(folder, port, listed, headers, CONNECTIONS, seconds, body)


def _rounds(turns: dict[str, Turn], rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Two kinds of load by turns. Gives the figures of each, and the ratios of the first to the second."""
    loads: dict[str, list[tuple[Load, float, float]]] = {name: [] for name in turns}
    for turn in turns.values():  # caches and pools
        turn(1.0)
    for number in range(rounds):
        for name, turn in turns.items():
            cores = machine.SERVER_CORE, machine.LOAD_CORE
            before = [machine.core_times(core) for core in cores]
            one = turn(seconds)
            after = [machine.core_times(core) for core in cores]
            server, load_core = map(machine.busy_between, before, after)
            loads[name].append((one, server, load_core))
            failed = f", {one.errors} failed" if one.errors else ""
            times = f"{one.rps:9,.0f}/s, p99 {one.p99:.2f} ms"
            say(f"round {number + 1} of {rounds}: {name:16} {times}{failed}")
    return summarise(loads)


def summarise(loads: dict[str, list[tuple[Load, float, float]]]) -> dict[str, Any]:
    """Medians of each of two, and of the first divided by the second in the same round. A load with how busy
    the server's core and the load's core were."""
    first, second = loads.values()
    rows = {
        name: {
            "rps": statistics.median(load.rps for load, _, _ in turns),
            "p50_ms": statistics.median(load.p50 for load, _, _ in turns),
            "p99_ms": statistics.median(load.p99 for load, _, _ in turns),
            "errors": sum(load.errors for load, _, _ in turns),
            "server": statistics.median(server for _, server, _ in turns),
            "load_core": statistics.median(core for _, _, core in turns),
            "turns": [asdict(load) for load, _, _ in turns],
        }
        for name, turns in loads.items()
    }
    pairs = [(ours[0], theirs[0]) for ours, theirs in zip(first, second, strict=True)]
    ratios = {
        figure: statistics.median(getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs)
        for figure in ("rps", "p50", "p99")
        if all(getattr(theirs, figure) for _, theirs in pairs)
    }
    return {"rows": rows, "ratios": ratios, "failed": sum(row["errors"] for row in rows.values())}


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The verdict. A comparison in which requests failed proves nothing. What Kinto refuses counts for
    it, though: it asks for creates again (409) of which two came in one millisecond."""

    def ratio(part: dict[str, Any], figure: str, text: str, limits: tuple[float, float], least: bool) -> Any:
        ours, theirs = part["rows"].values()
        proven = not ours["errors"] and (not theirs["errors"] or part in found["kinto"].values())
        return bar(text, part["ratios"].get(figure), *limits, least=least, proven=proven)

    clients, many = documents_bare.CLIENTS, f"{found['documents']:,}"
    writes, export, events = found["writes"], found["export"], found["events"]
    shared, alone = writes[str(clients)]["ratio"], writes["1"]["ratio"]
    return [
        ratio(found["proxied"], "rps", "read by id / proxied GET", (0.6, 0.9), True),
        *(
            ratio(found["kinto"][name], "rps", f"{name}: gateway / Kinto", (5.0, 10.0), True)
            for name in ("read", "create", "page")
            if name in found["kinto"]
        ),
        bar(f"create, {clients} clients / bare, as many a commit", shared, 0.3, 0.5, least=True),
        bar("create, one client / bare, a commit each", alone, 0.5, 0.7, least=True),
        ratio(found["large"], "p99", f"p99 of a page, {many} documents / {FEW:,}", (2.0, 1.2), False),
        ratio(found["deep"], "p50", "deep page / first, by id", (1.2, 1.05), False),
        ratio(found["deep_sorted"], "p50", "deep page / first, by an indexed field", (1.2, 1.05), False),
        bar("export / bare select and write", export["ratio"], 0.5, 0.8, least=True),
        bar("memory that an export takes", export["grown_mib"], _GROWN_MIB, unit="MiB"),
        bar("event after its write was sent, p99", events["through"]["p99_ms"], 50, 10, unit="ms"),
        bar("event after another process's commit, p99", events["other"]["p99_ms"], 50, 10, unit="ms"),
    ]
