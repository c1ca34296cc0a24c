"""What systemd is told, and the sockets that it gives."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.process.systemd import Notifier, listening
from tests.eventually import eventually
from tests.process.test_serve import Serving


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_by_datagrams(tmp_path: Path, abstract: bool) -> None:
    name = f"@gateway-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}" if abstract else name)
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": name, "HOME": "/"}
        notifier = Notifier(environment)
        assert environment == {"HOME": "/"}
        notifier.ready("Serving")
        assert systemd.recv(999).decode() == f"READY=1\nMAINPID={os.getpid()}\nSTATUS=Serving"
        notifier.reloading()
        assert systemd.recv(999).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        notifier.stopping()
        assert systemd.recv(999).startswith(b"STOPPING=1\n")


async def test_the_watchdog_is_told_from_the_loop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"})
        notifier.ready("Serving")
        told: set[bytes] = set()

        def hears() -> bool:
            try:
                told.add(systemd.recv(999))
            except BlockingIOError:
                return False
            return b"WATCHDOG=1" in told

        await eventually(hears)
        await notifier.close()


def test_nobody_is_told_without_systemd() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    notifier.ready("Serving")
    notifier.stopping()


def test_sockets_and_the_watchdog_of_another_process_are_not_ours(tmp_path: Path) -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"}
    assert listening(environment) == []
    assert environment == {}
    assert listening({"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())}) == []


ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "gateway", "serve", "-c", sys.argv[2]])
"""


@pytest.mark.whole
@pytest.mark.parametrize("workers", [1, 2])
def test_who_connects_between_two_runs_is_served_by_the_second(tmp_path: Path, workers: int) -> None:
    """systemd holds the socket, so nobody is refused while the service restarts."""
    serving = Serving(tmp_path, more=f"workers = {workers}")
    port = urlsplit(serving.public).port
    with socket.create_server(("127.0.0.1", port)) as held:

        def run() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", ACTIVATED, str(held.fileno()), str(serving.conf)]
            with serving.log.open("ab") as log:
                return subprocess.Popen(
                    command, pass_fds=[held.fileno()], stdout=log, stderr=log, start_new_session=True
                )

        first = run()
        try:
            serving.until_ready(first)
            first.terminate()
            assert first.wait(60) == 0
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            client.request("GET", "/.well-known/jwks.json")
        finally:
            first.kill()
        second = run()
        try:
            assert client.getresponse().status == 200
            client.close()
            serving.until_ready(second)
            second.terminate()
            assert second.wait(60) == 0
        finally:
            second.kill()
