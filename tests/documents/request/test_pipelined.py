"""What one client sends without waiting is done in the order in which it was sent, whichever way each request
takes: at once, in a task, as a stream, or through aiohttp's parser."""

from __future__ import annotations

import json
import os
from random import Random, SystemRandom

from tests import harness
from tests.documents.api import Api
from tests.eventually import head_start
from tests.support.mutants import segments
from tests.support.wire import Wire

_REQUESTS = 40


def _raw(api: Api, method: str, path: str, body: str = "", more: str = "") -> bytes:
    authorization = api.headers["Authorization"]
    head = f"{method} /documents{path} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n"
    if body:
        more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n{body}".encode()


class _Client:
    """Makes requests, and knows what each is to be answered when all before it were done."""

    def __init__(self, api: Api, random: Random, collection: str) -> None:
        self._api = api
        self._random = random
        self._path = f"/{collection}/"
        self._kept: dict[str, int] = {}
        self._created = 0
        self.raw = b""
        self.methods: list[str] = []
        self.expected: list[tuple[int, object]] = []

    def add(self, number: int) -> None:
        kept, name = self._kept, f"d{number % 4}"
        kind = self._random.choice(["put", "put", "create", "read", "head", "list", "export", "delete"])
        if kind == "put":
            status, kept[name] = 200 if name in kept else 201, number
            self._send("PUT", name, f'{{"n":{number}}}', status, {"id": name, "n": number})
        elif kind == "create":
            self._created += 1
            self._send("POST", "", '{"by":"us"}', 201, None)
        elif kind == "delete":
            self._send("DELETE", name, "", 204 if name in kept else 404, None)
            kept.pop(name, None)
        elif kind in ("read", "head"):
            found = {"id": name, "n": kept[name]} if name in kept and kind == "read" else None
            self._send("GET" if kind == "read" else "HEAD", name, "", 200 if name in kept else 404, found)
        elif kind == "list":
            self._send("GET", "?count=true&limit=1000", "", 200, len(kept) + self._created)
        else:
            self._send("GET", "export", "", 200, ["lines", len(kept) + self._created])

    def _send(self, method: str, name: str, body: str, status: int, expected: object) -> None:
        more = self._random.choice(["", "", "Connection: keep-alive\r\n", "X-Request-Timeout: 30\r\n"])
        self.raw += _raw(self._api, method, self._path + name, body, more)
        self.methods.append(method)
        self.expected.append((status, expected))


def _meaning(expected: object, body: bytes) -> object:
    if expected is None:
        return None
    if isinstance(expected, list):
        return ["lines", body.count(b"\n")]
    found = json.loads(body)
    return found["count"] if isinstance(expected, int) else found


async def test_what_is_sent_without_waiting_is_done_in_order(api: Api) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    random = Random(seed)
    for turn in range(12):
        client = _Client(api, random, f"c{turn}")
        for number in range(_REQUESTS):
            client.add(number)
        wire = await Wire.connect(harness.address(api.gateway))
        for piece in segments(client.raw, random, random.choice([1, 4, 30])):
            wire.send(piece)
            await head_start(random.choice([0, 0, 0.002]))
        answers = await wire.answers(client.methods, wanted=_REQUESTS)
        wire.close()
        found = [
            (answer.status, _meaning(expected, answer.body))
            for answer, (_, expected) in zip(answers, client.expected, strict=True)
        ]
        assert found == client.expected
