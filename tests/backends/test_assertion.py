"""The signed identity: what is accepted, and all that is not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

from backends.identity import (
    ANONYMOUS,
    Admitted,
    Entrance,
    Identity,
    IdentityInvalid,
    Incoming,
    Refused,
    Settings,
)
from backends.identity import keys as keys_module
from backends.identity.assertion import Assertions, KeyUnknown
from gateway.auth.keys import new_signing_key
from tests.backends.signing import AUDIENCE, KEY, assertion, public_set

SETTINGS = Settings(public_set(KEY), AUDIENCE)
ANN = Identity("acme", "ann", frozenset({"read", "write"}))


def incoming(
    *values: str, method: str = "GET", path: bytes = b"/", query: bytes = b"", root: bytes = b"", **more: str
) -> Incoming:
    headers = {"X-Gateway-Identity": list(values), **{name: [value] for name, value in more.items()}}
    return Incoming(lambda name: headers.get(name, []), method, path, query, "203.0.113.7", root)


def who(request: Incoming, entrance: Entrance | None = None) -> Identity:
    found = (entrance or Entrance(SETTINGS)).admit(request)
    assert isinstance(found, Admitted), found
    return found.identity


def why_not(request: Incoming, entrance: Entrance | None = None) -> Refused:
    found = (entrance or Entrance(SETTINGS)).admit(request)
    assert isinstance(found, Refused), found
    assert found.status == 401
    return found


def test_the_caller_is_whom_it_names() -> None:
    assert who(incoming(assertion())) == ANN
    assert who(incoming(assertion(None, None, None))) is ANONYMOUS


def test_headers_without_a_signature_say_nothing_beside_it() -> None:
    forged = {"X-Tenant": "globex", "X-Subject": "root", "X-Scopes": "all"}
    assert who(incoming(assertion(), **forged)) == ANN
    assert who(incoming(assertion(None, None, None), **forged)) is ANONYMOUS
    why_not(incoming(**forged))


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def with_header(**changes: Any) -> str:
    """Signed with the gateway's key, under another header."""
    _, payload, _ = assertion().split(".")
    header = {"alg": "EdDSA", "typ": "gateway-identity+jwt", "kid": KEY["kid"], **changes}
    header = {name: value for name, value in header.items() if value is not None}
    message = f"{part(header)}.{payload}"
    signature = jwt.PyJWK(KEY, "EdDSA").key.sign(message.encode())
    return f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def by_secret() -> str:
    """HMAC with the public key as the secret."""
    secret = jwt.PyJWK({k: v for k, v in KEY.items() if k != "d"}, "EdDSA").key.public_bytes_raw()
    header = {"alg": "HS256", "typ": "gateway-identity+jwt", "kid": KEY["kid"]}
    message = f"{part(header)}.{assertion().split('.')[1]}"
    made = hmac.digest(secret, message.encode(), hashlib.sha256)
    return f"{message}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def unsigned() -> str:
    header = {"alg": "none", "typ": "gateway-identity+jwt", "kid": KEY["kid"]}
    return f"{part(header)}.{assertion().split('.')[1]}."


