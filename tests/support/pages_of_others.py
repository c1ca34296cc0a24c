"""What pages of other origins ask of a gateway, and two judges of what they may see: a reading of the Fetch
standard in Python, which is strict about every value of each field, and Chromium
(tests/support/chromium.py)."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import harness
from tests.fakes import Heard, answer
from tests.support.ports import free_port
from tests.support.sockets import echo, websocket

ROOT = Path(__file__).parents[2]
PAGE, STRANGER, NULL = "page", "stranger", "null"
BLOCKED = 0
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
OURS = {"Authorization": "Bearer {token}"}


@dataclass(frozen=True)
class Ask:
    """One call of fetch() and what its page must see of the answer.

    status: BLOCKED when the browser must keep the answer from the page. shows: headers that it may read, with
    what is in them; hides: those that it may not. text: is in the body. until: the body is a stream, and
    enough of it is read when this has come. credentials: as fetch() has it; "socket" opens a WebSocket.
    """

    who: str
    path: str
    status: int
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    credentials: str = "omit"
    shows: Mapping[str, str] = field(default_factory=dict)
    hides: Iterable[str] = ()
    text: str = ""
    until: str = ""

    def __str__(self) -> str:
        return f"{self.who} {self.method} {self.path} {self.credentials}"


@dataclass
class Seen:
    """What the page saw. status: BLOCKED for an error of fetch() that says no more."""

    status: int = BLOCKED
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    why: str = ""


def check(ask: Ask, seen: Seen) -> None:
    assert seen.status == ask.status, (str(ask), seen)
    for name, part in ask.shows.items():
        assert part in seen.headers.get(name.lower(), "(hidden)"), (str(ask), name, seen)
    for name in ask.hides:
        assert name.lower() not in seen.headers, (str(ask), name, seen)
    assert ask.text in seen.text and ask.until in seen.text, (str(ask), seen)


# In this order: the first ones make what the later ones read.
ASKS = (
    Ask(PAGE, "/documents/orders/1", 201, "PUT", {**OURS, **JSON}, '{"a":1}', shows={"ETag": '"'}),
    Ask(PAGE, "/documents/orders/1", 200, headers=OURS, text='"a":1', shows={"ETag": '"'}, hides=["Server"]),
    Ask(PAGE, "/documents/orders/1?fields=a", 400, headers=OURS, text='"code": "bad_request"'),
    Ask(PAGE, "/documents/orders/1", 200, "HEAD", OURS, shows={"ETag": '"'}),
    Ask(PAGE, "/documents/orders/1", 304, headers={**OURS, "If-None-Match": "*"}),
    Ask(PAGE, "/documents/orders/1", 412, "PUT", {**OURS, **JSON, "If-Match": '"x"'}, "{}",
        text="precondition_failed"),
    Ask(PAGE, "/documents/orders/", 201, "POST", {**OURS, **JSON, "Idempotency-Key": "k"}, '{"a":2}',
        shows={"Location": "/documents/orders/"}),
    Ask(PAGE, "/documents/orders/1", 200, "PATCH", {**OURS, "Content-Type": "application/merge-patch+json"},
        '{"b":2}', text='"b":2'),
    Ask(PAGE, "/documents/orders/bulk", 200, "POST", {**OURS, **NDJSON}, '{"op":"create","data":{}}\n'),
    Ask(PAGE, "/documents/orders/import", 200, "POST", {**OURS, **NDJSON}, '{"id":"7","a":3}\n',
        text='"done":true'),
    Ask(PAGE, "/documents/orders/export", 200, headers=OURS, text='"a":3'),
    Ask(PAGE, "/documents/orders/changes?after=0", 400, headers=OURS, text='"parameter": "after"'),
    Ask(PAGE, "/documents/orders/changes", 200, headers={**OURS, "Last-Event-ID": ""}, until=":"),
    Ask(PAGE, "/documents/orders/query", 200, "POST", {**OURS, **JSON}, '{"filter":{"a":1}}', text='"a":1'),
    Ask(PAGE, "/documents/orders/", 200, "QUERY", {**OURS, **JSON}, '{"filter":{"a":1}}', text='"a":1'),
    Ask(PAGE, "/documents/orders/1", 204, "DELETE", OURS),
    Ask(PAGE, "/documents/orders/1", 404, headers=OURS, text='"code": "not_found"'),
    Ask(PAGE, "/documents/orders/1", 401, text='"code": "unauthenticated"'),
    Ask(PAGE, "/documents/orders/1", 401, headers={"Authorization": "Bearer x"}, text="unauthenticated"),
    Ask(PAGE, "/documents/orders/1", BLOCKED, headers={**OURS, "X-Other": "1"}),
    Ask(PAGE, "/documents/orders/1", BLOCKED, headers=OURS, credentials="include"),
    # A backend that has its own word about other origins, on a route with cors: the gateway's replaces it.
    Ask(PAGE, "/svc/x", 200, headers=OURS, text="GET", credentials="include",
        shows={"X-Theirs": "1", "X-Request-ID": ""}, hides=["X-Secret", "Server"]),
    Ask(PAGE, "/svc/x", 200, "PUT", {**OURS, **JSON, "X-Custom": "1"}, "{}", "include", text="PUT {}"),
    Ask(PAGE, "/svc/x", 200, "DELETE", OURS, credentials="include", text="DELETE"),
    Ask(PAGE, "/svc/304", 304, headers={**OURS, "If-None-Match": '"1"'}, credentials="include"),
    Ask(PAGE, "/svc/500", 500, headers=OURS, text="theirs", credentials="include"),
    Ask(PAGE, "/svc/events", 200, headers=OURS, credentials="include", until="data: 1",
        shows={"Content-Type": "text/event-stream"}),
    Ask(PAGE, "/svc/x", 413, "POST", {**OURS, **JSON}, "x" * 2000, "include", text="body_too_large"),
    Ask(PAGE, "/svc/a%2Fb", 400, credentials="include", text="bad_request"),
    Ask(PAGE, "/down/x", 503, headers=OURS, text="backend_unavailable", shows={"Retry-After": ""}),
    Ask(PAGE, "/limited/x", 200, headers=OURS),
    Ask(PAGE, "/limited/x", 429, headers=OURS, text='"code": "tenant_limit"', shows={"Retry-After": ""}),
    Ask(PAGE, "/scoped/x", 403, headers=OURS, text='"code": "forbidden"'),
    Ask(PAGE, "/reads/x", 200, headers=OURS),
    Ask(PAGE, "/reads/x", 405, "POST", {"Content-Type": "text/plain"}, "x", text="method_not_allowed"),
    Ask(PAGE, "/reads/x", BLOCKED, "DELETE", OURS),
    Ask(PAGE, "/none/x", BLOCKED, headers=OURS),
    Ask(PAGE, "/none/x", BLOCKED),
    # On a route without cors the backend's own word passes; a preflight has no answer there.
    Ask(PAGE, "/plain/x", 200, text="GET"),
    Ask(PAGE, "/plain/x", BLOCKED, headers=OURS),
    Ask(PAGE, "/any/x", 200, text="GET"),
    Ask(PAGE, "/any/x", BLOCKED, credentials="include"),
    Ask(PAGE, "/ws/chat", 101, credentials="socket"),
    Ask(STRANGER, "/documents/orders/7", BLOCKED, headers=OURS),
    Ask(STRANGER, "/svc/x", BLOCKED),
    Ask(STRANGER, "/any/x", 200, "PUT", {**OURS, "X-Whatever": "1"}, "1", text="PUT 1",
        shows={"X-Theirs": "1"}),
    Ask(STRANGER, "/ws/chat", BLOCKED, credentials="socket"),
    Ask(NULL, "/documents/orders/7", BLOCKED, headers=OURS),
    Ask(NULL, "/any/x", 200, "PATCH", {**OURS, **JSON}, "1", text="PATCH 1"),
    Ask(NULL, "/any/x", BLOCKED, credentials="include"),
    Ask(NULL, "/ws/chat", BLOCKED, credentials="socket"),
)  # fmt: skip

_THEIRS = (
    "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
    "Access-Control-Expose-Headers: X-Secret\r\nAccess-Control-Max-Age: 1\r\nX-Secret: 1\r\nX-Theirs: 1\r\n"
    "Vary: Accept-Encoding\r\nvary: Cookie, origin\r\n"
)


async def backend(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The script of a backend that says of every answer that all may read it."""
    method, path, _ = heard.line.split(" ")
    if heard.one("Upgrade"):
        await websocket(echo)(heard, reader, writer)
    elif path.endswith("/events"):
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{_THEIRS}\r\ndata: 1\n\n".encode()
        )
        await writer.drain()
        await reader.read()
    elif path.endswith("/304"):
        writer.write(f'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n{_THEIRS}\r\n'.encode())
    elif path.endswith("/500"):
        writer.write(answer(b"theirs", "500 Internal Server Error", _THEIRS))
    else:
        writer.write(answer(f"{method} {heard.body.decode()}".encode(), headers=_THEIRS))


