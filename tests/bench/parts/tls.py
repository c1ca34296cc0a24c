"""TLS with clients: requests on kept connections beside plain ones, full handshakes beside HAProxy, and the
memory of a connection."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.load.closed import LoadFailed
from tests.bench.parts import idle
from tests.bench.parts.proxy import CONNECTIONS, why_void
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import Site
from tests.bench.sites.servers import Server
from tests.support.certificates import Authority
from tests.support.ports import free_port

GET_BAR, HANDSHAKE_BAR, MEMORY_BAR = (0.75, 0.9), (0.5, 0.8), (60.0, 40.0)
_CLIENTS = 4  # that shake hands, one after the other each


def run(
    folder: Path, rounds: int, seconds: int, connections: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, LoadFailed, OSError."""
    machine.raise_open_files(2 * connections + 500)
    site = Site(folder)
    ca = Authority(folder / "tls")
    pair = ca.pair("server", "dns:bench.example")
    both = Path(pair.certificate).read_bytes() + Path(pair.key).read_bytes()
    (folder / "tls" / "both.pem").write_bytes(both)
    with ExitStack() as stack:
        stack.enter_context(contenders.backend(site))
        ours, tls = _gateway(site)
        stack.enter_context(ours)
        get = _get(ours, tls, site.token(), rounds, seconds, say)
        ports = {"gateway": (ours, tls)}
        if machine.find("haproxy"):
            theirs, port = _haproxy(site)
            stack.enter_context(theirs)
            ports["haproxy"] = theirs, port
        shaken = _handshakes(ports, rounds, seconds, say)
        memory = _memory(ours, tls, site.token(), connections, ca, say)
    ratio = statistics.median(turn["tls"] / turn["plain"] for turn in get)
    proven = any(not turn["void"] for turn in get)
    bars = [bar("TLS 1.3 GET / plain GET, kept connections", ratio, *GET_BAR, least=True, proven=proven)]
    if "haproxy" in shaken:
        found = shaken["gateway"] / shaken["haproxy"]
        text = "full handshakes per CPU second: gateway / haproxy"
        bars.append(bar(text, found, *HANDSHAKE_BAR, least=True))
    bars.append(bar("memory of a kept connection with TLS", memory, *MEMORY_BAR, unit="KiB"))
    return {"get": get, "handshakes": shaken, "connections": connections, "memory_kib": memory, "bars": bars}


def _gateway(site: Site) -> tuple[Server, int]:
    site.write_keys()
    (site.folder / "routing.yaml").write_text(site.routing())
    port, tls = free_port(), free_port()
    path = site.fill("tls_gateway.conf", port, ADMIN=free_port(), TLS=tls)
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(path)]
    return Server("gateway", command, port, site.folder), tls


def _haproxy(site: Site) -> tuple[Server, int]:
    port, tls = free_port(), free_port()
    path = site.fill("tls_haproxy.cfg", port, TLS=tls)
    command = [str(machine.find("haproxy")), "-db", "-q", "-f", str(path)]
    return Server("haproxy", command, port, site.folder), tls


def _get(
    server: Server, tls: int, token: str, rounds: int, seconds: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    generator = next((name for name in ("wrk", "h2load") if machine.find(name)), "")
    if not generator:
        raise LoadFailed("this part of the bench needs wrk or h2load (apt install wrk)")
    turns = []
    for number in range(-1, rounds):  # the first one is for caches and branch predictors
        turn: dict[str, Any] = {"void": ""}
        for name, base in (("plain", f"http://127.0.0.1:{server.port}"), ("tls", f"https://127.0.0.1:{tls}")):
            used, core, began = server.cpu_seconds(), machine.core_times(machine.LOAD_CORE), time.monotonic()
            found = closed.run(generator, f"{base}/bench/item", headers, CONNECTIONS, seconds)
            cpu = 100.0 * (server.cpu_seconds() - used) / (time.monotonic() - began)
            load = machine.busy_between(core, machine.core_times(machine.LOAD_CORE))
            turn[name], turn["void"] = found.rps, turn["void"] or why_void(cpu, load, found.errors)
            turn[f"{name}_per_cpu"] = found.rps * 100.0 / cpu
        if number >= 0:
            turns.append(turn)
            void = f"  void: {turn['void']}" if turn["void"] else ""
            each = f"plain {turn['plain']:9,.0f}/s, TLS {turn['tls']:9,.0f}/s"
            say(f"GET, round {number + 1} of {rounds}: {each}{void}")
    return turns


def _handshakes(
    servers: dict[str, tuple[Server, int]], rounds: int, seconds: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Full ones for each second of the server's CPU, by server: the median."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, (server, port) in servers.items():
            used = server.cpu_seconds()
            count = _shake_hands(port, seconds)
            found[name].append(count / (server.cpu_seconds() - used))
            say(f"handshakes, round {number + 1} of {rounds}: {name:8} {found[name][-1]:7,.0f} a CPU second")
    return {name: statistics.median(each) for name, each in found.items()}


def _shake_hands(port: int, seconds: int) -> int:
    """How many new connections there were. Raises LoadFailed."""
    openssl = machine.find("openssl")
    if openssl is None:
        raise LoadFailed("this part of the bench needs openssl (apt install openssl)")
    command = [openssl, "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", str(seconds)]
    command = [*machine.pinned(machine.LOAD_CORE), *command]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(_CLIENTS)]
    texts = [client.communicate(timeout=seconds + 30)[0] for client in clients]
    counts = [re.search(r"(\d+) connections in \d+ real seconds", text) for text in texts]
    if not all(counts):
        raise LoadFailed(f"openssl s_time printed something unexpected: {texts}")
    return sum(int(count[1]) for count in counts if count)


def _memory(
    server: Server, tls: int, token: str, connections: int, ca: Authority, say: Callable[[str], None]
) -> float:
    """KiB of each connection that served one request, of the further half and of all: the larger one."""
    head = f"GET /bench/item HTTP/1.1\r\nHost: bench.example\r\nAuthorization: Bearer {token}\r\n\r\n"
    at = idle.Asked(tls, head.encode(), str(ca.path))
    before = idle.kib(server)
    wave = idle.wave(server, connections, at, before)
    found = float(max(wave["each_kib"], wave["further_kib"]))
    say(f"{connections:,} connections with TLS: {found:.1f} KiB each")
    return found
