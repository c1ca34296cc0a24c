"""The process ends when it is told to, whatever hangs: a name server, a disk, its own event loop."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import harness
from tests.eventually import END, poll
from tests.process.test_serve import Serving
from tests.process.test_stopping import children, lines

pytestmark = pytest.mark.whole

HANGING = """
import socket, sys, threading, time
from gateway.cli import main as cli
from gateway.runtime import threads
from gateway.store.sqlite import engine as sqlite

real, hang = socket.getaddrinfo, threading.Event()

def silent(host, *arguments, **more):
    if host == "slow.example":
        hang.wait()
    return real(host, *arguments, **more)

socket.getaddrinfo = silent
{more}
sys.exit(cli.main([{command!r}, "-c", sys.argv[1]]))
"""
# Threads of a pool are not daemons: at its end Python waits for them.
DISK = """
for pool in (threads.CONFIG, threads.SPOOL):
    pool.submit(hang.wait)
closing = sqlite.SQLiteDocumentStore.close
async def close(self):
    self._writers.threads.submit(hang.wait)
    await closing(self)
sqlite.SQLiteDocumentStore.close = close
"""
LOOP = """
async def close(self):
    print("stands still", file=sys.stderr, flush=True)
    hang.wait()
sqlite.SQLiteDocumentStore.close = close
"""


def program(more: str = "", command: str = "serve") -> tuple[str, str]:
    return "-c", HANGING.format(more=more, command=command)


def routing() -> str:
    routes = [harness.route("slow", "slow", public=True, timeouts={"connect": "100s", "total": "200s"})]
    backends = {"slow": {"kind": "http", "addresses": ["http://slow.example:81"]}}
    return yaml.safe_dump(harness.routing(routes, backends=backends))


def waiting(serving: Serving, process: subprocess.Popen[bytes]) -> socket.socket:
    """A client whose request waits for a name."""
    serving.until_ready(process)
    host, port = serving.public.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=END)
    client.sendall(b"GET /slow/x HTTP/1.1\r\nHost: a\r\n\r\n")
    poll(lambda: "resolve slow.exa" in threads_of(process.pid) or len(threads_of(process.pid)) > 3)
    return client


def threads_of(pid: int) -> list[str]:
    return [path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")]


@pytest.mark.parametrize("more", ["", DISK], ids=["resolver", "disk"])
def test_one_signal_ends_it_when_its_time_to_drain_is_over(tmp_path: Path, more: str) -> None:
    serving = Serving(tmp_path, routing())
    with serving.started(*program(more)) as process, waiting(serving, process) as client:
        process.send_signal(signal.SIGTERM)
        assert process.wait(END) == 0, serving.log.read_text()
        assert client.recv(65536).startswith(b"HTTP/1.1 50")
    (line,) = lines(tmp_path)
    assert line["code"] == "draining"
    assert ("the document store has not ended within 4 s" in serving.log.read_text()) == bool(more)


@pytest.mark.parametrize("more", ["", DISK, LOOP], ids=["resolver", "disk", "loop"])
def test_two_signals_end_it_at_once_with_its_backends_and_its_log(tmp_path: Path, more: str) -> None:
    serving = Serving(tmp_path, routing() if more != LOOP else "version: 1\nroutes: []\n")
    backend = "[backend:child]\ncommand = sh -c 'sleep 1000 & exec sleep 1000'\nstart_timeout = 60\n"
    if more == LOOP:
        backend = ""
    serving.conf.write_text(serving.conf.read_text() + backend)
    with serving.started(*program(more, "up" if backend else "serve")) as process:
        if backend:
            serving.until_logged(process, "waiting for backend child")
            (child,) = children(process.pid)
            poll(lambda: children(child))
            gone = [child, *children(child)]
            process.send_signal(signal.SIGTERM)
            poll(lambda: process.poll() is not None or "waiting for" in serving.log.read_text())
        else:
            serving.until_ready(process)
            gone = []
            process.send_signal(signal.SIGTERM)
            serving.until_logged(process, "stands still")
        process.send_signal(signal.SIGTERM)
        assert process.wait(END) in ((0, 1) if backend else (1,))
    for pid in gone:
        poll(lambda pid=pid: not running(pid))  # type: ignore[misc]


def running(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
