"""The four example backends on TCP, where every neighbour can connect: they believe what the gateway signs
for them, and nobody who merely says who he is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway.auth.keys import new_signing_key
from gateway.auth.signer import KEYS
from tests.backends.signing import assertion
from tests.backends.system.whole import Whole, whole
from tests.support.ports import free_port

# By name: what is asked of it, and how its command says where it listens.
PATHS = {"catalog": "/products", "reports": "/reports", "pricing": "/prices", "events": "/events"}
LISTENS = {
    "--bind unix:{socket} --umask 077": "--bind 127.0.0.1:%d",
    "--uds {socket}": "--host 127.0.0.1 --port %d",
    "--socket {socket}": "--listen 127.0.0.1:%d",
}
FORGED = {"X-Tenant": "acme", "X-Subject": "alice", "X-Scopes": "catalog:read reports:read events:write"}
FORWARDED = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "api.example", "X-Request-ID": "a" * 32}


@dataclass
class System:
    """The whole system, with each backend at an address of its own."""

    whole: Whole
    ports: dict[str, int]

    @property
    def key(self) -> dict[str, Any]:
        """The private key that the gateway signs with now: what an attacker has not."""
        found: dict[str, Any] = json.loads((self.whole.folder / "var" / KEYS).read_text())["keys"][-1]
        return found

    def direct(self, name: str, headers: dict[str, str]) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.ports[name]}{PATHS[name]}", headers=headers, timeout=30)

    def through(self, name: str, headers: dict[str, str]) -> requests.Response:
        return requests.get(self.whole.url(f"/{name}{PATHS[name]}"), headers=headers, timeout=30)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    ports = {name: free_port() for name in PATHS}

    def on_tcp(folder: Path) -> None:
        conf, routing = folder / "gateway.conf", folder / "routing.yaml"
        head, *sections = re.split(r"(?=^\[backend:)", conf.read_text(), flags=re.MULTILINE)
        for index, (name, port) in enumerate(ports.items()):
            assert sections[index].startswith(f"[backend:{name}]")
            for socket, tcp in LISTENS.items():
                sections[index] = sections[index].replace(socket, tcp % port)
            health = f"]\nhealth = http://127.0.0.1:{port}/healthz\n"
            sections[index] = sections[index].replace("]\n", health, 1)
        conf.write_text(head + "".join(sections))
        text = routing.read_text()
        for name, port in ports.items():
            text = text.replace(f"unix:{name}.sock", f"http://127.0.0.1:{port}")
        routing.write_text(text)

    with whole(tmp_path_factory.mktemp("tcp"), on_tcp) as running:
        yield System(running, ports)


def forgeries(system: System, name: str) -> dict[str, dict[str, str]]:
    """What a neighbour may send, by what it is."""
    key, other = system.key, next(each for each in PATHS if each != name)
    stranger = {**new_signing_key(), "kid": key["kid"]}
    said = {
        "not signed": assertion(key=key, aud=name).rpartition(".")[0] + ".",
        "signed by a stranger under the gateway's key id": assertion(key=stranger, aud=name),
        "signed by a stranger": assertion(key=new_signing_key(), aud=name),
        "for another backend": assertion(key=key, aud=other),
        "for nobody": assertion(key=key, aud=None),
        "of another gateway": assertion(key=key, aud=name, iss="elsewhere"),
        "expired": assertion(key=key, aud=name, iat=1, exp=61),
        "without end": assertion(key=key, aud=name, exp=None),
        "for another path": assertion(key=key, aud=name, htm="GET", target="/healthz"),
        "for another method": assertion(key=key, aud=name, htm="PUT", target=PATHS[name]),
        "for half a request": assertion(key=key, aud=name, htm="GET"),
        "of another type": assertion(key=key, aud=name, typ="JWT"),
        "a token for the gateway": system.whole.bearer()["Authorization"].removeprefix("Bearer "),
        "junk": "junk",
        "empty": "",
    }
    return {
        "nothing": {},
        "headers": FORGED,
        "headers, as if they came through": FORGED | FORWARDED,
        **{f"an assertion that is {what}": {"X-Gateway-Identity": text} for what, text in said.items()},
        "headers, dropped by name": FORGED | {"Connection": "close, x-gateway-identity, x-tenant"},
        "headers beside a bad assertion": FORGED | FORWARDED | {"X-Gateway-Identity": said["expired"]},
        "a token": system.whole.bearer(),
    }


@pytest.mark.whole
@pytest.mark.parametrize("name", PATHS)
def test_whoever_connects_past_the_gateway_is_refused(system: System, name: str) -> None:
    for what, headers in forgeries(system, name).items():
        response = system.direct(name, headers)
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        assert (response.status_code, kind) == (401, "application/problem+json"), (what, response.text)
        for value in headers.values():
            assert len(value) < 12 or value not in response.text, what
    bound = {"htm": "GET", "target": PATHS[name]}
    for claims in ({}, bound):
        good = {"X-Gateway-Identity": assertion(key=system.key, aud=name, **claims)}
        assert system.direct(name, good).status_code == 200, "what they lack is the gateway's key"


@pytest.mark.whole
@pytest.mark.parametrize("name", PATHS)
def test_what_comes_through_the_gateway_is_accepted_whatever_else_the_client_claims(
    system: System, name: str
) -> None:
    bearer = system.whole.bearer()
    assert system.through(name, bearer).status_code == 200
    for what, headers in forgeries(system, name).items():
        assert system.through(name, headers | bearer).status_code == 200, what
    mine = {"X-Gateway-Identity": assertion("globex", key=system.key, aud=name)}
    assert system.through(name, mine).status_code == 401, "a client cannot use one, even a good one"
    as_token = {"Authorization": f"Bearer {mine['X-Gateway-Identity']}"}
    assert system.through(name, as_token).status_code == 401, "nor as a token"
