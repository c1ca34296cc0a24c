"""Credentials as an attacker makes them, on real sockets: each is refused in the words of RFC 6750 and
RFC 9457, comes to no backend, and nothing of it is repeated in a response, a log or the admin listener."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import raw_to_der_signature

from gateway.app import Gateway
from gateway.auth.api_keys import new_key
from gateway.core.api_keys import compose
from tests import harness
from tests.fakes import Backend, RawClient, always, answer
from tests.support.key_sets import P256, RSA, certificate, public
from tests.support.sockets import KEY

ISS = "https://partner.example"
STRANGER = rsa.generate_private_key(65537, 2048)
# In every hostile credential, somewhere: none of it may come back.
MARK = "c0ffee-Tell-nobody"
BARE, TOKEN, REQUEST = 'Bearer realm="', 'Bearer error="invalid_token"', 'Bearer error="invalid_request"'


_HARMLESS = {
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Key",
    "X-Gateway-Identity",
    KEY.rstrip("="),
}


def b64(raw: bytes | str) -> str:
    return base64.urlsafe_b64encode(raw.encode() if isinstance(raw, str) else raw).decode().rstrip("=")


def claims(**more: Any) -> dict[str, Any]:
    """Good ones; None removes one."""
    now = int(time.time())
    made = {"iss": ISS, "aud": "gateway", "tenant": "acme", "sub": "etl", "iat": now, "exp": now + 600}
    return {name: value for name, value in {**made, "jti": MARK, **more}.items() if value is not None}


def signed(header: dict[str, Any] | str, payload: dict[str, Any] | str | bytes, key: Any = RSA[0]) -> str:
    """A token of any header and payload, with a signature that is good for the key."""
    head = header if isinstance(header, str) else json.dumps({"alg": "RS256", "kid": "rsa", **header})
    body = payload if isinstance(payload, str | bytes) else json.dumps(payload)
    message = f"{b64(head)}.{b64(body)}"
    algorithm = "HS256" if isinstance(key, bytes) else "ES256" if key is P256 else "RS256"
    library: Any = jwt.get_algorithm_by_name(algorithm)
    if isinstance(key, bytes):  # the library would refuse the text of a public key as a secret
        return f"{message}.{b64(hmac.digest(key, message.encode(), hashlib.sha256))}"
    return f"{message}.{b64(library.sign(message.encode(), key))}"


def good(**more: Any) -> str:
    return signed({}, claims(**more))


@dataclass(frozen=True)
class Attack:
    """What is sent, and the status and the challenge that come back."""

    what: str
    lines: list[str | bytes]
    status: int = 401
    challenge: str = TOKEN
    target: str = "/svc/x"

    def secrets(self) -> set[str]:
        """The pieces of what is sent that nobody may repeat."""
        text = " ".join(line.decode("latin-1") if isinstance(line, bytes) else line for line in self.lines)
        pieces = re.split(r"[\s.,:;=&?%/\"'{}]+", f"{text} {self.target}")
        return {piece for piece in pieces if len(piece) >= 16 and piece not in _HARMLESS}


def grammar() -> Iterator[Attack]:
    """Of the header, and of the compact form."""
    token = good()
    head, body, signature = token.split(".")
    yield Attack("nothing", [], challenge=BARE)
    yield Attack("an empty header", ["Authorization:"], challenge=BARE)
    yield Attack("a scheme alone", ["Authorization: Bearer "], challenge=BARE)
    yield Attack("another scheme", [f"Authorization: Basic {b64(f'{MARK}:x')}"], challenge=BARE)
    yield Attack("no scheme", [f"Authorization: {token}"], challenge=BARE)
    yield Attack("two tokens", [f"Authorization: Bearer {token} {token}"])
    yield Attack("a list", [f"Authorization: Bearer {token}, Bearer {token}"])
    yield Attack("in quotes", [f'Authorization: Bearer "{token}"'])
    yield Attack("two headers", [f"Authorization: Bearer {token}"] * 2, challenge=REQUEST)
    two = [f"Authorization: Bearer {token}", "Authorization: Bearer x"]
    yield Attack("two headers, one good", two, challenge=REQUEST)
    yield Attack("in X-API-Key", [f"X-API-Key: {token}"], challenge=BARE)
    yield Attack("in a cookie", [f"Cookie: access_token={token}"], challenge=BARE)
    yield Attack("in the query", [], challenge=BARE, target=f"/svc/x?access_token={token}")
    yield Attack(
        "in the fragment of a query", [], challenge=BARE, target=f"/svc/x?authorization=Bearer%20{token}"
    )
    yield Attack("in a referrer", [f"Referer: https://a.example/?token={token}"], challenge=BARE)
    yield Attack("in an id", [f"X-Request-ID: {token[:120]}"], challenge=BARE)
    yield Attack("not ASCII", [f"Authorization: Bearer {head}.{body}.".encode() + b"\xff\xfe"], 400)
    forms = {
        "one part": head, "two parts": f"{head}.{body}", "no signature": f"{head}.{body}.",
        "a dot more": f"{token}.", "a dot before": f".{token}", "four parts": f"{token}.{signature}",
        "five parts": f"{head}.{body}.{signature}.{body}.{signature}", "dots": "..", "many dots": "." * 8000,
        "padded": f"{head}==.{body}.{signature}", "padded at its end": f"{token}=",
        "white space": f"{head}. {body}.{signature}",
        "the other alphabet": f"{head}.{body}.+/{signature[2:]}",
        "percent": f"{head}%2E{body}%2E{signature}", "bits left over": token[:-1] + chr(ord(token[-1]) + 1),
        "JSON": json.dumps({"payload": body, "protected": head, "signature": signature}),
        "huge": f"{head}.{b64('x' * 11_500)}.{signature}", "in capitals": token.upper(),
    }  # fmt: skip
    for what, form in forms.items():
        yield Attack(what, [f"Authorization: Bearer {form}"])


def bearers() -> Iterator[tuple[str, str]]:
    """Tokens that are well formed as such."""
    yield from _keys()
    yield from _headers()
    yield from _claims()
    token = good()
    head, _, signature = token.split(".")
    yield "another payload", f"{head}.{b64(json.dumps(claims(tenant='globex')))}.{signature}"
    yield "another token's signature", f"{token.rpartition('.')[0]}.{good(sub='bob').rpartition('.')[2]}"
    raw = base64.urlsafe_b64decode(signature + "==")
    for what, bad in {"short": raw[:-1], "long": raw + b"\0", "zeros": bytes(256), "empty": b""}.items():
        yield f"a signature that is {what}", f"{token.rpartition('.')[0]}.{b64(bad)}"
    es = signed({"alg": "ES256", "kid": "ec"}, claims(), P256).rpartition(".")[0]
    library: Any = jwt.get_algorithm_by_name("ES256")
    raw = library.sign(es.encode(), P256)
    halves = raw[:32], raw[32:]
    wrong = {
        "zeros": bytes(64), "DER": raw_to_der_signature(raw, P256.curve), "no half": b"",
        "halves padded": b"\0" + halves[0] + b"\0" + halves[1], "the halves changed": halves[1] + halves[0],
    }  # fmt: skip
    for what, bad in wrong.items():
        yield f"ECDSA with {what}", f"{es}.{b64(bad)}"


def _keys() -> Iterator[tuple[str, str]]:
    """Whose signature it is."""
    for none in ("none", "None", "nOnE", "", "NONE"):
        yield f"alg {none!r}", f"{b64(json.dumps({'alg': none, 'kid': 'rsa'}))}.{b64(json.dumps(claims()))}."
    yield "no alg", signed('{"kid": "rsa"}', claims())
    pem = RSA[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    modulus = base64.urlsafe_b64decode(public(RSA[0])["n"] + "==")
    for what, secret in {
        "its PEM": pem, "its PEM without the end": pem.rstrip(), "its modulus": modulus, "nothing": b"",
        "its name": b"rsa",
    }.items():  # fmt: skip
        yield f"HS256 with the public key: {what}", signed({"alg": "HS256"}, claims(), secret)
        yield f"HS256 without kid: {what}", signed('{"alg": "HS256"}', claims(), secret)
    yield "another key under a known kid", signed({}, claims(), STRANGER)
    yield "another algorithm of the key", signed({"alg": "RS512"}, claims())
    yield "another type's algorithm", signed({"alg": "ES256"}, claims())
    for kid in ("../../../../dev/null", "rsa' OR '1'='1", "/proc/self/environ", "http://127.0.0.1:1/jwks",
                "rsa\u0000", "RSA", "k" * 4000, "", "key\r\nX-Evil: 1"):  # fmt: skip
        yield f"kid {kid[:24]!r}", signed({"kid": kid}, claims(), STRANGER)
    for odd in (1, None, ["rsa"], {"rsa": 1}, True):
        yield f"kid {odd!r}", signed({"kid": odd}, claims())
    own = {**public(STRANGER), "kid": "rsa"}
    yield "its own jwk", signed({"jwk": own}, claims(), STRANGER)
    yield "its own certificate", signed({"x5c": certificate(STRANGER)["x5c"]}, claims(), STRANGER)
    yield "its own kid and jwk", signed({"kid": MARK, "jwk": own}, claims(), STRANGER)


def _headers() -> Iterator[tuple[str, str]]:
    """Signed with a good key."""
    for typ in ("gateway-identity+jwt", "secevent+jwt", "logout+jwt", "dpop+jwt", "JOSE", "", 1, ["JWT"]):
        yield f"typ {typ!r}", signed({"typ": typ}, claims())
    for more in ({"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True},
                 {"zip": "DEF"}, {"enc": "A128GCM"}, {"cty": "JWT"}, {"cty": "application/jwt"}):  # fmt: skip
        yield f"header {more}", signed(more, claims())
    yield "alg twice", signed('{"alg": "none", "alg": "RS256", "kid": "rsa"}', claims())
    yield "kid twice", signed('{"alg": "RS256", "kid": "x", "kid": "rsa"}', claims())
    yield "a header that is a list", signed('["RS256"]', claims())
    yield "a byte order mark", signed('\ufeff{"alg": "RS256", "kid": "rsa"}', claims())


def _claims() -> Iterator[tuple[str, str]]:
    """Signed with a good key, too."""
    now = int(time.time())
    text = json.dumps(claims())
    raw: dict[str, str | bytes] = {
        "a member twice": text[:-1] + ', "tenant": "globex"}',
        "an inner member twice": text[:-1] + ', "a": {"b": 1, "b": 2}}',
        "NaN": text[:-1] + ', "n": NaN}', "Infinity": text[:-1] + ', "n": Infinity}',
        "a number without end": text[:-1] + ', "n": 1e999}',
        "a long number": text[:-1] + f', "n": 1{"0" * 5000}}}', "more after it": text + "{}",
        "UTF-16": text.encode("utf-16"), "no UTF-8": text.encode()[:-1] + b', "x": "\xff"}',
        "a list": f"[{text}]", "a text": json.dumps(MARK), "nothing": "", "null": "null",
        "deep": text[:-1] + ', "x": ' + "[" * 3500 + "]" * 3500 + "}",
    }  # fmt: skip
    for what, payload in raw.items():
        yield f"a payload with {what}", signed({}, payload)
    odd: dict[str, list[Any]] = {
        "iss": [None, "", 1, [ISS], ISS + "/", ISS.upper(), "gateway", "https://stranger.example", f"{ISS}#"],
        "aud": [None, "", 1, [], [["gateway"]], {"gateway": 1}, "Gateway", "gateway ", ["other"]],
        "exp": [None, "x", str(now + 600), True, -1, 0, now - 3600, [now + 600], 1e300],
        "nbf": [now + 3600, "x", True],
        "iat": [now + 3600, "x", True],
        "tenant": [None, "", ["acme", "b"], {"acme": 1}, "ACME", "acme/b", "acme\r\nX-Tenant: b", "a" * 64],
        "sub": [None, "", ["a", "b"], "e t l", "etl\r\nX-Scopes: admin", "ětl", "e" * 201, "etl\u0000"],
        "scope": ["a\r\nX-Tenant: globex", 1, {"a": 1}, "a\u0000b", "ě"],
    }  # fmt: skip
    for name, values in odd.items():
        for value in values:
            yield f"{name} {value!r}"[:60], good(**{name: value})


class Site:
    """A gateway that trusts a partner's keys, before a backend. shown: credentials that were sent."""

    def __init__(self, gateway: Gateway, backend: Backend) -> None:
        self.gateway = gateway
        self.backend = backend
        self.shown: set[str] = set()

    async def key(self, lasts: float = 600.0) -> str:
        """A new API key."""
        key, text = new_key("acme", "etl", "", "", lasts, "a test", time.time())
        await self.gateway.stored.change(self.gateway.stored.store.create_key, key)
        return text

    async def revoked_key(self) -> str:
        text, store = await self.key(), self.gateway.stored.store
        await self.gateway.stored.change(store.revoke_key, text.split("_")[1], "a test", time.time())
        return text

    async def ticket(self, path: str) -> str:
        body = json.dumps({"path": path})
        client = await RawClient.connect(harness.address(self.gateway))
        client.send(
            f"POST /oauth/ticket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {good()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        _, response = await client.answer()
        client.close()
        return str(json.loads(response)["ticket"])

    async def send(self, attack: Attack) -> tuple[str, bytes]:
        client = await RawClient.connect(harness.address(self.gateway))
        try:
            lines = [line if isinstance(line, bytes) else line.encode() for line in attack.lines]
            client.send(
                b"\r\n".join([f"GET {attack.target} HTTP/1.1".encode(), b"Host: a", *lines, b"", b""])
            )
            return await client.answer()
        finally:
            client.close()

    async def check(self, attack: Attack) -> str:
        """What is wrong with the response, "" when nothing is."""
        head, body = await self.send(attack)
        status, fields = int(head.split(" ")[1]), head.lower()
        challenges = [line for line in head.split("\r\n") if line.lower().startswith("www-authenticate:")]
        wrong = []
        if status != attack.status:
            wrong.append(f"{status}")
        elif "content-type: application/problem+json" not in fields or json.loads(body)["status"] != status:
            wrong.append(f"no problem: {body[:200]!r}")
        if status == 401 and [c.partition(": ")[2].startswith(attack.challenge) for c in challenges] != [
            True
        ]:
            wrong.append(f"{challenges}")
        pieces = attack.secrets()
        self.shown |= pieces
        wrong += [f"it says {piece}" for piece in pieces if piece in head + body.decode()]
        return f"{attack.what}: {'; '.join(wrong)}" if wrong else ""


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    keys = [{"kid": "rsa", "alg": "RS256", **public(RSA[0])}, {"kid": "ec", **public(P256)}]
    (folder / "partner.jwks").write_text(json.dumps({"keys": keys}))
    partner = {"issuer": ISS, "audiences": ["gateway"], "keys": "partner.jwks", "tenants": ["acme", "globex"]}
    async with Backend(always(answer())) as backend:
        backends = {"app": {"kind": "uvicorn", "addresses": [backend.address]}}
        routes = [harness.route("svc", "app"), harness.route("ws", "app", websocket=True)]
        config = harness.routing(routes, backends=backends, issuers={"partner": partner})
        async with harness.running(folder, config, log_query="yes") as gateway:
            yield Site(gateway, backend)


async def api_keys(there: Site) -> AsyncIterator[Attack]:
    """API keys, and what is none."""
    key = await there.key()
    assert (await there.send(Attack("good", [f"X-API-Key: {key}"])))[0].startswith("HTTP/1.1 200 ")
    other = new_key("acme", "etl", "", "", 600.0, "a test", time.time())[1]
    start, end = key[:14], key[14:]
    keys = {
        "of nobody": other, "with another's secret": compose(key[3:13], 1), "expired": await there.key(-1.0),
        "revoked": await there.revoked_key(), "mistyped": key[:-1] + ("a" if key[-1] != "a" else "b"),
        "cut off": key[:-6], "with more": f"{key}0", "changed": start + end.swapcase(), "alone": "gw_",
        "huge": "gw_" + "0" * 12_000, "with a dot": f"{key}.", "as a token": f"{key}.{key}.{key}",
        "of other digits": f"{start}{'_' * 49}", "beside another": f"{key}, {other}",
    }  # fmt: skip
    for what, text in keys.items():
        yield Attack(f"a key {what}", [f"X-API-Key: {text}"])
        yield Attack(f"a key {what}, as a bearer token", [f"Authorization: Bearer {text}"])
    bearer = f"Authorization: Bearer {good()}"
    yield Attack("a key twice", [f"X-API-Key: {key}"] * 2, challenge=REQUEST)
    yield Attack("a key and a token", [f"X-API-Key: {key}", bearer], challenge=REQUEST)
    yield Attack("a bad key and a token", [f"X-API-Key: {other}", bearer], challenge=REQUEST)
    yield Attack("a key and a scheme", [f"X-API-Key: {key}", "Authorization: Basic YTpi"], challenge=REQUEST)
    yield Attack("a key in capitals", [f"X-API-Key: {key.upper()}"], challenge=BARE)
    yield Attack("a key in the query", [], challenge=BARE, target=f"/svc/x?api_key={key}")
    yield Attack("a key in another query", [], challenge=BARE, target=f"/svc/x?q={key}")
    yield Attack("a key as Basic", [f"Authorization: Basic {b64(key + ':')}"], challenge=BARE)


async def tickets(there: Site) -> AsyncIterator[Attack]:
    """Where a page may show one, and where it may not."""
    used = await there.ticket("/svc/x")
    first = await there.send(Attack("good", [], target=f"/svc/x?ticket={used}"))
    assert first[0].startswith("HTTP/1.1 200 ")
    bearer, key, ticket = f"Authorization: Bearer {good()}", await there.key(), await there.ticket("/svc/x")
    yield Attack("a used ticket", [], target=f"/svc/x?ticket={used}")
    yield Attack("a ticket of nobody", [], target=f"/svc/x?ticket=gwt_{'x' * 43}")
    yield Attack("a ticket for another path", [], target=f"/svc/y?ticket={await there.ticket('/svc/x')}")
    yield Attack("a ticket for another route", [], target=f"/ws/x?ticket={await there.ticket('/svc/x')}")
    for what, query in {
        "percent-encoded": "ticket=gwt%5F" + ticket[4:], "under a percent-encoded name": f"tick%65t={ticket}",
        "in capitals": f"TICKET={ticket}", "cut off": f"ticket={ticket[:-1]}", "longer": f"ticket={ticket}x",
        "behind a semicolon": f"a=1;ticket={ticket}", "under another name": f"access_token={ticket}",
        "in quotes": f'ticket="{ticket}"',
    }.items():  # fmt: skip
        yield Attack(f"a ticket {what}", [], challenge=BARE, target=f"/svc/x?{query}")
    yield Attack("a ticket as a token", [f"Authorization: Bearer {ticket}"])
    yield Attack("a ticket as a key", [f"X-API-Key: {ticket}"], challenge=BARE)
    for what, line in {"a token": bearer, "a key": f"X-API-Key: {key}"}.items():
        target = f"/svc/x?ticket={await there.ticket('/svc/x')}"
        yield Attack(f"a ticket and {what}", [line], challenge=REQUEST, target=target)
    two = f"/svc/x?ticket={await there.ticket('/svc/x')}&ticket={await there.ticket('/svc/x')}"
    yield Attack("two tickets", [], challenge=REQUEST, target=two)


async def subprotocols(there: Site) -> AsyncIterator[Attack]:
    """Tokens among those that a page offers."""
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    upgrade.append(f"Sec-WebSocket-Key: {KEY}")
    name, token, stranger = "gateway.bearer", good(), signed({}, claims(), STRANGER)
    for what, offered, challenge in (
        ("nothing", name, REQUEST), ("a stranger's token", f"{name}, {stranger}", TOKEN),
        ("two tokens", f"{name}, {token}, {name}, {token}", REQUEST), ("itself", f"{name}, {name}", REQUEST),
        ("a token before it", f"{token}, {name}", REQUEST), ("a token alone", token, BARE),
        ("a token in capitals", f"{name.upper()}, {token}", BARE),
    ):  # fmt: skip
        lines = [*upgrade, f"Sec-WebSocket-Protocol: {offered}"]
        yield Attack(f"{name} with {what}", lines, challenge=challenge, target="/ws/x")
    both = f"Sec-WebSocket-Protocol: {name}, {token}"
    bearer = f"Authorization: Bearer {token}"
    yield Attack(f"{name} and a token", [*upgrade, both, bearer], challenge=REQUEST, target="/ws/x")
    yield Attack(f"{name} without an upgrade", [both], challenge=BARE, target="/ws/x")


async def signed_by_us(there: Site) -> AsyncIterator[Attack]:
    """What the gateway signs itself, in another's place."""
    await there.send(Attack("good", [f"Authorization: Bearer {good()}"]))
    assertion = there.backend.heard[-1].one("X-Gateway-Identity")
    assert assertion is not None
    yield Attack("an assertion as a token", [f"Authorization: Bearer {assertion}"])
    yield Attack("an assertion as itself", [f"X-Gateway-Identity: {assertion}"], challenge=BARE)
    head, payload, signature = harness.token(there.gateway).split(".")
    forged = f"{head}.{b64(json.dumps(claims()))}.{signature}"
    yield Attack("ours in a partner's name", [f"Authorization: Bearer {forged}"])
    said = json.loads(base64.urlsafe_b64decode(payload + "=="))
    yield Attack("a partner in our name", [f"Authorization: Bearer {signed({}, said)}"])


@pytest.mark.asyncio
async def test_hostile_credentials_are_refused_and_nothing_of_them_is_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(tmp_path) as there:
        fine = Attack("good", [f"Authorization: Bearer {good()}"], 200)
        assert (await there.send(fine))[0].startswith("HTTP/1.1 200 ")
        attacks = [*grammar()]
        attacks += [Attack(what, [f"Authorization: Bearer {token}"]) for what, token in bearers()]
        for more in (api_keys, tickets, subprotocols, signed_by_us):
            attacks += [attack async for attack in more(there)]
        assert len(attacks) > 200
        reached = len(there.backend.heard)
        wrong = [found for attack in attacks if (found := await there.check(attack))]
        assert not wrong, "\n".join(wrong)
        assert len(there.backend.heard) == reached
        states = there.gateway.issuers.states(), there.gateway.live.status()
    log = (tmp_path / "var" / "access.log").read_text()  # with the gateway's end it is complete
    operators = json.dumps(states, default=str)
    for where, text in {"the access log": log, "the log": caplog.text, "/admin": operators}.items():
        repeated = [secret for secret in there.shown if secret in text]
        assert not repeated, (where, repeated)


@pytest.mark.asyncio
@pytest.mark.parametrize("pipelined", [False, True])
async def test_on_one_connection_each_request_is_judged_by_its_own_credential(
    tmp_path: Path, pipelined: bool
) -> None:
    async with site(tmp_path) as there:
        acme, globex, key = good(), good(tenant="globex", sub="bob"), await there.key()
        spent, other = await there.ticket("/svc/x"), await there.ticket("/svc/x")
        nothing: tuple[str, list[str], int] = ("/svc/x", [], 401)
        sent = [
            ("/svc/x", [f"Authorization: Bearer {acme}"], 200), nothing,
            (f"/svc/x?ticket={spent}", [], 200), nothing, (f"/svc/x?ticket={spent}", [], 401), nothing,
            ("/svc/x", [f"Authorization: Bearer {globex}"], 200), nothing,
            ("/svc/x", [f"X-API-Key: {key}"], 200), nothing, ("/svc/x", [f"X-API-Key: {key}0"], 401),
            (f"/svc/x?ticket={other}", [f"Authorization: Bearer {globex}"], 401),
            ("/svc/x", [f"Authorization: Bearer {globex}"], 200),
            ("/svc/x", [f"Sec-WebSocket-Protocol: gateway.bearer, {acme}"], 401), nothing,
        ]  # fmt: skip
        requests = [
            "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode()
            for target, lines, _ in sent
        ]
        client = await RawClient.connect(harness.address(there.gateway))
        found = []
        if pipelined:
            client.send(b"".join(requests))
        for request in requests:
            if not pipelined:
                client.send(request)
            head, _ = await client.answer()
            found.append(int(head.split(" ")[1]))
        client.close()
        assert found == [status for *_, status in sent]
        told = [heard.one("X-Gateway-Identity") or "" for heard in there.backend.heard]
        who = [jwt.decode(text, options={"verify_signature": False})["sub"] for text in told]
        assert who == ["etl", "etl", "bob", "etl", "bob"]
