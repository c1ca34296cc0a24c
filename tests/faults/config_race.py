"""Operators who race for the live config of a real gateway, under load; a program, for long runs too.

    python -m tests.faults.config_race FOLDER EDITS RATE

Four operators edit by the admin API, each from the text that it read last: a third of the edits is bad, a
third are rollbacks. Meanwhile requests come on a schedule from another process, and WebSockets of a route
that nobody edits are open. Prints what was seen as JSON; `wrong` says in words what must not be.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from gateway.auth.keys import read_keys, signing_key
from gateway.core.jwt.keys import sign
from tests import harness
from tests.bench.load import open as load
from tests.bench.load.closed import quantile
from tests.fakes import answer
from tests.process.test_serve import Serving

OPERATORS = ("ann", "ben", "cid", "dee")
WEBSOCKETS = 10
_MOST_TRIES = 1000  # of one edit, by an operator whom the others overtake
_BAD = ("routes: [", "nowhere", "- not a mapping")
_edited = re.compile(r"/edited-[a-z0-9-]+")


@dataclass
class Edits:
    """What the operators were told. accepted: by the number of the revision, what it must be. tried: all that
    were sent. unchanged: rollbacks to what was live. failed: answers that nobody should get."""

    tried: int = 0
    stale: int = 0
    bad: int = 0
    unchanged: int = 0
    accepted: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass
class Traffic:
    """What clients saw."""

    answers: list[load.Answer] = field(default_factory=list)
    messages: int = 0
    dropped: list[str] = field(default_factory=list)


class Operator:
    """One of them, with a session on the admin listener."""

    def __init__(self, name: str, session: aiohttp.ClientSession, edits: Edits) -> None:
        self.name = name
        self._session = session
        self._edits = edits
        self._chance = random.Random(name)

    async def work(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            for _ in range(_MOST_TRIES):
                if await self._edit(number):
                    break
            else:
                self._edits.failed.append(f"{self.name} was overtaken {_MOST_TRIES} times")

    async def _edit(self, number: int) -> bool:
        """Whether it was answered for good."""
        async with self._session.get("/admin/v1/config", headers={"Accept": "application/yaml"}) as read:
            text, base = await read.text(), int(read.headers["X-Config-Revision"])
            etag = read.headers["ETag"]
        kind = ("edit", "bad", "rollback")[number % 3]
        reason = f"{kind} {number}"
        headers = {"If-Match": etag, "Content-Type": "application/yaml"}
        self._edits.tried += 1
        wanted = {"author": self.name, "reason": reason, "parent": base}
        if kind == "rollback":
            restores = self._chance.randrange(max(1, base - 500), base + 1)
            wanted["restores"] = restores
            path, body = f"/admin/v1/revisions/{restores}:rollback", {"reason": reason}
            call = self._session.post(path, json=body, headers={"If-Match": etag})
        else:
            text = _edited.sub(f"/edited-{self.name}-{number}", text)
            if kind == "bad":
                text += _BAD[number // 3 % len(_BAD)]
            wanted["digest"] = hashlib.sha256(text.encode()).hexdigest()
            call = self._session.put(
                "/admin/v1/config", params={"reason": reason}, data=text.encode(), headers=headers
            )
        async with call as told:
            found = json.loads(await told.text())
        return self._judge(kind, base, wanted, told.status, found)

    def _judge(self, kind: str, base: int, wanted: dict[str, Any], status: int, found: Any) -> bool:
        edits = self._edits
        if status == 412:
            edits.stale += 1
            return False
        if status == 422 and kind == "bad":
            edits.bad += 1
        elif status == 200 and kind != "bad":
            number = found["revision"]["number"]
            if number == base:
                edits.unchanged += 1
            elif number in edits.accepted:
                edits.failed.append(f"revision {number} was told to two")
            else:
                edits.accepted[number] = wanted
        else:
            edits.failed.append(f"{kind}: {status} {found}")
        return True


async def _keep_talking(session: aiohttp.ClientSession, url: str, seen: Traffic, end: asyncio.Event) -> None:
    async with session.ws_connect(url) as socket:
        number = 0
        while not end.is_set():
            number += 1
            await socket.send_str(f"{number}")
            told = await socket.receive(60)
            if told.type is not aiohttp.WSMsgType.TEXT or told.data != f"{number}":
                seen.dropped.append(f"{told!r} after {number} messages")
                return
            seen.messages += 1


async def _keep_asking(port: int, stream: load.Stream, seen: Traffic, end: asyncio.Event) -> None:
    while not end.is_set():
        found = await asyncio.to_thread(load.run, [port], [stream], 30.0)
        seen.answers += found.answers["acme"]


class _Answers(asyncio.Protocol):
    """A backend that has nothing to do, and a place for each connection: what is late is not its fault."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(answer())


@asynccontextmanager
async def _backend() -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0, backlog=4096)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def _echo() -> AsyncIterator[str]:
    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/{rest:.*}", talk)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _routing(backend: str, echo: str) -> str:
    routes = [
        harness.route("load", "app"),
        {**harness.route("talk", "echo", public=True), "websocket": True},
        {"name": "edited", "path": "/edited-0", "target": "documents"},
    ]
    backends = {
        "app": {"kind": "http", "addresses": [backend]},
        "echo": {"kind": "http", "addresses": [echo]},
    }
    text = yaml.safe_dump(harness.routing(routes, backends=backends), sort_keys=False)
    return f"# a comment that stays\n{text}"


