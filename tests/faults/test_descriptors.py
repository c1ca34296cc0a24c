"""File descriptors run out for one side, and the other is served all the same."""

from __future__ import annotations

import json
import resource
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.eventually import END, meanwhile, poll
from tests.process.test_serve import Serving

pytestmark = pytest.mark.whole
LIMIT = 512
HALF = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nX-A: "


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def open_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def connected(url: str, number: int) -> list[socket.socket]:
    clients = []
    for _ in range(number):
        client = socket.create_connection(address(url), timeout=END)
        try:
            client.sendall(HALF)
        except OSError:
            pass  # it was closed for a newer one
        clients.append(client)
    return clients


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=END) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("side", ["admin", "public"])
def test_heads_that_never_end_take_neither_side(tmp_path: Path, side: str) -> None:
    serving = Serving(tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        soft = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0]
        assert soft == resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # raised as far as it may be
    with serving.started("-c", LOWERED) as process:
        serving.until_ready(process)
        clients = connected(getattr(serving, side), LIMIT + 100)
        for _ in range(5):
            assert status(f"{serving.public}/nothing") in (401, 404)
            assert status(f"{serving.admin}/readyz") == 200
        assert status(f"{serving.admin}/metrics") == 200
        assert open_descriptors(process.pid) < LIMIT - 64
        for client in clients:
            client.close()
        poll(lambda: open_descriptors(process.pid) < 64)
    assert "are taken: the longest idle ones are closed for new ones" in serving.log.read_text()


LOWERED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
from gateway.cli.main import main
sys.exit(main(["serve", "-c", sys.argv[1]]))
"""


def test_a_bad_request_to_the_admin_listener_is_logged_without_its_control_characters(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.conf.write_text(serving.conf.read_text() + "[logging]\nlevel = NOTICE\n")
    with serving.started() as process:
        serving.until_ready(process)
        for line in (b"GET /\x1b[2J HTTP/1.1", b"GET /%1b%5d HTTP/1.1", b"GET / HTTP/1.1\r\nX: \x1b]0;a\x07"):
            with socket.create_connection(address(serving.admin), timeout=END) as client:
                client.sendall(line + b"\r\nHost: localhost\r\nUser-Agent: \xc2\x9b2J\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 4")
        meanwhile(0.3)
    log = serving.log.read_bytes()
    assert log.count(b"\x1b") == log.count(b"\x07") == log.count(b"\xc2\x9b") == 0
    assert b"/readyz" in log


def test_the_admin_listener_refuses_a_head_that_is_too_long_or_takes_too_long(
    tmp_path: Path,
) -> None:
    serving = Serving(tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        with (
            socket.create_connection(address(serving.admin), timeout=END) as slow,
            socket.create_connection(address(serving.admin), timeout=END) as long,
        ):
            slow.sendall(HALF)
            long.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: " + b"a" * 20_000)
            head, _, body = long.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 431 ")
            assert json.loads(body)["status"] == 431
            assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