def config(origin: str, backend: str) -> dict[str, Any]:
    """The shipped routes to documents, for this origin, and one route for each kind of rule."""
    shipped = yaml.safe_load((ROOT / "config" / "routing.yaml").read_text())
    documents = [route for route in shipped["routes"] if route["target"] == "documents"]
    for route in documents:
        route["cors"] = {**route["cors"], "origins": [origin]}
    expose = ["Retry-After"]
    rule = {"origins": [origin], "expose": expose}
    rich = {
        "origins": [origin],
        "headers": ["authorization", "Content-Type", "X-Custom", "If-None-Match"],
        "expose": ["X-Theirs", "X-Request-ID", "Retry-After"],
        "credentials": True,
    }
    anybody = {"origins": ["*"], "headers": ["*"], "expose": ["*"]}
    routes = [
        *documents,
        harness.route("svc", "app", cors=rich, body_limit=1000),
        harness.route("down", "down", cors=rule),
        harness.route("limited", "app", cors=rule, rate_limit={"rate": "1/m", "burst": 1}),
        harness.route("scoped", "app", cors=rule, scopes={"read": ["no:read"], "write": ["no:write"]}),
        harness.route("reads", "app", cors=rule, methods=["GET"]),
        harness.route("plain", "app", public=True),
        harness.route("any", "app", cors=anybody, public=True),
        harness.route("ws", "app", public=True, websocket={"origins": [origin]}),
    ]
    backends = {
        "app": {"kind": "http", "addresses": [backend]},
        "down": {"kind": "http", "addresses": [f"http://127.0.0.1:{free_port()}"]},
    }
    return harness.routing(routes, backends=backends)


