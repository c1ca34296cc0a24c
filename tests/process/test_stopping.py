"""How the process ends: what it says while it drains, and that a second signal is now."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.process import signals
from tests import harness
from tests.eventually import meanwhile, poll
from tests.process.test_serve import UP, Serving

pytestmark = pytest.mark.whole


@contextmanager
def backend(sends: bytes) -> Iterator[str]:
    """Answers each connection with these bytes and then says nothing more. Gives its address."""
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            held.append(connection)
            connection.recv(65536)
            connection.sendall(sends)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for connection in held:
        connection.close()


def routing(address: str) -> str:
    backends = {"app": {"kind": "http", "addresses": [address]}}
    return yaml.safe_dump(harness.routing([harness.route("svc", "app", public=True)], backends=backends))


EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n"
)


@contextmanager
def asked(serving: Serving) -> Iterator[socket.socket]:
    """A client whose request is inside the gateway."""
    host, port = serving.public.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
        yield client


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "var" / "access.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_open_event_stream_is_said_and_ended_within_its_grace(tmp_path: Path, number: int) -> None:
    with backend(EVENTS) as address:
        serving = Serving(tmp_path, routing(address), more="stream_grace = 0.8s")
        with serving.started() as process, asked_when_ready(serving, process) as client:
            received = client.recv(65536)
            while b"data: 1" not in received:
                received += client.recv(65536)
            process.send_signal(number)
            assert client.recv(65536) == b"0\r\n\r\n"
            assert process.wait(30) == 0
    assert "waiting for 1 stream, at most 2 s; Ctrl-C or SIGTERM again ends it now" in serving.log.read_text()
    assert [(line["status"], line["code"]) for line in lines(tmp_path)] == [(200, "draining")]


@contextmanager
def asked_when_ready(serving: Serving, process: Any) -> Iterator[socket.socket]:
    serving.until_ready(process)
    with asked(serving) as client:
        yield client


def test_the_second_signal_ends_it_at_once_and_loses_no_line_of_the_access_log(tmp_path: Path) -> None:
    with backend(b"") as address:
        serving = Serving(tmp_path, routing(address))
        with serving.started() as process, asked_when_ready(serving, process):
            process.send_signal(signal.SIGTERM)
            serving.until_logged(process, "waiting for 1 request, at most 5 s")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 1
    assert [(line["status"], line["code"]) for line in lines(tmp_path)] == [(503, "draining")]


def test_without_a_call_nothing_is_left_to_wait_for(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "still waiting" not in serving.log.read_text()  # ASAB's, for a task that nobody ended: 3 s
    assert "waiting for" not in serving.log.read_text()


def test_a_client_that_does_not_read_the_admin_listener_holds_nothing_up(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        host, port = serving.admin.removeprefix("http://").split(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
            meanwhile(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_what_means_nothing_is_outlived_also_while_it_starts_and_a_child_gets_its_defaults(
    tmp_path: Path,
) -> None:
    serving = Serving(tmp_path)
    more = "[backend:child]\ncommand = sleep 100\nstart_timeout = 60\n"
    serving.conf.write_text(serving.conf.read_text() + more)
    numbers = {*signals.stray(), signal.SIGTTOU, signal.SIGTTIN, signal.SIGWINCH, signal.SIGURG}
    with serving.started(*UP) as process:
        poll(lambda: signals.stray() <= _numbers(process.pid, "SigCgt"))
        for number in numbers:
            process.send_signal(number)
        serving.until_logged(process, "waiting for backend child")
        (child,) = children(process.pid)
        assert _numbers(child, "SigIgn") & numbers <= {signal.SIGTTOU, signal.SIGTTIN}
        for number in numbers:
            process.send_signal(number)
        serving.until_logged(process, "SIGUSR2 means nothing here")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, serving.log.read_text()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _numbers(pid: int, field: str) -> set[int]:
    """The signals of one of the masks of a process (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith(field)).split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_the_log_of_the_process_is_opened_again_too_and_what_was_rotated_stays_as_it_is(
    tmp_path: Path, number: int
) -> None:
    serving = Serving(tmp_path)
    log = tmp_path / "gateway.log"
    serving.conf.write_text(serving.conf.read_text() + f"[logging:file]\npath = {log}\n")
    with serving.started() as process:
        serving.until_ready(process)
        log.rename(tmp_path / "gateway.log.1")
        before = (tmp_path / "gateway.log.1").read_text()
        assert "Revision 1" in before
        process.send_signal(number)
        poll(lambda: log.exists() and "was opened again" in log.read_text())
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert (tmp_path / "gateway.log.1").read_text() == before
    assert sorted(path.name for path in tmp_path.glob("gateway.log*")) == ["gateway.log", "gateway.log.1"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_rotation_by_rename_and_signal_loses_no_line(tmp_path: Path, number: int) -> None:
    serving = Serving(tmp_path)
    log = tmp_path / "var" / "access.log"
    sent = 0
    with serving.started() as process:
        serving.until_ready(process)
        host, port = serving.public.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:

            def ask(count: int) -> None:
                nonlocal sent
                for _ in range(count):
                    client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
                    received = b""
                    while not received.endswith(b"}"):
                        received += client.recv(65536)
                    sent += 1

            ask(100)
            for turn in range(3):
                log.rename(tmp_path / f"access.log.{turn}")
                ask(50)
                process.send_signal(number)
                ask(50)
                deadline = time.monotonic() + 5
                while not log.exists():
                    assert time.monotonic() < deadline
                    ask(1)
                ask(10)
        serving.until_logged(process, f"The access log {log} was opened again")
        assert signal.Signals(number).name in serving.log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    files = [tmp_path / f"access.log.{turn}" for turn in range(3)] + [log]
    texts = [path.read_text() for path in files]
    assert sum(len([json.loads(line) for line in text.splitlines()]) for text in texts) == sent
    assert all(texts)
