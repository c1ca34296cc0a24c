"""Does the gateway keep slow clients away from a threaded app? gunicorn with 8 threads, behind the gateway,
behind nginx, and on its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.load.closed import LoadFailed
from tests.bench.load.pace import Paced, steady
from tests.bench.load.slow_clients import Plan
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import Site
from tests.bench.sites.servers import Server

THREADS = 8
KEPT = 0.95  # of a normal client's throughput
NORMAL = 4  # connections of the normal client
REUSED = 0.3  # of the paced requests
HEAD_TIME, CPU = 10.0, 20.0  # seconds, percent of a core
_PROBES = 50  # requests per second
_THERE = 1.3  # seconds until all slow clients have come
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much of each; seconds: of each measured stretch."""

    slow: int = 500
    heads: int = 1_000
    paced: int = 250  # connections
    requests: int = 40  # on each of them
    seconds: float = 6.0
    alone: float = 3.0


_QUICK = Size(slow=200, heads=300, paced=120, requests=4, seconds=1.0, alone=1.0)


def run(folder: Path, quick: bool, say: Say) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, LoadFailed, OSError."""
    size = _QUICK if quick else Size()
    machine.raise_open_files(8_000)
    names = ["gateway", "gunicorn"] if quick else ["gateway", "nginx", "gunicorn"]
    fronts = {name: _front(folder, name, size, say) for name in names if name not in contenders.missing()}
    heads = _heads(folder, size, say)
    paced = _paced(folder, size, say)
    seats = _seats(folder, size, say)
    found = {"threads": THREADS, **asdict(size), "fronts": fronts}
    found |= {"slow_heads": heads, "paced_requests": paced, "seats": seats}
    return {**found, "bars": _bars(found)}


# --- slow bodies and slow readers ---


def _front(folder: Path, name: str, size: Size, say: Say) -> dict[str, Any]:
    """One front: a normal client alone and beside each kind of slow ones."""
    with _site(folder / name, name) as (site, server, prefix):
        url = f"http://127.0.0.1:{server.port}{prefix}/item"
        headers = {"Authorization": f"Bearer {site.token()}"} if name == "gateway" else {}
        generator = closed.choose()
        found: dict[str, Any] = {}
        for kind in ("upload", "download"):
            _counts(site)
            alone = closed.run(generator, url, headers, NORMAL, size.alone)
            plan = Plan(server.port, size.slow, prefix, headers.get("Authorization", ""))
            with _slow(kind, plan) as clients:
                time.sleep(_THERE)
                beside = closed.run(generator, url, headers, NORMAL, size.seconds)
                slow = _finish(clients)
            kept = beside.rps / alone.rps if alone.rps else None
            counted = _counts(site)
            found[kind] = {"alone_rps": alone.rps, "rps": beside.rps, "p99_ms": beside.p99, "kept": kept}
            found[kind] |= {"failed": beside.errors, "slow": slow, "most_inside": counted["most"]}
            say(
                f"{name}: beside {size.slow} slow {kind}s {beside.rps:,.0f}/s, alone {alone.rps:,.0f}/s;"
                f" {slow['whole']} of theirs whole"
            )
        found["log"] = complaints(server)
        return found


# --- slow heads ---


def _heads(folder: Path, size: Size, say: Say) -> dict[str, Any]:
    with _site(folder / "heads", "gateway") as (site, server, prefix):
        plan = Plan(server.port, size.heads, prefix, f"Bearer {site.token()}")
        base = f"http://127.0.0.1:{server.port}"
        quiet = asyncio.run(_probe(base, plan, size.alone))
        with _slow("heads", plan) as clients:
            time.sleep(_THERE)
            used, began = server.cpu_seconds(), time.monotonic()
            beside = asyncio.run(_probe(base, plan, 6.0))
            cpu = 100 * (server.cpu_seconds() - used) / (time.monotonic() - began)
            slow = _finish(clients)
        say(
            f"{size.heads} slow heads: {slow['statuses']}"
            f" after {slow['shortest_s']:.1f} to {slow['longest_s']:.1f} s"
        )
        figures = {"quiet": quiet.figures(), "beside": beside.figures()}
        return {**figures, "cpu": cpu, "slow": slow, "log": complaints(server)}


async def _probe(base: str, plan: Plan, seconds: float) -> Paced:
    found = Paced()
    headers = {"Authorization": plan.authorization}
    async with aiohttp.ClientSession(base, headers=headers) as client:
        await steady(client, f"{plan.prefix}/quick", _PROBES, seconds, found)
    return found


# --- connections that the app may close at any moment ---


def _paced(folder: Path, size: Size, say: Say) -> dict[str, Any]:
    """Each client has an address of the app to itself, so that its pace is that of one connection there."""
    with _site(folder / "paced", "gateway", addresses=size.paced) as (site, server, prefix):
        plan = Plan(server.port, size.paced, prefix, f"Bearer {site.token()}", size.requests)
        _counts(site)
        with _slow("paced", plan) as clients:
            found = _finish(clients, 2.5 * size.requests + 30)
        counted = _counts(site)
        part = counted["reused"] / counted["served"] if counted["served"] else None
        total = size.paced * size.requests
        say(f"{total:,} paced requests: {found['statuses']}, {counted['reused']} on reused connections")
        row = {"requests": total, "statuses": found["statuses"], "whole": found["whole"]}
        return {**row, "served": counted["served"], "reused": part, "log": complaints(server)}


# --- seats ---


def _seats(folder: Path, size: Size, say: Say) -> dict[str, Any]:
    """The app has twice the threads that the gateway is told of, so that one too many would be seen."""
    with _site(folder / "seats", "gateway", app_threads=2 * THREADS) as (site, server, prefix):
        _counts(site)
        headers = {"Authorization": f"Bearer {site.token()}"}
        url = f"http://127.0.0.1:{server.port}{prefix}/item"
        found = closed.run(closed.choose(), url, headers, 8 * THREADS, max(1.0, size.alone / 2))
        most = _counts(site)["most"]
        say(f"{8 * THREADS} clients at once: {found.rps:,.0f}/s, at most {most} inside")
        return {"rps": found.rps, "failed": found.errors, "most_inside": most, "log": complaints(server)}


# --- what they share ---


@contextmanager
def _site(
    folder: Path, name: str, *, addresses: int = 1, app_threads: int = THREADS
) -> Iterator[tuple[Site, Server, str]]:
    """The app, and what stands before it; gives the prefix of its paths as well."""
    folder.mkdir()
    site = Site(folder)
    with ExitStack() as stack:
        behind = stack.enter_context(app(site, addresses, app_threads))
        if name == "gunicorn":
            yield site, behind, ""
            return
        text = routing(site.backend_port, addresses) if name == "gateway" else ""
        server = contenders.server(
            name, site, routing=text, config="shield_nginx.conf" if name == "nginx" else ""
        )
        yield site, stack.enter_context(server), "/bench"


def app(site: Site, addresses: int, threads: int) -> Server:
    command = [sys.executable, "-m", "gunicorn", "tests.bench.sites.shield_app:application"]
    command += ["--worker-class", "gthread", "--workers", "1", "--threads", str(threads), "--keep-alive", "2"]
    command += ["--graceful-timeout", "1", "--no-control-socket", "--log-level", "warning"]
    for number in range(addresses):
        command += ["--bind", f"{_host(number)}:{site.backend_port}"]
    return Server("gunicorn", command, site.backend_port, site.folder, machine.LOAD_CORE)


def _host(number: int) -> str:
    """All of 127.0.0.0/8 is this machine."""
    return f"127.0.{number // 250}.{number % 250 + 1}"


def routing(port: int, addresses: int) -> str:
    """The gateway's routing config: a route and a backend for each address of the app."""
    several = addresses > 1
    scopes = {"read": ["bench:read"], "write": ["bench:write"]}
    names = [f"app-{number}" for number in range(addresses)]
    paths = [f"/bench-{number}" if several else "/bench" for number in range(addresses)]
    document = {
        "version": 1,
        "backends": {
            name: {"kind": "gunicorn", "threads": THREADS, "addresses": [f"http://{_host(number)}:{port}"]}
            for number, name in enumerate(names)
        },
        "tenants": {"acme": {"rate_limit": {"rate": "1000000/s", "burst": 1000000}}},
        "routes": [
            {"name": name, "path": f"{path}/{{rest*}}", "strip": path, "target": name, "scopes": scopes}
            for name, path in zip(names, paths, strict=True)
        ],
    }
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)


