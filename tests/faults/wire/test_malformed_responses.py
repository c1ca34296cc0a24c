"""Whatever a backend answers, however it is cut: the client sees a well-formed answer, a 502, or a connection
that ends in the middle of one; never a byte of another answer. FUZZ_SEED in the environment repeats a run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import eventually, takes
from tests.fakes import Backend, Heard
from tests.support import mutants
from tests.support.wire import Answer, Wire

CASES = 400


class Scripted:
    """Answers a good request well, and any other with the bytes that are next."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.raw = b""
        self.good = b""
        self.closes = False
        self.written = asyncio.Event()

    async def script(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "/good" in heard.line:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.good), self.good))
            return
        try:
            for piece in mutants.segments(self.raw, self._random, self._random.choice([1, 2, 6])):
                if writer.is_closing():
                    return  # the gateway has heard enough
                writer.write(piece)
                await takes(self._random.choice([0, 0, 0.001]))
            if self.closes:
                writer.close()
        finally:
            self.written.set()


def config(backend: Backend, kind: str) -> dict[str, Any]:
    app: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        app["threads"] = 2
    return harness.routing([harness.route("svc", "app", public=True)], backends={"app": app})


async def good_request(gateway: Gateway, backend: Scripted, mark: int) -> None:
    backend.good = b"<%d>" % mark * 2
    wire = await Wire.connect(harness.address(gateway))
    wire.send(b"GET /svc/good HTTP/1.1\r\nHost: a\r\n\r\n")
    (received,) = await wire.answers(["GET"])
    assert (received.status, received.body) == (200, backend.good)
    wire.close()


async def settled(gateway: Gateway, backend: Scripted) -> None:
    async with asyncio.timeout(30):
        await backend.written.wait()
        await eventually(lambda: not (any(gateway.admission.in_use().values()) or gateway.pools.under_way))
        for _ in range(5):  # what a backend sends too much, and the end of its connection, has come by now
            await asyncio.sleep(0)


def made(random: Random, mark: str, method: str) -> tuple[bytes, bytes | None, bool]:
    """The bytes; the body that the client must get, None when they may be refused; whether the connection
    ends with them."""
    one = mutants.answer(random, mark)
    raw, body = one.head + one.sent, one.body
    if method == "HEAD":
        raw, body = one.head, b""
    fixed = 0 if random.random() < 0.5 else len(one.head)
    changed = raw[:fixed] + mutants.mutated(raw[fixed:], random, (0, 1, 1, 2))
    good = one.good and changed == raw
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus" if random.random() < 0.1 else b""
    ends = one.closes and method != "HEAD"
    if ends:
        body += surplus  # of which nothing says that it is none of the body
    return changed + surplus, body if good else None, ends or not good or random.random() < 0.2


async def one_case(gateway: Gateway, scripted: Scripted, random: Random, mark: str) -> tuple[int, bytes]:
    """The status, 0 for an answer that was cut; and the bytes that the client got."""
    method = random.choice(["GET", "GET", "GET", "HEAD"])
    scripted.raw, expected, scripted.closes = made(random, mark, method)
    scripted.written.clear()
    wire = await Wire.connect(harness.address(gateway))
    try:
        wire.send(f"{method} /svc/case HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answers = await wire.answers([method])
        await settled(gateway, scripted)
    finally:
        wire.close()
    assert answers, f"cut without a head: {wire.received!r}"
    return check(answers[0], expected), wire.received


def check(one: Answer, expected: bytes | None) -> int:
    if one.status == 502:
        assert expected is None, "a good answer was refused"
        assert one.all("content-type") == [b"application/problem+json"]
        assert one.whole
        assert not one.body or json.loads(one.body)["code"] in ("backend_malformed", "backend_reset")
    elif expected is not None:
        assert one.whole
        assert one.body == expected
    return one.status if one.whole else 0


def cool(gateway: Gateway) -> None:
    for pool in gateway.pools._pools.values():
        while pool._idle:
            pool._idle.pop().close()


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
async def test_malformed_answers_never_reach_a_client_nor_the_next_answer(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    random = Random(seed)
    scripted = Scripted(random)
    statuses: list[int] = []
    async with (
        Backend(scripted.script) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        before = b"<none>"
        for n in range(CASES):
            mark = f"<{random.getrandbits(48):x}>"
            if random.random() < 0.5:
                cool(gateway)
            try:
                status, received = await one_case(gateway, scripted, random, mark)
                statuses.append(status)
                assert before not in received, "bytes of another answer"
                await good_request(gateway, scripted, n)
            except Exception as error:
                error.add_note(f"seed {seed}, case {n}: {scripted.raw!r}")
                raise
            before = mark.encode()
        assert not any(gateway.admission.in_use().values())
    for status in (0, 200, 502):
        assert statuses.count(status) > CASES / 200, "most of what is tried says nothing"
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
