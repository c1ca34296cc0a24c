"""Attacks on a gateway, each beside a third tenant that wants no more than its reads, pages and proxied GETs.

A driver is an async function of a `Site` in `tests/faults/attacks/`, under `@attack`. It runs in a process of
its own until it is cancelled; when it returns, or its connection breaks, it is called again. `make bench`
(part isolation) runs each for ten seconds and prints what the third tenant saw; what is right without a clock
(counts, bytes held, the order of turns) is tested beside the code that sees to it.

python -m tests.faults.isolation NAME takes a Site as JSON on standard input.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.auth.keys import issue
from gateway.core.jwt.issuer import local_issuer
from tests.bench import machine
from tests.bench.sites.contenders import Site as Keys
from tests.bench.sites.servers import Server
from tests.faults import attacks
from tests.support.ports import free_port

QUIET, NOISY = "quiet", ("noisy-a", "noisy-b")
TENANTS = (QUIET, *NOISY, *(f"noisy-{number}" for number in range(10)))
THREADS = 8  # of the threaded backend
SCOPES = "read write documents:read documents:write documents:manage"
_CUT_OFF = (OSError, aiohttp.ClientError, asyncio.IncompleteReadError, TimeoutError)
_AGAIN = 0.01  # seconds until a driver that returned is called again


@dataclass(frozen=True)
class Site:
    """A gateway under attack, as its clients see it. admin_port: of its admin listener. pid: of its process.

    /documents/ is its own store; /t/ a threaded backend and /a/ an asynchronous one, as attacked_apps.py has
    them, /ws/ and /e/ another process of it. All tenants of TENANTS may do everything there.
    """

    folder: str
    host: str
    port: int
    admin_port: int
    pid: int

    def token(self, tenant: str, scope: str = SCOPES, lifetime: float = 3600.0) -> str:
        """lifetime: seconds until it ends."""
        rule = local_issuer("", algorithms=("HS256",))
        return issue(Path(self.folder) / "keys.jwks", rule, tenant, scope, "someone", lifetime)

    def client(self, tenant: str) -> aiohttp.ClientSession:
        """A client with a tenant's token, any number of connections and no time-out."""
        return aiohttp.ClientSession(
            f"http://{self.host}:{self.port}",
            connector=aiohttp.TCPConnector(limit=0),
            headers={"Authorization": f"Bearer {self.token(tenant)}"},
            timeout=aiohttp.ClientTimeout(),
        )

    def head(self, tenant: str, method: str, path: str, *lines: str) -> bytes:
        """The head of a request with a tenant's token, for a raw socket. tenant: none if it is empty."""
        known = [f"Authorization: Bearer {self.token(tenant)}"] if tenant else []
        rows = [f"{method} {path} HTTP/1.1", "Host: gateway.example", *known, *lines]
        return ("\r\n".join(rows) + "\r\n\r\n").encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)


Driver = Callable[[Site], Awaitable[None]]
Edit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Attack:
    """prepare: runs before the clock starts, and fills what the driver needs. routing: changes that config.
    lead: seconds that it is under way before what the third tenant sees counts."""

    name: str
    drive: Driver
    prepare: Driver | None
    routing: Edit | None
    lead: float


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str, *, prepare: Driver | None = None, routing: Edit | None = None, lead: float = 0.0
) -> Callable[[Driver], Driver]:
    """Registers a driver under its name in the table, such as "requests without credentials, never read"."""

    def register(drive: Driver) -> Driver:
        if name in ATTACKS:
            raise ValueError(f"there are two attacks named {name!r}")
        ATTACKS[name] = Attack(name, drive, prepare, routing, lead)
        return drive

    return register


def load() -> dict[str, Attack]:
    """All attacks, by name."""
    for module in pkgutil.iter_modules(attacks.__path__):
        importlib.import_module(f"{attacks.__name__}.{module.name}")
    return ATTACKS


# --- what is attacked ---


@contextmanager
def serve(folder: Path, edit: Edit | None = None) -> Iterator[tuple[Site, Server]]:
    """A gateway with its backends, of which core 0 is the gateway's alone. Raises ServerFailed."""
    keys = Keys(folder)
    keys.write_keys()
    threaded, asynchronous, sockets, port, admin = (free_port() for _ in range(5))
    routing = _routing(threaded, asynchronous, sockets)
    if edit is not None:
        edit(routing)
    (folder / "routing.yaml").write_text(yaml.safe_dump(routing, sort_keys=False))
    conf = keys.fill("gateway.conf", port, ADMIN=admin, WORKERS=1)
    gunicorn = [sys.executable, "-m", "gunicorn", "tests.faults.attacked_apps:threaded", "--bind"]
    gunicorn += [
        f"127.0.0.1:{threaded}",
        "--worker-class",
        "gthread",
        "--workers",
        "1",
        "--threads",
        str(THREADS),
    ]
    gunicorn += [
        "--keep-alive",
        "2",
        "--graceful-timeout",
        "1",
        "--no-control-socket",
        "--log-level",
        "warning",
    ]
    uvicorn = [sys.executable, "-m", "uvicorn", "tests.faults.attacked_apps:asynchronous", "--no-access-log"]
    uvicorn += ["--log-level", "warning", "--timeout-graceful-shutdown", "1", "--port"]
    gateway = [sys.executable, "-m", "gateway", "serve", "-c", str(conf)]
    with ExitStack() as stack:
        stack.enter_context(Server("threaded", gunicorn, threaded, folder, machine.LOAD_CORE))
        for name, number in (("asynchronous", asynchronous), ("sockets", sockets)):
            command = [*uvicorn, str(number)]
            stack.enter_context(Server(name, command, number, folder, machine.LOAD_CORE))
        server = stack.enter_context(Server("gateway", gateway, port, folder))
        yield Site(str(folder), "127.0.0.1", port, admin, server.pids()[0]), server


