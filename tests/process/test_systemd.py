"""What systemd is told, and the sockets that it gives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.process.systemd import Notifier, listening
from tests.eventually import eventually


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
