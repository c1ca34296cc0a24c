"""Whatever a client sends, however it is cut: a clean refusal and nothing whole at the backend, or exactly
the requests that the bytes are; and the next one is fine. FUZZ_SEED in the environment repeats a run."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.core.errors import GatewayError
from gateway.core.http.request_reader import RequestReader
from tests import harness
from tests.eventually import eventually, head_start
from tests.fakes import Backend, Heard, answer
from tests.support import mutants
from tests.support.wire import Answer, Wire

CASES = 500
_request_line = re.compile(r"[A-Z][A-Z-]* /[\x21-\x7e]* HTTP/1\.1").fullmatch
_mark = re.compile(rb"(?i)\r\nX-Mark:[ \t]*([^\r\n]*?)[ \t]*(?=\r|\Z)")
_value = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*").fullmatch


class Recorder:
    """What a backend has heard: its heads as they came, and those whose body came whole."""

    def __init__(self) -> None:
        self.whole: list[Heard] = []

    async def script(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.whole.append(heard)
        raw = answer(b"mark " + ",".join(heard.all("X-Mark")).encode())
        writer.write(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if heard.line.startswith("HEAD ") else raw)


def config(backend: Backend, kind: str) -> dict[str, Any]:
    app: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        app["threads"] = 4
    routes = [harness.route("svc", "app", public=True)]
    return harness.routing(routes, backends={"app": app})


def meant(raw: bytes) -> tuple[list[tuple[str, str, bytes]], bool, bool]:
    """What the bytes are, read one by one (tests/core/http/test_request_reader.py shows that this is what
    others read): method, marks and body of each request; whether the last one is whole; and whether they end
    in something that is none."""
    reader = RequestReader()
    requests: list[tuple[str, str, bytes]] = []
    for at in range(len(raw)):
        reader.feed(raw[at : at + 1])
        try:
            if reader.whole:
                request = reader.read_head()
                if request is not None:
                    marks = b",".join(_mark.findall(request.head.raw)).decode()
                    requests.append((request.method, marks, b""))
            else:
                method, marks, body = requests[-1]
                requests[-1] = (method, marks, body + reader.read_body())
        except GatewayError:
            return requests, reader.whole, True
    return requests, reader.whole, False


def check_heard(heard: Heard) -> None:
    """What reaches a backend is well-formed and has one reading."""
    assert _request_line(heard.line), heard
    for name, value in heard.headers:
        assert re.fullmatch(r"[!#$%&'*+.^`|~0-9A-Za-z-]+", name), heard
        assert _value(value), heard
    assert len(heard.all("Host")) == len(heard.all("X-Request-ID")) == 1, heard
    assert len(heard.all("Content-Length") + heard.all("Transfer-Encoding")) <= 1, heard
    for name in (
        "Connection",
        "Upgrade",
        "Expect",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Proxy-Connection",
        "X-Tenant",
    ):
        assert not heard.all(name), heard


async def good_request(gateway: Gateway, mark: str) -> None:
    wire = await Wire.connect(harness.address(gateway))
    wire.send(f"GET /svc/good HTTP/1.1\r\nHost: a\r\nX-Mark: {mark}\r\n\r\n".encode())
    (received,) = await wire.answers(["GET"])
    assert (received.status, received.body) == (200, b"mark " + mark.encode())
    wire.close()


def cool(gateway: Gateway) -> None:
    for pool in gateway.pools._pools.values():
        while pool._idle:
            pool._idle.pop().close()


async def settled(gateway: Gateway) -> None:
    await eventually(lambda: not (any(gateway.admission.in_use().values()) or gateway.pools.under_way))


async def send(wire: Wire, raw: bytes, random: Random) -> None:
    for piece in mutants.segments(raw, random, random.choice([1, 1, 2, 5])):
        if wire.ended:
            return
        wire.send(piece)
        await head_start(random.choice([0, 0, 0.001]))


async def one_case(
    gateway: Gateway, backend: Backend, recorder: Recorder, raw: bytes, random: Random
) -> list[int]:
    """Send it and check all that comes of it; gives the statuses. A request without its end may be answered
    or wait for it; one whose body breaks is answered, and then or instead the bytes that broke it."""
    heads, whole = len(backend.heard), len(recorder.whole)
    requests, last_whole, broken = meant(raw)
    methods = [method for method, _, _ in requests]
    wanted = len(methods) - (not last_whole and not broken) + (last_whole and broken)
    if broken:
        methods.append("")
    wire = await Wire.connect(harness.address(gateway))
    await send(wire, raw, random)
    try:
        answers = await wire.answers(methods, wanted=wanted)
        closes = any(received.closes for received in answers)
        assert len(answers) >= wanted or closes, "an end that nothing announced"
        if closes:
            await wire.end()
            assert not any(received.closes for received in answers[:-1])
    finally:
        wire.close()
    await settled(gateway)
    for heard in backend.heard[heads:]:
        check_heard(heard)
    passed = [
        (heard.line.split()[0], ",".join(heard.all("X-Mark")), heard.body) for heard in recorder.whole[whole:]
    ]
    check_order(passed, requests)
    check_answers(answers, passed)
    return [received.status for received in answers]


def check_order(passed: list[tuple[str, str, bytes]], requests: list[tuple[str, str, bytes]]) -> None:
    """What the backend got is what the bytes are, in order; what was refused is missing."""
    left = iter(requests)
    assert all(any(one == other for other in left) for one in passed), (passed, requests)


def check_answers(answers: list[Answer], passed: list[tuple[str, str, bytes]]) -> None:
    """An answer of the backend's for each request that it got, a clean refusal for each other one."""
    given = [one.body for one in answers if one.status == 200 and one.body]
    assert (
        [body for body in given if not body.startswith(b'{"title":"API gateway"')]
        == [  # the page at /
            b"mark " + marks.encode() for method, marks, _ in passed[: len(answers)] if method != "HEAD"
        ]
    )
    for received in answers:
        assert received.whole
        assert received.status < 500 or received.status == 501, received
        if received.status not in (200, 204):  # 204: OPTIONS *
            assert received.status >= 400, received
            assert received.all("content-type") == [b"application/problem+json"], received


async def no_task_left(backend: Backend, before: set[asyncio.Task[Any]]) -> None:
    def left() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - backend._tasks - before

    await eventually(lambda: not left(), lambda: [(task, task.get_stack()) for task in left()])


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
async def test_malformed_requests_are_refused_or_reach_the_backend_as_what_they_are(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    random = Random(seed)
    recorder = Recorder()
    statuses: list[int] = []
    async with (
        Backend(recorder.script) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        await good_request(gateway, "first")
        tasks = asyncio.all_tasks() - backend._tasks
        for n in range(CASES):
            count = random.choice([1, 1, 2])
            raw = b"".join(mutants.request(random, "/svc", f"{n}-{k}") for k in range(count))
            if random.random() < 0.5:
                cool(gateway)
            try:
                statuses += await one_case(gateway, backend, recorder, raw, random)
                await good_request(gateway, f"after-{n}")
            except Exception as error:
                error.add_note(f"seed {seed}, case {n}: {raw!r}")
                raise
        await no_task_left(backend, tasks)
    assert statuses.count(200) > CASES / 10, "most of what is tried says nothing"
    assert statuses.count(400) > CASES / 20
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