NOW = int(time.time())
REFUSED: dict[str, Callable[[], str]] = {
    "forged with another key of that name": lambda: assertion(key={**new_signing_key(), "kid": KEY["kid"]}),
    "of a key that is not the gateway's": lambda: assertion(key=new_signing_key()),
    "changed": lambda: assertion().replace(".", ".e", 1),
    "expired": lambda: assertion(iat=NOW - 120, exp=NOW - 60),
    "not yet made": lambda: assertion(iat=NOW + 3600, exp=NOW + 3660),
    "for another backend": lambda: assertion(aud="reports"),
    "for several backends": lambda: assertion(aud=[AUDIENCE, "reports"]),
    "of another gateway": lambda: assertion(iss="elsewhere"),
    "without an audience": lambda: assertion(aud=None),
    "without an end": lambda: assertion(exp=None),
    "without an issuer": lambda: assertion(iss=None),
    "a client's token": lambda: assertion(typ="JWT"),
    "an access token": lambda: assertion(typ="at+jwt"),
    "without a type": lambda: with_header(typ=None),
    "with more in its header": lambda: with_header(crit=["b64"], b64=False),
    "naming its own key": lambda: with_header(jwk={k: v for k, v in KEY.items() if k != "d"}),
    "without a key's name": lambda: with_header(kid=None),
    "with a number as the key's name": lambda: with_header(kid=1),
    "signed by nothing": unsigned,
    "signed with the public key as a secret": by_secret,
    "of half a caller": lambda: assertion(subject=None),
    "of a tenant that is none": lambda: assertion("Acme"),
    "of scopes that are a list": lambda: assertion(scope=["read"]),  # type: ignore[arg-type]
    "no token": lambda: "acme",
    "nothing": lambda: "",
    "endless": lambda: assertion(padding="x" * 33_000),
    "two in one, as WSGI joins them": lambda: f"{assertion()},{assertion()}",
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_it_is_refused(make: Callable[[], str]) -> None:
    text = make()
    refused = why_not(incoming(text))
    assert not text or text[:12] not in refused.detail
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'
    assert json.loads(refused.body)["status"] == 401


def test_one_that_is_missing_or_there_twice_is_refused() -> None:
    assert "call the gateway instead" in why_not(incoming()).detail
    why_not(incoming(assertion(), assertion()))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_that_was_verified_is_not_again_until_its_minute_is_over(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys", Clock()
    path.write_text(public_set(KEY))
    clock.now = time.time()
    assertions = Assertions(Settings(str(path), AUDIENCE), clock)
    request = incoming(assertion())
    assert assertions.verify(request) == ANN
    path.write_text(public_set(new_signing_key()))
    assertions.keys.refresh()
    assert assertions.verify(request) == ANN
    clock.now += 60
    with pytest.raises(KeyUnknown):
        assertions.verify(request)


@pytest.mark.parametrize(
    ("method", "target", "request_"),
    [
        ("GET", "/a?b=1", {"path": b"/a", "query": b"b=1"}),
        ("POST", "/a", {"method": "POST", "path": b"/a"}),
        ("GET", "/caf%C3%A9", {"path": "/café".encode()}),
        ("GET", "/a", {"path": b"/root/a", "root": b"/root"}),
        ("GET", "/\udcff?\udcff", {"path": b"/\xff", "query": b"\xff"}),
    ],
)
def test_one_bound_to_a_request_is_good_for_that_one(
    method: str, target: str, request_: dict[str, Any]
) -> None:
    text = assertion(htm=method, target=target)
    entrance = Entrance(SETTINGS)
    assert who(incoming(text, **request_), entrance) == ANN
    for other in ({"method": "DELETE"}, {"path": b"/b"}, {"query": b"c=2"}, {"path": b"/a/b"}):
        refused = why_not(incoming(text, **{**request_, **other}), entrance)
        assert "for another request" in refused.detail


def test_one_that_is_half_bound_is_refused() -> None:
    why_not(incoming(assertion(htm="GET")))
    why_not(incoming(assertion(target="/")))


@pytest.mark.parametrize(
    ("told", "signed", "warning"),
    [
        (Settings(public_set(KEY), "biling"), {"aud": "billing"},
         "signed is for 'billing', and GATEWAY_IDENTITY_AUDIENCE is 'biling'"),
        (Settings(public_set(KEY), AUDIENCE, "gatway"), {},
         "signed is by 'gateway', and GATEWAY_IDENTITY_ISSUER is 'gatway'"),
    ],
    ids=["audience", "issuer"],
)  # fmt: skip
def test_a_wrong_name_of_the_application_or_the_gateway_is_in_its_log_once_a_minute(
    told: Settings, signed: dict[str, str], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    assertions = Assertions(told, clock)
    forged = assertion(key={**new_signing_key(), "kid": KEY["kid"]}, **signed)
    with pytest.raises(IdentityInvalid, match="is not valid"):
        assertions.verify(incoming(forged))
    assert not caplog.messages
    for seconds, lines in [(0, 1), (59, 1), (1, 2)]:
        clock.now += seconds
        with pytest.raises(IdentityInvalid, match=r"is wrong: see its log\. Call the gateway"):
            assertions.verify(incoming(assertion(**signed)))
        assert len(caplog.messages) == lines
    assert warning in caplog.text


def test_what_was_signed_is_one_short_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    why_not(incoming(assertion(aud=["a\n\u2028" * 500])))
    assert caplog.messages[0].isascii() and caplog.messages[0].isprintable()
    assert len(caplog.messages[0]) < 300


# --- where the keys come from ---


def test_keys_in_a_file_follow_it_and_the_last_good_ones_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, new = tmp_path / "keys", new_signing_key()
    entrance = Entrance(Settings(str(path), AUDIENCE))
    found = entrance.admit(incoming(assertion()))
    assert isinstance(found, Refused)
    assert (found.status, found.headers["Retry-After"]) == (503, "5")
    path.write_text(public_set(KEY))
    assert who(incoming(assertion()), entrance) == ANN
    path.write_text(public_set(KEY, new))
    assert who(incoming(assertion(key=new)), entrance) == ANN
    path.write_text("{")
    assert who(incoming(assertion(subject="bob", key=new)), entrance).subject == "bob"
    why_not(incoming(assertion(key=new_signing_key())), entrance)
    assert "cannot be read" in caplog.text


class Server:
    """Serves a key set, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.text = public_set(KEY)
        self.status = 200
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += 1
                self.send_response(owner.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(owner.text.encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/.well-known/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_a_flood_of_invented_keys_makes_one_fetch_in_a_cooldown(server: Server) -> None:
    clock = Clock()
    source = keys_module.Url(server.url, clock)
    for _ in range(50):
        assert source.get("invented") is None
        source.refresh()
    assert server.asked == 1
    new = new_signing_key()
    server.text = public_set(KEY, new)
    clock.now += keys_module.COOLDOWN
    source.refresh()
    assert source.get(new["kid"]) is not None
    assert server.asked == 2


@pytest.mark.parametrize(("status", "text"), [(500, "{}"), (302, "{}"), (200, "{"), (200, '{"keys": []}')])
def test_when_the_gateway_has_no_keys_to_give_the_last_good_ones_go_on(
    server: Server, status: int, text: str
) -> None:
    clock = Clock()
    source = keys_module.Url(server.url, clock)
    source.refresh()
    server.status, server.text = status, text
    clock.now += keys_module.COOLDOWN
    source.refresh()
    assert server.asked == 2, "a redirect is not followed"
    assert source.get(KEY["kid"]) is not None


def test_a_url_that_cannot_be_asked_is_in_the_log_and_no_error_of_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Entrance(Settings("http://127.0.0.1:1/a b", AUDIENCE)).admit(incoming(assertion()))
    assert isinstance(found, Refused)
    assert found.status == 503
    assert "cannot be fetched from http://127.0.0.1:1/a b" in caplog.text


def test_old_keys_are_fetched_again_beside_the_requests(server: Server) -> None:
    clock = Clock()
    source = keys_module.Url(server.url, clock)
    source.refresh()
    clock.now += keys_module.MAX_AGE
    assert source.get(KEY["kid"]) is not None
    for thread in threading.enumerate():
        if thread.name == "gateway keys":
            thread.join(10)
    assert server.asked == 2


async def test_many_that_wait_for_the_first_keys_make_one_fetch(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    entrance = Entrance(Settings(server.url, AUDIENCE))
    with caplog.at_level(logging.WARNING):
        found = await asyncio.gather(*(entrance.admit_async(incoming(assertion())) for _ in range(20)))
    assert all(isinstance(one, Admitted) for one in found)
    assert (server.asked, caplog.text) == (1, "")