@contextmanager
def _slow(kind: str, plan: Plan) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.load.slow_clients", kind, json.dumps(asdict(plan))]
    command = machine.pinned(machine.LOAD_CORE) + command
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _finish(clients: subprocess.Popen[str], seconds: float = 40.0) -> dict[str, Any]:
    """Tell them to hurry, and hear what they have seen. Raises LoadFailed."""
    try:
        text, problems = clients.communicate("\n", timeout=seconds)
        found: dict[str, Any] = json.loads(text)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise LoadFailed(f"the slow clients did not end well: {error!r}") from error
    if problems:
        raise LoadFailed(f"the slow clients complained: {problems[-2000:]}")
    return found


def _counts(site: Site) -> dict[str, int]:
    """What the app counted since the last time, once nobody is inside (or after 5 s)."""
    most = served = reused = 0
    for _ in range(50):
        connection = HTTPConnection("127.0.0.1", site.backend_port, timeout=20)
        connection.request("GET", "/counts")
        found: dict[str, int] = json.loads(connection.getresponse().read())
        connection.close()
        most = max(most, found["most"])
        served, reused = served + found["served"], reused + found["reused"]
        if not found["inside"]:
            break
        time.sleep(0.1)
    return {"most": most, "served": served, "reused": reused}


def complaints(server: Server) -> list[str]:
    """What a server's log says went wrong, the first few."""
    lines = server.log.read_text(errors="replace").splitlines()
    return [line for line in lines if "Traceback" in line or "ERROR" in line or "xception" in line][:5]