def _token(folder: Path, subject: str, scope: str) -> str:
    now = int(time.time())
    claims = {"iss": "gateway", "aud": "gateway", "tenant": "acme", "sub": subject, "scope": scope}
    keys = read_keys(folder / "var" / "keys.jwks", harness.RULE.algorithms)
    return sign({**claims, "iat": now, "exp": now + 3600}, signing_key(keys))


async def race(folder: Path, count: int, rate: float) -> dict[str, Any]:
    """Play it in this folder. count: of edits that are answered for good."""
    named = "".join(f"{name} = owner\n" for name in OPERATORS)
    async with _backend() as backend, _echo() as echo:
        serving = Serving(folder, _routing(backend, echo), f"\n[operators]\n{named}")
        with serving.started() as process:
            await asyncio.to_thread(serving.until_ready, process)
            edits, seen, took = await _played(serving, count, rate)
            wrong = await _wrong(serving, edits, seen)
    spent = sorted(one.ms for one in seen.answers)
    return {
        "edits": count,
        "tried": edits.tried,
        "accepted": len(edits.accepted),
        "unchanged": edits.unchanged,
        "bad": edits.bad,
        "stale": edits.stale,
        "seconds": round(took, 1),
        "requests": len(seen.answers),
        "rate": round(len(seen.answers) / took),
        "p50_ms": quantile(spent, 0.5),
        "p99_ms": quantile(spent, 0.99),
        "max_ms": spent[-1],
        "messages": seen.messages,
        "wrong": wrong,
    }


async def _played(serving: Serving, count: int, rate: float) -> tuple[Edits, Traffic, float]:
    edits, seen, end = Edits(), Traffic(), asyncio.Event()
    port = int(serving.public.rpartition(":")[2])
    token = _token(serving.folder, "alice", "")
    numbers = iter(range(count))
    stream = load.Stream("acme", "/load/x", token, rate, end=max(2.0, min(20.0, count / 50)))
    async with aiohttp.ClientSession() as plain, asyncio.TaskGroup() as clients:
        for _ in range(WEBSOCKETS):
            clients.create_task(_keep_talking(plain, f"{serving.public}/talk/x", seen, end))
        clients.create_task(_keep_asking(port, stream, seen, end))
        began = time.monotonic()
        async with asyncio.TaskGroup() as operators:
            for name in OPERATORS:
                operators.create_task(_operator(serving, name, edits, numbers))
        end.set()
        took = time.monotonic() - began
    return edits, seen, took


async def _operator(serving: Serving, name: str, edits: Edits, numbers: Iterator[int]) -> None:
    async with _session(serving, name) as session:
        await Operator(name, session, edits).work(numbers)


def _session(serving: Serving, name: str) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {_token(serving.folder, name, 'gateway:admin')}"}
    return aiohttp.ClientSession(serving.admin, headers=headers)


async def _wrong(serving: Serving, edits: Edits, seen: Traffic) -> list[str]:
    wrong = list(edits.failed) + [f"a WebSocket was dropped: {one}" for one in seen.dropped]
    failed = [one.status for one in seen.answers if one.status != 200]
    if failed:
        wrong.append(f"{len(failed)} requests failed: {sorted(set(failed))}")
    async with _session(serving, OPERATORS[0]) as session:
        kept = await _all(session, "/admin/v1/revisions", "revisions", "number")
        lines = await _all(session, "/admin/v1/audit", "lines", "seq")
        async with session.get("/admin/v1/audit:verify") as told:
            verified = await told.json()
    if verified.get("problems") or told.status != 200:
        wrong.append(f"the audit: {verified}")
    for newer, older in pairwise(kept):
        if newer["parent"] != older["number"]:
            wrong.append(f"the parents are no chain: {newer}, {older}")
    by_number = {one["number"]: one for one in kept}
    lost = [number for number in edits.accepted if number not in by_number and number > kept[-1]["number"]]
    if lost:
        wrong.append(f"revisions that are not there: {lost}")
    audited = {line["to"] for line in lines if line["outcome"] == "done"}
    for number, wanted in edits.accepted.items():
        if number not in by_number:  # the last 1,000 are kept
            continue
        found = dict(by_number[number])
        found["author"] = found["author"].removeprefix("acme/")  # by a token of that tenant
        if any(found.get(name) != value for name, value in wanted.items()):
            wrong.append(f"revision {number} is {found}, and not {wanted}")
        if number not in audited:
            wrong.append(f"revision {number} is not in the audit")
    if set(by_number) - set(edits.accepted) - {1}:
        wrong.append(f"revisions of nobody: {set(by_number) - set(edits.accepted) - {1}}")
    digest = hashlib.sha256((serving.folder / "routing.yaml").read_bytes()).hexdigest()
    if digest != kept[0]["digest"]:
        wrong.append("the file is not as the newest revision")
    return wrong


async def _all(session: aiohttp.ClientSession, path: str, name: str, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        before = {"before": str(found[-1][key])} if found else {}
        async with session.get(path, params={"limit": "1000", **before}) as told:
            page = (await told.json())[name]
        if not page:
            return found
        found += page


if __name__ == "__main__":
    print(json.dumps(asyncio.run(race(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))), indent=1))
