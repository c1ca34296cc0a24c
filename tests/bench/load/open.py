"""Tenants that ask on a schedule, whatever comes back (open loop): a process of its own on the load core.

A request's time counts from when it was due, not from when it could be sent, so that a stall of the server or
of this process is not hidden. The process goes before all others on its core, where it may, so that what it
measures does not keep it waiting. A request goes on a kept connection that is free, else on a new one; where
there are several ports, each tenant's requests take them by turns.

python -m tests.bench.load.open takes {"ports": [...], "patience": ..., "streams": [...]} on standard input
and prints what was seen.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tests.bench import machine
from tests.bench.load.closed import LoadFailed, quantile

START = 0.3  # seconds until the first request may be due
_KEPT = 1.0  # seconds that a connection may be idle; gunicorn closes it at 2
_JITTER = 0.05  # of the distance between two requests
_length = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_close = re.compile(rb"(?i)\r\nconnection: *close")


@dataclass(frozen=True)
class Stream:
    """One tenant's requests. rate: per second. begin, end: seconds. poisson: arrivals by chance, else even
    within 5 %."""

    tenant: str
    path: str
    token: str
    rate: float
    end: float
    begin: float = 0.0
    poisson: bool = False

    def schedule(self, seed: int) -> Iterator[float]:
        """When its requests are due."""
        chance = random.Random(seed)
        each = 1.0 / self.rate
        even = due = self.begin + chance.random() * each
        while due < self.end:
            yield due
            even += chance.expovariate(self.rate) if self.poisson else each
            due = even if self.poisson else even + each * chance.uniform(-_JITTER, _JITTER)


@dataclass(frozen=True)
class Answer:
    """due: seconds since the start. ms: since it was due. status: 0 where there was no answer."""

    due: float
    ms: float
    status: int

    @property
    def at(self) -> float:
        """When it came."""
        return self.due + self.ms / 1e3


@dataclass(frozen=True)
class Seen:
    """answers: by tenant. late_ms: p99 of what requests were sent too late. busy: the load core, percent."""

    answers: dict[str, list[Answer]]
    late_ms: float
    busy: float


def run(ports: list[int], streams: list[Stream], patience: float) -> Seen:
    """Play the streams against ports of loopback; who has no answer after `patience` seconds leaves.
    Raises LoadFailed."""
    spec = json.dumps({"ports": ports, "patience": patience, "streams": [asdict(one) for one in streams]})
    command = [*machine.pinned(machine.LOAD_CORE), sys.executable, "-m", "tests.bench.load.open"]
    before = machine.core_times(machine.LOAD_CORE)
    limit = max(one.end for one in streams) + patience + 30
    done = subprocess.run(command, input=spec, capture_output=True, text=True, timeout=limit, check=False)
    busy = machine.busy_between(before, machine.core_times(machine.LOAD_CORE))
    if done.returncode or done.stderr:
        raise LoadFailed(f"the open load complained: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    answers = {name: [Answer(*row) for row in rows] for name, rows in found["answers"].items()}
    return Seen(answers, found["late_ms"], busy)


# --- the process ---


class _Tenant:
    """One stream's connections, and what they saw."""

    def __init__(self, stream: Stream, ports: list[int]) -> None:
        head = f"GET {stream.path} HTTP/1.1\r\nHost: bench\r\n"
        head += f"Authorization: Bearer {stream.token}\r\n" if stream.token else ""
        self.request = head.encode() + b"\r\n"
        self.answers: list[tuple[float, float, int]] = []
        self._idle: dict[int, list[_Connection]] = {port: [] for port in ports}
        self._turns = itertools.cycle(self._idle.items())

    def next(self) -> tuple[int, list[_Connection]]:
        """The port of the next request, and the connections to it that are free."""
        return next(self._turns)

    def free(self, connection: _Connection) -> None:
        """The connection may carry another request."""
        self._idle[connection.port].append(connection)


class _Load:
    """All streams against the ports."""

    def __init__(self, ports: list[int], patience: float, streams: list[Stream]) -> None:
        self.patience = patience
        self.loop = asyncio.get_running_loop()
        self.tenants = [_Tenant(stream, ports) for stream in streams]
        self.began = self.loop.time() + START
        self.late: list[float] = []
        self._under_way: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        plan = [(due, n) for n, stream in enumerate(streams) for due in stream.schedule(n)]
        self._plan = sorted(plan)

    async def play(self) -> None:
        for due, number in self._plan:
            wait = self.began + due - self.loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            self.late.append(self.loop.time() - self.began - due)
            self._fire(self.tenants[number], due)
        while self._under_way:
            await asyncio.sleep(0.02)

    def _fire(self, tenant: _Tenant, due: float) -> None:
        now = self.loop.time()
        port, idle = tenant.next()
        while idle:
            connection = idle.pop()
            if now - connection.idle_since < _KEPT and not connection.transport.is_closing():
                connection.begin(due)
                connection.send()
                return
            connection.transport.abort()
        connection = _Connection(self, tenant, port)
        connection.begin(due)
        task = self.loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: _Connection) -> None:
        try:
            await self.loop.create_connection(lambda: connection, "127.0.0.1", connection.port)
        except OSError:
            connection.end(0)

    def entered(self, connection: _Connection) -> None:
        self._under_way.add(connection)

    def left(self, connection: _Connection) -> None:
        self._under_way.discard(connection)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    transport: asyncio.Transport

    def __init__(self, load: _Load, tenant: _Tenant, port: int) -> None:
        self.port = port
        self._load = load
        self._tenant = tenant
        self._pending = False
        self._buffer = b""
        self._due = self.idle_since = 0.0

    def begin(self, due: float) -> None:
        self._due, self._pending = due, True
        self._load.entered(self)
        self._timer = self._load.loop.call_at(self._load.began + due + self._load.patience, self._give_up)

    def send(self) -> None:
        self.transport.write(self._tenant.request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._pending:
            self.send()
        else:
            transport.abort()  # it took too long

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        length = _length.search(head)
        if not found or (length and len(body) < int(length[1])):
            return
        self._buffer = b""
        self.end(int(head[9:12]))
        if not length or _close.search(head):
            self.transport.close()
        else:
            self.idle_since = self._load.loop.time()
            self._tenant.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._pending:
            self.end(0)

    def _give_up(self) -> None:
        self.end(0)
        if hasattr(self, "transport"):
            self.transport.abort()

    def end(self, status: int) -> None:
        """The answer is whole, or there will be none."""
        if not self._pending:
            return
        self._pending = False
        self._timer.cancel()
        self._load.left(self)
        since = self._load.loop.time() - self._load.began - self._due
        self._tenant.answers.append((round(self._due, 5), round(1e3 * since, 3), status))


async def _play(ports: list[int], patience: float, streams: list[Stream]) -> str:
    load = _Load(ports, patience, streams)
    await load.play()
    answers: dict[str, list[tuple[float, float, int]]] = {}
    for stream, tenant in zip(streams, load.tenants, strict=True):
        answers.setdefault(stream.tenant, []).extend(tenant.answers)
    for rows in answers.values():
        rows.sort()
    return json.dumps({"answers": answers, "late_ms": 1e3 * quantile(sorted(load.late), 0.99)})


def _main() -> None:
    machine.raise_open_files(16_000)
    spec = json.loads(sys.stdin.read())
    gc.disable()
    machine.go_first()
    streams = [Stream(**one) for one in spec["streams"]]
    print(asyncio.run(_play(spec["ports"], spec["patience"], streams)))


if __name__ == "__main__":
    _main()
