"""The admin listener of two workers: what it shows and changes is that of both."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.keys import read_keys, signing_key
from gateway.core.jwt.keys import sign
from tests.eventually import poll
from tests.harness import RULE
from tests.process.test_serve import Serving
from tests.process.workers.test_workers import TWO, Clients, pids

OLD = """\
version: 1
tenants: { acme: {} }
backends:
  away: { kind: http, addresses: ["http://localhost:1"], resolve: { each: true } }
routes:
  - { name: away, path: "/away/{rest*}", target: away, public: true }
  - { name: docs, path: "/docs/{rest*}", strip: /docs, target: documents }
"""
NEW = OLD + '  - { name: more, path: "/more/{rest*}", strip: /more, target: documents }\n'


class Asked:
    """sent: requests to the public listener that were answered."""

    def __init__(self, serving: Serving, folder: Path) -> None:
        self.serving, self.folder = serving, folder
        self.sent = 0

    def admin(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Any:
        token = (self.folder / "var" / "operator.token").read_text().strip()
        given = {"Authorization": f"Bearer {token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        request = urllib.request.Request(self.serving.admin + path, body, given, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
            return json.loads(text) if "json" in answer.headers["Content-Type"] else text

    def public(self, path: str, token: str = "") -> int:
        """The status of the answer on a connection of its own."""
        self.sent += 1
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            request = urllib.request.Request(self.serving.public + path, headers=headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def counted(self, name: str = "gateway_tenant_requests_total") -> float:
        lines = self.admin("/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    def all_counted(self) -> None:
        """A request is counted when it has been answered: maybe a moment later."""
        poll(lambda: self.counted() == self.sent, lambda: (self.counted(), self.sent))

    def token(self) -> str:
        keys = read_keys(self.folder / "var" / "keys.jwks", RULE.algorithms)
        who = {"iss": "gateway", "aud": "gateway", "tenant": "acme", "sub": "alice", "jti": "one"}
        return sign({**who, "iat": 1_700_000_000, "exp": 4_000_000_000}, signing_key(keys))


@pytest.mark.whole
def test_what_two_workers_do_is_shown_and_changed_as_one(tmp_path: Path) -> None:
    serving = Serving(tmp_path, routing=OLD, more=TWO)
    asked = Asked(serving, tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        all_are_counted(asked, serving)
        each_address_of_a_name_has_a_circuit(asked)
        a_change_is_in_force_in_all(asked)
        assert circuit_of_the_name(asked) == "open"
        none_is_lost_when_all_are_replaced(asked, serving, process)
        assert circuit_of_the_name(asked) == "open"
        a_revocation_is_in_force_in_all(asked)
        no_total_goes_down_when_one_is_killed(asked, serving)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "Traceback" not in serving.log.read_text()


def all_are_counted(asked: Asked, serving: Serving) -> None:
    clients = Clients(serving.public)
    with clients.asking():
        poll(lambda: clients.served > 200)
    assert clients.failed == []
    asked.sent += clients.served
    asked.all_counted()
    assert asked.counted() == asked.sent == asked.counted("gateway_request_seconds_count")
    (node,) = asked.admin("/admin/v1/nodes")["nodes"]
    assert sorted(one["pid"] for one in node["workers"]) == sorted(pids(serving))
    states = [(one["state"], one["revision"], one["lags"]) for one in node["workers"]]
    assert states == [("ready", 1, False)] * 2
    text = asked.admin("/readyz?verbose")
    assert text.startswith("ready\nworker 0 (pid ")
    assert "store: available\nshared state: master, ok\nconfig: revision 1;" in text


def circuit_of_the_name(asked: Asked) -> str:
    (backend,) = asked.admin("/admin/health")["backends"]
    (address,) = backend["addresses"]
    assert re.fullmatch(r"http://localhost:1 \((127\.0\.0\.1|::1)\)", address["address"])
    return str(address["state"])


def each_address_of_a_name_has_a_circuit(asked: Asked) -> None:
    assert circuit_of_the_name(asked) == "closed"
    for _ in range(3):
        assert asked.public("/away/") == 503
    poll(lambda: circuit_of_the_name(asked) == "open")


def none_is_lost_when_all_are_replaced(
    asked: Asked, serving: Serving, process: subprocess.Popen[bytes]
) -> None:
    clients = Clients(serving.public)
    with clients.asking():
        process.send_signal(signal.SIGHUP)
        serving.until_logged(process, "All 2 workers were replaced")
    assert clients.failed == []
    asked.sent += clients.served
    asked.all_counted()
    assert "gateway_workers_died_total 0" in asked.admin("/metrics").splitlines()


def a_change_is_in_force_in_all(asked: Asked) -> None:
    token = asked.token()
    assert asked.public("/more/collections", token) == 404
    etag = f'"{asked.admin("/admin/config")["digest"]}"'
    done = asked.admin(
        "/admin/v1/config", "PUT", NEW.encode(), Content_Type="application/yaml", If_Match=etag
    )
    assert done["revision"]["number"] == 2 and "behind" not in done
    served = asked.public("/docs/collections", token)
    assert {asked.public("/more/collections", token) for _ in range(20)} == {served}
    (node,) = asked.admin("/admin/v1/nodes")["nodes"]
    assert [one["revision"] for one in node["workers"]] == [2, 2]


def a_revocation_is_in_force_in_all(asked: Asked) -> None:
    token = asked.token()
    assert {asked.public("/docs/collections", token) for _ in range(20)} != {401}
    body = json.dumps({"jti": "one", "issuer": "local"}).encode()
    asked.admin("/admin/auth/revocations", "POST", body, Content_Type="application/json")
    assert {asked.public("/docs/collections", token) for _ in range(20)} == {401}


def no_total_goes_down_when_one_is_killed(asked: Asked, serving: Serving) -> None:
    clients, over, seen = Clients(serving.public), threading.Event(), [asked.counted()]

    def look() -> None:
        while not over.is_set():
            seen.append(asked.counted())

    looking = threading.Thread(target=look)
    with clients.asking():
        looking.start()
        poll(lambda: len(seen) > 3)
        before = len(pids(serving))
        os.kill(pids(serving)[-1], signal.SIGKILL)
        poll(lambda: len(pids(serving)) > before)
        more = len(seen)
        poll(lambda: len(seen) > more + 3)
        over.set()
        looking.join()
    assert seen == sorted(seen)
    assert asked.counted() <= seen[0] + clients.served + len(clients.failed)