SCOPE = "documents:read documents:write documents:manage"


# --- the Fetch standard ---


class Blocked(Exception):
    """fetch() ends in an error."""


Pairs = list[tuple[str, str]]
_SAFE_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
_SAFE_RESPONSE_HEADERS = {
    "cache-control", "content-language", "content-length", "content-type", "expires", "last-modified",
    "pragma",
}  # fmt: skip


def value(pairs: Pairs, name: str) -> str | None:
    """ "Get" of a header list: all values, so that what is there twice is no longer what it was."""
    values = [text for key, text in pairs if key.lower() == name]
    return ", ".join(values) if values else None


def names(pairs: Pairs, name: str) -> list[str]:
    return [item.strip() for item in (value(pairs, name) or "").split(",") if item.strip()]


def cors_check(pairs: Pairs, origin: str, credentials: str) -> None:
    """Section 4.10."""
    allowed = value(pairs, "access-control-allow-origin")
    if allowed is None:
        raise Blocked("no Access-Control-Allow-Origin")
    if credentials != "include" and allowed == "*":
        return
    if allowed != origin:
        raise Blocked(f"the origin is {origin}, not {allowed}")
    if credentials == "include" and value(pairs, "access-control-allow-credentials") != "true":
        raise Blocked("no credentials are allowed")


def unsafe_headers(ask: Ask) -> list[str]:
    """The names of those that a page may not send unasked, sorted, in lower case."""
    found = []
    for name, text in ask.headers.items():
        safe = name.lower() in ("accept", "accept-language", "content-language") or (
            name.lower() == "content-type" and text.partition(";")[0].strip().lower() in _SAFE_TYPES
        )
        if not safe:
            found.append(name.lower())
    return sorted(found)


