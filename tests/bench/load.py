"""The load generator: wrk, else h2load, else a plain one in Python (slower than what it measures).

As a program it is that plain one: python -m tests.bench.load URL CONNECTIONS SECONDS [HEADER ...]
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import machine

_CONF = Path(__file__).parent / "conf"


class LoadFailed(Exception):
    """The load generator gave no result; the text holds what it printed."""


@dataclass(frozen=True)
class Load:
    """What one turn of load gave. Latencies in milliseconds; errors: answers that were not 2xx, or none."""

    rps: float
    p50: float
    p99: float
    errors: int


def choose() -> str:
    """The best generator that is installed: wrk, h2load or python."""
    return next((name for name in ("wrk", "h2load") if machine.find(name)), "python")


def run(generator: str, url: str, headers: dict[str, str], connections: int, seconds: float) -> Load:
    """A closed loop of GETs for so many seconds, from the load core. Raises LoadFailed."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    generate = {"wrk": _wrk, "h2load": _h2load, "python": _python}[generator]
    try:
        return generate(url, lines, connections, seconds)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LoadFailed(f"{generator} printed something unexpected: {error!r}") from error


def _execute(command: list[str], seconds: float) -> str:
    command = machine.pinned(machine.LOAD_CORE) + command
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode:
        raise LoadFailed(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _wrk(url: str, headers: list[str], connections: int, seconds: float) -> Load:
    whole = max(1, round(seconds))  # wrk takes whole seconds
    command = [str(machine.find("wrk")), "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "5s"]
    for line in headers:
        command += ["-H", line]
    text = _execute([*command, "-s", str(_CONF / "wrk.lua"), url], seconds)
    found = json.loads(text.strip().splitlines()[-1])
    rps = found["requests"] / found["us"] * 1e6
    return Load(rps, found["p50"] / 1e3, found["p99"] / 1e3, found["errors"])


def _h2load(url: str, headers: list[str], connections: int, seconds: float) -> Load:
    whole = max(1, round(seconds))
    with tempfile.NamedTemporaryFile("r") as log:
        command = [str(machine.find("h2load")), "--h1", "-t1", f"-c{connections}", f"-D{whole}"]
        command += ["--log-file", log.name]
        for line in headers:
            command += ["-H", line]
        text = _execute([*command, url], seconds)
        entries = [line.split() for line in log]  # start (us), status, duration (us)
    spent = sorted(int(entry[2]) / 1e3 for entry in entries)
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    if statuses is None or failed is None:
        raise ValueError(text)
    errors = sum(map(int, statuses.groups()[1:])) + int(failed[1])
    return Load(int(statuses[1]) / whole, quantile(spent, 0.5), quantile(spent, 0.99), errors)


def _python(url: str, headers: list[str], connections: int, seconds: float) -> Load:
    command = [sys.executable, "-m", "tests.bench.load", url, str(connections), str(seconds), *headers]
    return Load(**json.loads(_execute(command, seconds)))


def quantile(ordered: list[float], part: float) -> float:
    """The value below which this part of the ordered values lies; 0 without values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


class _Client(asyncio.Protocol):
    """One kept connection that sends its next request when the answer is whole (by Content-Length)."""

    def __init__(self, head: bytes, spent: list[float], errors: list[int]) -> None:
        self._head, self._spent, self._errors = head, spent, errors
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._head)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head) if mark else None
        if length is None or len(body) < int(length[1]):
            return
        self._spent.append(time.perf_counter() - self._sent)
        self._errors[0] += not head.startswith(b"HTTP/1.1 2")
        self._buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._errors[0] += 1


async def _generate(url: str, connections: int, seconds: float, headers: list[str]) -> Load:
    parts = urlsplit(url)
    lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    spent: list[float] = []
    errors = [0]
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(head, spent, errors), parts.hostname, parts.port)
    await asyncio.sleep(seconds)
    rps = len(spent) / (time.perf_counter() - began)
    ordered = sorted(1e3 * one for one in spent)
    return Load(rps, quantile(ordered, 0.5), quantile(ordered, 0.99), errors[0])


if __name__ == "__main__":
    _url, _connections, _seconds, *_headers = sys.argv[1:]
    print(json.dumps(asyncio.run(_generate(_url, int(_connections), float(_seconds), _headers)).__dict__))
