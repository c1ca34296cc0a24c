"""Whatever a client sends, however it is cut, timed and ended, each answer is that of its own request, in
order, and a request is executed once at most."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

from gateway.app import Gateway
from tests import harness
from tests.eventually import eventually, head_start, takes
from tests.fakes import Backend, Heard, answer
from tests.support.wire import Answer, Wire, read_answers

_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.5"))


def request(dice: random.Random, name: str) -> tuple[bytes, int, bool]:
    """A request whose answer is to be its name: the bytes, the status, and whether the connection ends."""
    host, body = "Host: a\r\n", f"<{name}>".encode() * dice.choice([0, 1, 1, 300, 4000])
    repeated = dice.choice(["", "", "X-A: 1\r\n", "Authorization: Bearer x\r\n"])
    kind = dice.randrange(12)
    path = f"/svc/{name}" + dice.choice(["", "", "?wait", "?wait"])
    if kind < 5:
        return f"GET {path} HTTP/1.1\r\n{host}{repeated}\r\n".encode(), 200, False
    if kind < 8:
        head = f"POST {path} HTTP/1.1\r\n{host}{repeated}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body, 200, False
    if kind == 8:
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        head = f"PUT {path} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n"
        return head.encode() + chunk + b"0\r\n\r\n", 200, False
    if kind == 9:
        return f"GET {path} HTTP/1.1\r\n{host}X-Request-Timeout: 20\r\n\r\n".encode(), 200, False
    if kind == 10:
        return f"DELETE /nowhere/{name} HTTP/1.1\r\n{host}{repeated}\r\n".encode(), 404, False
    if dice.random() < 0.8:
        return f"GET {path} HTTP/1.1\r\n{host}X-B: {name}\r\n\r\n".encode(), 200, False
    return f"GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode(), 200, True


class Client:
    """One connection and all that it does, of its own seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self.raw = b""
        self.names: list[str] = []
        self.statuses: list[int] = []
        self.ends = False
        for number in range(self.dice.choice([1, 2, 3, 8, 30])):
            raw, status, self.ends = request(self.dice, f"{seed}-{number}")
            self.raw += raw
            self.names.append(f"{seed}-{number}")
            self.statuses.append(status)
            if self.ends:
                break
        self.end = self.dice.choice(["wait", "wait", "half", "half", "cut short", "abort"])
        if self.end == "cut short":
            self.raw = self.raw[: self.dice.randrange(len(self.raw))]
        self.wire: Wire | None = None

    async def run(self, address: tuple[str, int]) -> None:
        dice = self.dice
        self.wire = wire = await Wire.connect(address)
        pieces = dice.choice([1, 1, 2, 5, 20])
        cuts = sorted(dice.randrange(len(self.raw) + 1) for _ in range(pieces - 1))
        for start, stop in zip([0, *cuts], [*cuts, len(self.raw)], strict=True):
            if wire.ended:  # uvloop raises an error where asyncio says nothing
                return
            wire.send(self.raw[start:stop])
            await head_start(dice.choice([0, 0, 0.001, 0.01, 0.06]))
        assert wire._transport is not None
        if wire.ended:
            return
        if self.end in ("half", "cut short"):
            wire._transport.write_eof()
            await wire.end()
        elif self.end == "abort":
            wire.close()
        else:
            await wire.answers(["GET"] * len(self.names))
        wire.close()

    def answers(self) -> list[Answer]:
        assert self.wire is not None
        found = read_answers(self.wire.received, ["GET"] * len(self.names), ended=True)
        for name, status, got in zip(self.names, self.statuses, found, strict=False):
            if not got.whole or got.status in (408, 503):
                break
            assert got.status == status, (self.seed, name, got)
            if status == 200:
                assert got.body == f"/{name}".encode(), (self.seed, name, got)
        return found


def config(backend: Backend, kind: str) -> dict[str, object]:
    threads = {"threads": 3} if kind == "gunicorn" else {}
    backends = {"app": {"kind": kind, "addresses": [backend.address], **threads}}
    retry = {"retry": "idempotent"} if kind == "http" else {}
    return harness.routing([harness.route("svc", "app", public=True, **retry)], backends=backends)


async def echo(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path, _, wait = heard.line.split()[1].partition("?")
    name = path[1:].encode()
    assert heard.body.replace(b"<%b>" % name, b"") == b"", "a body of another request"
    if wait:
        await takes(0.01)
    writer.write(answer(path.encode()))


async def settled(gateway: Gateway) -> None:
    await eventually(lambda: not (gateway.listener.connections or gateway.pools.under_way))
    assert not any(gateway.admission.in_use().values())
    assert not any(gateway.admission.waiting().values())


async def rounds(folder: Path, kind: str, seed: int) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + _SECONDS
    dice = random.Random(seed)
    async with Backend(echo) as backend, harness.running(folder, config(backend, kind)) as gateway:
        while loop.time() < until:
            clients = [Client(dice.randrange(10**9)) for _ in range(20)]
            await asyncio.gather(*[client.run(harness.address(gateway)) for client in clients])
            for client in clients:
                found = client.answers()
                if client.end in ("wait", "half"):
                    assert len(found) == len(client.names), client.seed
            await settled(gateway)
        clients = [Client(dice.randrange(10**9)) for _ in range(20)]
        running = [asyncio.create_task(client.run(harness.address(gateway))) for client in clients]
        await head_start(dice.random() * 0.1)
        await gateway.drain()
        await asyncio.gather(*running, return_exceptions=True)
        for client in clients:
            found = client.answers() if client.wire is not None else []
            # Whoever is let go is told so with its last answer, or has had none for what it sent since.
            assert all(one.whole for one in found) or client.end in ("abort", "cut short"), client.seed
        await settled(gateway)
    times = Counter(heard.line.split()[1].partition("?")[0] for heard in backend.heard)
    assert times.most_common(1)[0][1] == 1, "a request was executed twice"


async def test_random_clients_of_an_asynchronous_backend(tmp_path: Path) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or random.randrange(10**9))
    print("seed", seed)
    await rounds(tmp_path, "http", seed)


async def test_random_clients_of_a_threaded_backend(tmp_path: Path) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or random.randrange(10**9))
    print("seed", seed)
    await rounds(tmp_path, "gunicorn", seed)