def preflight_check(status: int, pairs: Pairs, ask: Ask, origin: str) -> None:
    """Section 4.8."""
    cors_check(pairs, origin, ask.credentials)
    if not 200 <= status <= 299:
        raise Blocked(f"the preflight's status is {status}")
    wild = ask.credentials != "include"
    methods = names(pairs, "access-control-allow-methods")
    if (
        ask.method not in methods
        and ask.method not in ("GET", "HEAD", "POST")
        and not (wild and "*" in methods)
    ):
        raise Blocked(f"the method is not one of {methods}")
    allowed = [name.lower() for name in names(pairs, "access-control-allow-headers")]
    for name in unsafe_headers(ask):
        if name not in allowed and not (wild and "*" in allowed and name != "authorization"):
            raise Blocked(f"the header {name} is not one of {allowed}")


def readable(pairs: Pairs, credentials: str) -> dict[str, str]:
    """The headers of a "CORS filtered response"."""
    exposed = {name.lower() for name in names(pairs, "access-control-expose-headers")}
    everything = "*" in exposed and credentials != "include"
    shown = {name.lower() for name, _ in pairs} if everything else exposed | _SAFE_RESPONSE_HEADERS
    found = {name: value(pairs, name) for name in shown - {"set-cookie"}}
    return {name: text for name, text in found.items() if text is not None}


def each_once(pairs: Pairs) -> None:
    """More than the standard: no field about other origins, nor Vary, is there twice, nor any name in it."""
    for name in {key.lower() for key, _ in pairs}:
        if name.startswith("access-control-") or name == "vary":
            values = [text for key, text in pairs if key.lower() == name]
            assert len(values) == 1, (name, pairs)
            listed = [item.strip().lower() for item in values[0].split(",")]
            assert len(set(listed)) == len(listed), (name, pairs)
    assert not (value(pairs, "access-control-allow-origin") and value(pairs, "vary") is None), pairs


class Standard:
    """A page of an origin, in a browser that is this file. All answers that it got are in `answers`."""

    def __init__(self, address: tuple[str, int], origin: str) -> None:
        self._address, self._origin = address, origin
        self.answers: list[tuple[str, int, Pairs]] = []

    def fetch(self, ask: Ask) -> Seen:
        """Blocks the thread. For an `Ask` whose token is filled in."""
        try:
            if ask.credentials == "socket":
                return self._socket(ask)
            if ask.method not in ("GET", "HEAD", "POST") or unsafe_headers(ask):
                self._preflight(ask)
            status, pairs, text = self._send(ask.method, ask.path, ask.headers, ask.body, ask.until)
            cors_check(pairs, self._origin, ask.credentials)
            return Seen(status, readable(pairs, ask.credentials), text)
        except Blocked as why:
            return Seen(why=str(why))

    def _preflight(self, ask: Ask) -> None:
        headers = {"Access-Control-Request-Method": ask.method}
        if unsafe_headers(ask):
            headers["Access-Control-Request-Headers"] = ",".join(unsafe_headers(ask))
        status, pairs, _ = self._send("OPTIONS", ask.path, headers)
        preflight_check(status, pairs, ask, self._origin)

    def _socket(self, ask: Ask) -> Seen:
        headers = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAECAwQFBgcICQoLDA0ODw==",
        }  # fmt: skip
        status, _, _ = self._send("GET", ask.path, headers)
        if status != 101:
            raise Blocked(f"the handshake's status is {status}")
        return Seen(status)

    def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: str | None = None, until: str = ""
    ) -> tuple[int, Pairs, str]:
        client = http.client.HTTPConnection(*self._address, timeout=30)
        try:
            raw = body.encode() if body is not None else None
            client.request(method, path, raw, {"Origin": self._origin, "Accept": "*/*", **headers})
            response = client.getresponse()
            pairs = response.getheaders()
            self.answers.append((f"{method} {path}", response.status, pairs))
            text = ""
            while response.status != 101 and (piece := response.read1()):
                text += piece.decode()
                if until and until in text:
                    break
            return response.status, pairs, text
        finally:
            client.close()


def filled(ask: Ask, token: str) -> Ask:
    headers = {name: text.replace("{token}", token) for name, text in ask.headers.items()}
    return Ask(**{**vars(ask), "headers": headers})


def as_json(asks: Iterable[Ask]) -> str:
    """For a script in a page: no `<` may end it."""
    return re.sub("<", "\\\\u003c", json.dumps([dict(vars(ask), hides=list(ask.hides)) for ask in asks]))