def _bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    ours, heads, paced = found["fronts"]["gateway"], found["slow_heads"], found["paced_requests"]
    quiet, beside = heads["quiet"]["p50_ms"], heads["beside"]["p50_ms"]
    clients = found["heads"]
    bars = []
    for kind in ("upload", "download"):
        row = ours[kind]
        bars += [
            bar(f"slow {kind}s: throughput kept", row["kept"], KEPT, least=True),
            bar(f"slow {kind}s: most requests inside the app", row["most_inside"], THREADS),
            bar(f"slow {kind}s: whole in the end", row["slow"]["whole"], found["slow"], least=True),
        ]
    complaints = sum(len(row["log"]) for row in (ours, heads, paced, found["seats"]))
    return [
        *bars,
        bar("slow heads: closed with 408", heads["slow"]["whole"], clients, least=True),
        bar("slow heads: the last closed after", heads["slow"]["longest_s"], HEAD_TIME + 2, unit="s"),
        bar(
            "slow heads: the first closed after", heads["slow"]["shortest_s"], HEAD_TIME, least=True, unit="s"
        ),
        bar("slow heads: probe's p50 / without them", beside / quiet if quiet else None, 2.0),
        bar("slow heads: CPU, probes included", heads["cpu"], CPU, unit="%"),
        bar("paced requests: on reused connections", paced["reused"], REUSED, least=True),
        bar("paced requests: not answered with 200", paced["requests"] - paced["whole"], 0),
        bar("paced requests: executed too often or never", abs(paced["served"] - paced["requests"]), 0),
        bar(f"{8 * THREADS} clients: most requests inside the app", found["seats"]["most_inside"], THREADS),
        bar("errors in the gateway's log", complaints, 0),
    ]
