"""Real server processes on unix sockets, and a client that calls them as the gateway would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends import signing
from tests.eventually import poll
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
GUNICORN = shlex.split(
    "-m gunicorn --worker-class gthread --workers 1 --threads 8 --keep-alive 2 --graceful-timeout 5 "
    "--no-control-socket --log-level warning --preload --umask 077"
)
UVICORN = shlex.split("-m uvicorn --timeout-graceful-shutdown 5 --no-access-log --log-level warning")

# As the gateway sets them on a request to https://api.example:8443/<prefix>/...
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example:8443"}


class Answer:
    """A whole answer. `same_as` compares what a caller can see, byte for byte."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def same_as(self, other: Answer) -> bool:
        volatile = {"date", "server"}
        mine, others = (
            [(key, value) for key, value in answer.headers.items() if key.lower() not in volatile]
            for answer in (self, other)
        )
        return (self.status, self.body, mine) == (other.status, other.body, others)

    def is_problem(self, status: int) -> bool:
        assert (self.status, self.headers["Content-Type"]) == (status, "application/problem+json"), self.body
        assert self.json["status"] == status
        assert self.json["detail"]
        return True


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1", timeout=120)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    """A running backend. audience: its name, as the gateway's. port: on loopback, 0 on a unix socket."""

    def __init__(
        self, socket_path: str, process: subprocess.Popen[bytes], log: Path, audience: str, port: int
    ) -> None:
        self.audience = audience
        self.port = port
        self.socket_path = socket_path
        self.process = process
        self.log = log

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        tenant: str | None = "acme",
        body: Any = None,
        *,
        scope: str = "read write",
        **headers: str,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and read the head of its answer; leaving the block closes the connection. tenant:
        who calls; "" for nobody, as on a public route, None for what did not come through the gateway."""
        if tenant == "":
            headers = {**signing.nobody(aud=self.audience), **headers}
        elif tenant is not None:
            headers = {**signing.caller(tenant, scope=scope, aud=self.audience), **headers}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        with contextlib.closing(self._connection()) as connection:
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                yield response

    def _connection(self) -> http.client.HTTPConnection:
        if self.port:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        return UnixConnection(self.socket_path)

    @property
    def address(self) -> str:
        """As a routing config names it."""
        return f"http://127.0.0.1:{self.port}" if self.port else f"unix:{self.socket_path}"

    def call(
        self,
        method: str,
        path: str,
        tenant: str | None = "acme",
        body: Any = None,
        *,
        scope: str = "read write",
        **headers: str,
    ) -> Answer:
        with self.open(method, path, tenant, body, scope=scope, **headers) as response:
            return Answer(response)

    def stop(self) -> float:
        """SIGTERM, and the seconds until the process was gone."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - begun


# What Python 3.12 and 3.13 say of others: ASAB asks for an event loop before there is one, and Django keeps a
# connection for each thread until the process ends.
_WARNINGS = "default,ignore::DeprecationWarning:asab.application,ignore:unclosed database:ResourceWarning"


@contextlib.contextmanager
def running(*command: str, data: Path | None = None, **environment: str) -> Iterator[Server]:
    """Run `python <command>` with {socket} or {port} replaced, until /healthz answers; end it afterwards."""
    # Not pytest's tmp_path: a unix socket's path must stay below 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="backend-", dir="/tmp"))
    socket_path = str(folder / "s")
    port = free_port() if any("{port}" in part for part in command) else 0
    arguments = [part.replace("{socket}", socket_path).replace("{port}", str(port)) for part in command]
    environment = {
        **os.environ,
        "DATA": str(data or folder / "data"),
        "PYTHONWARNINGS": _WARNINGS,
        **signing.ENVIRONMENT,
        **environment,
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    server = Server(socket_path, process, log, environment["GATEWAY_IDENTITY_AUDIENCE"], port)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder)


def _wait_until_healthy(server: Server) -> None:
    def healthy() -> bool:
        if server.process.poll() is not None:
            pytest.fail(f"The server ended:\n{server.log.read_text()[-4000:]}")
        try:
            status = server.call("GET", "/healthz", tenant=None).status
        except OSError:
            return False
        return status == 200 or pytest.fail(f"/healthz answers {status}")

    poll(healthy, lambda: server.log.read_text()[-4000:])