def _routing(threaded: int, asynchronous: int, sockets: int) -> dict[str, Any]:
    scopes = {"read": ["read"], "write": ["write"]}
    documents = {verb: [f"documents:{verb}"] for verb in ("read", "write", "manage")}
    return {
        "version": 1,
        "backends": {
            "threaded": {
                "kind": "gunicorn",
                "threads": THREADS,
                "addresses": [f"http://127.0.0.1:{threaded}"],
            },
            "asynchronous": {"kind": "uvicorn", "concurrency": 16, "streams": 2000}
            | {"addresses": [f"http://127.0.0.1:{asynchronous}"]},
            "sockets": {"kind": "uvicorn", "streams": 2000, "addresses": [f"http://127.0.0.1:{sockets}"]},
        },
        "tenants": {tenant: {} for tenant in TENANTS},
        "routes": [
            {"name": "documents", "path": "/documents/{rest*}", "strip": "/documents", "target": "documents"}
            | {"scopes": documents},
            {"name": "import", "path": "/documents/{collection}/import", "strip": "/documents"}
            | {"target": "documents", "methods": ["POST"], "scopes": documents, "body_limit": "10GiB"},
            {"name": "t", "path": "/t/{rest*}", "strip": "/t", "target": "threaded", "scopes": scopes},
            {"name": "a", "path": "/a/{rest*}", "strip": "/a", "target": "asynchronous", "scopes": scopes},
            {"name": "e", "path": "/e/{rest*}", "strip": "/e", "target": "sockets", "scopes": scopes},
            {"name": "ws", "path": "/ws/{rest*}", "strip": "/ws", "target": "sockets", "scopes": scopes}
            | {"websocket": True},
        ],
    }


async def fill(site: Site, tenant: str = QUIET, count: int = 1_000) -> None:
    """A collection `orders` with an index by customer, of ten documents each."""
    settings = {"indexes": [{"name": "customer", "fields": ["customer"]}]}
    lines = [
        {"op": "replace", "id": str(number), "data": {"customer": number % (count // 10), "note": "x" * 64}}
        for number in range(count)
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    kind = {"Content-Type": "application/x-ndjson"}
    async with site.client(tenant) as client:
        async with client.put("/documents/orders", json=settings) as response:
            response.raise_for_status()
        async with client.post("/documents/orders/bulk", data=body, headers=kind) as response:
            response.raise_for_status()
            await response.read()


# --- the driver's process ---


@dataclass
class Driving:
    """A driver's process that is ready. begin: let it attack. complaints: what it printed; an exception other
    than of its connections is its own fault."""

    begin: Callable[[], object]
    complaints: Callable[[], list[str]]


def _idle() -> list[str]:
    """The words before a command that has the core while nobody else wants it: the third tenant and the
    backends, on the same core, are not what is attacked."""
    chrt = machine.find("chrt")
    return [chrt, "--idle", "0"] if chrt else ["nice", "-n", "19"]


@contextmanager
def driving(name: str, site: Site) -> Iterator[Driving]:
    """A driver's process until the end of the block, prepared. Raises RuntimeError when it cannot begin."""
    command = [*_idle(), *machine.pinned(machine.LOAD_CORE)]
    command += [sys.executable, "-m", "tests.faults.isolation", name]
    log = Path(site.folder) / "driver.out"
    with log.open("w+") as errors:
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, start_new_session=True
        ) as process:
            with suppress(OSError):  # else it would have as much as each session of the others (sched(7))
                Path(f"/proc/{process.pid}/autogroup").write_text("19")
            try:
                assert process.stdin is not None and process.stdout is not None
                say = partial(print, file=process.stdin, flush=True)
                say(json.dumps(asdict(site)))
                if process.stdout.readline() != "ready\n":
                    raise RuntimeError(f"the driver {name!r} could not begin: {log.read_text()[-2000:]}")
                yield Driving(partial(say, "go"), lambda: log.read_text().splitlines()[-5:])
            finally:
                process.kill()


async def _drive(one: Attack, site: Site) -> None:
    if one.prepare is not None:
        await one.prepare(site)
    asyncio.get_running_loop().set_exception_handler(_told)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    while True:
        try:
            await one.drive(site)
        except _CUT_OFF:
            pass  # whom the gateway has cut off comes again
        await asyncio.sleep(_AGAIN)


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a task of a driver that nobody waits for has met."""
    if not isinstance(context.get("exception"), _CUT_OFF):
        loop.default_exception_handler(context)


if __name__ == "__main__":
    machine.raise_open_files(16_000)
    gc.freeze()
    # As a module of its name, so that what registers there is found here.
    found = importlib.import_module("tests.faults.isolation").load()[sys.argv[1]]
    asyncio.run(_drive(found, Site(**json.loads(sys.stdin.readline()))))
