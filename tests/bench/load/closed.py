"""The load generator: wrk, else h2load, else a plain one in Python (slower than what it measures).

As a program it is that plain one: python -m tests.bench.load.closed URL CONNECTIONS SECONDS BODY_BYTES
[HEADER ...]
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tests.bench import machine

_CONF = Path(__file__).parents[1] / "conf"
_MIB = 1024 * 1024


class LoadFailed(Exception):
    """The load generator gave no result; the text holds what it printed."""


@dataclass(frozen=True)
class Load:
    """What one turn of load gave. Latencies in milliseconds; errors: answers that were not 2xx, or none;
    mib: MiB/s received."""

    rps: float
    p50: float
    p99: float
    errors: int
    mib: float = 0.0


def choose() -> str:
    """The best generator that is installed: wrk, h2load or python."""
    return next((name for name in ("wrk", "h2load") if machine.find(name)), "python")


def run(
    generator: str, url: str, headers: dict[str, str], connections: int, seconds: float, body: int = 0
) -> Load:
    """A closed loop for so many seconds, from the load core: GETs, or POSTs with a body of so many bytes.
    Raises LoadFailed."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    generate = {"wrk": _wrk, "h2load": _h2load, "python": _python}[generator]
    try:
        return generate(url, lines, connections, seconds, body)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LoadFailed(f"{generator} printed something unexpected: {error!r}") from error


def _execute(command: list[str], seconds: float) -> str:
    command = machine.pinned(machine.LOAD_CORE) + command
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode:
        raise LoadFailed(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def paths(
    base: str,
    listed: Path,
    headers: dict[str, str],
    connections: int,
    seconds: float,
    body: Path | None = None,
) -> Load:
    """A closed loop over the paths in a file, each in its turn: GETs, or POSTs of a file. Raises LoadFailed,
    also where wrk is not installed: no other generator here takes paths."""
    if machine.find("wrk") is None:
        raise LoadFailed("this part of the bench needs wrk (apt install wrk)")
    lines = [f"{name}: {value}" for name, value in headers.items()]
    script = ["POST", str(listed), str(body)] if body else ["GET", str(listed)]
    return _wrk_script(base, lines, connections, seconds, script)


def _wrk(url: str, headers: list[str], connections: int, seconds: float, body: int) -> Load:
    return _wrk_script(url, headers, connections, seconds, ["POST" if body else "GET", str(body)])


def _wrk_script(url: str, headers: list[str], connections: int, seconds: float, script: list[str]) -> Load:
    whole = max(1, round(seconds))  # wrk takes whole seconds
    command = [str(machine.find("wrk")), "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "5s"]
    for line in headers:
        command += ["-H", line]
    text = _execute([*command, "-s", str(_CONF / "wrk.lua"), url, "--", *script], seconds)
    found = json.loads(text.strip().splitlines()[-1])
    wall = found["us"] / 1e6
    mib = found["bytes"] / _MIB / wall
    return Load(found["requests"] / wall, found["p50"] / 1e3, found["p99"] / 1e3, found["errors"], mib)


def _h2load(url: str, headers: list[str], connections: int, seconds: float, body: int) -> Load:
    whole = max(1, round(seconds))
    with tempfile.NamedTemporaryFile("r") as log, tempfile.NamedTemporaryFile("wb") as data:
        data.write(b"x" * body)
        data.flush()
        command = [str(machine.find("h2load")), "--h1", "-t1", f"-c{connections}", f"-D{whole}"]
        command += ["--log-file", log.name, *(["-d", data.name] if body else [])]
        for line in headers:
            command += ["-H", line]
        text = _execute([*command, url], seconds)
        spent = _logged(log)
    rate, errors, mib = _h2load_counts(text, whole)
    return Load(rate, quantile(spent, 0.5), quantile(spent, 0.99), errors, mib)


def _logged(log: IO[str]) -> list[float]:
    """The latencies in h2load's log (start in us, status, duration in us), in ms, ordered."""
    return sorted(int(line.split()[2]) / 1e3 for line in log)


def _h2load_counts(text: str, seconds: float) -> tuple[float, int, float]:
    """Requests/s, errors and MiB/s of what h2load printed."""
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    traffic = re.search(r"traffic: \S+ \((\d+)\) total", text)
    if statuses is None or failed is None or traffic is None:
        raise ValueError(text)
    errors = sum(map(int, statuses.groups()[1:])) + int(failed[1])
    return int(statuses[1]) / seconds, errors, int(traffic[1]) / _MIB / seconds


def paced(url: str, headers: dict[str, str], rate: int, seconds: float) -> Load:
    """Requests on a fixed schedule (open loop) from the load core, by h2load. Its clients start a
    millisecond apart, so that the requests are spread and do not come in bursts. Raises LoadFailed."""
    clients = 20
    with tempfile.NamedTemporaryFile("r") as log:
        command = [str(machine.find("h2load")), "--h1", "-t1", f"-c{clients}", f"-n{round(rate * seconds)}"]
        command += [f"--rps={rate / clients:g}", "-r1", "--rate-period=1ms", "--log-file", log.name]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        text = _execute([*command, url], seconds)
        spent = _logged(log)
    found, errors, mib = _h2load_counts(text, seconds)
    return Load(found, quantile(spent, 0.5), quantile(spent, 0.99), errors, mib)


def _python(url: str, headers: list[str], connections: int, seconds: float, body: int) -> Load:
    module = "tests.bench.load.closed"
    command = [sys.executable, "-m", module, url, str(connections), str(seconds), str(body)]
    command += headers
    return Load(**json.loads(_execute(command, seconds)))


def quantile(ordered: list[float], part: float) -> float:
    """The value below which this part of the ordered values lies; 0 without values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


class _Client(asyncio.Protocol):
    """One kept connection that sends its next request when the answer is whole (by Content-Length)."""

    def __init__(self, request: bytes, spent: list[float], counts: Counter[str]) -> None:
        self._request, self._spent, self._counts = request, spent, counts
        self._head = b""
        self._left = -1  # bytes of the answer's body that are to come; -1: its head is not whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._counts["bytes"] += len(data)
        if self._left < 0:
            self._head += data
            head, mark, data = self._head.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head) if mark else None
            if length is None:
                return
            self._left = int(length[1])
        self._left -= len(data)
        if self._left > 0:
            return
        self._spent.append(time.perf_counter() - self._sent)
        self._counts["errors"] += not self._head.startswith(b"HTTP/1.1 2")
        self._head, self._left = b"", -1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._counts["errors"] += 1


async def _generate(url: str, connections: int, seconds: float, body: int, headers: list[str]) -> Load:
    parts = urlsplit(url)
    lines = [f"{'POST' if body else 'GET'} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    lines += [f"Content-Length: {body}"] if body else []
    request = ("\r\n".join(lines) + "\r\n\r\n").encode() + b"x" * body
    spent: list[float] = []
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(request, spent, counts), parts.hostname, parts.port)
    await asyncio.sleep(seconds)
    wall = time.perf_counter() - began
    ordered = sorted(1e3 * one for one in spent)
    p50, p99 = quantile(ordered, 0.5), quantile(ordered, 0.99)
    return Load(len(spent) / wall, p50, p99, counts["errors"], counts["bytes"] / _MIB / wall)


if __name__ == "__main__":
    _url, _connections, _seconds, _body, *_headers = sys.argv[1:]
    _found = asyncio.run(_generate(_url, int(_connections), float(_seconds), int(_body), _headers))
    print(json.dumps(_found.__dict__))
