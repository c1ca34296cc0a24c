"""Each worker has a listening socket of its own on one port, and that port is nobody else's."""

from __future__ import annotations

import logging
import select
import socket
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.core.process.listeners import Listen
from gateway.edge.client.sockets import ListenError, LostPaths
from gateway.process.workers import sockets


def test_every_worker_has_a_socket_on_the_same_port() -> None:
    (address,) = sockets.bind([Listen("127.0.0.1")], "")
    try:
        ports = {address.of(worker).getsockname() for worker in range(3)}
        assert ports == {address.bound.address}
        assert len({address.of(worker).fileno() for worker in range(3)}) == 3
    finally:
        address.close()


def test_a_port_of_another_master_is_in_use_though_both_would_share_it() -> None:
    (address,) = sockets.bind([Listen("127.0.0.1")], "")
    try:
        address.of(1).listen()
        with pytest.raises(ListenError, match="the port is in use"):
            sockets.bind([address.bound], "")
    finally:
        address.close()


def test_new_clients_reach_a_socket_that_is_kept() -> None:
    """Those that the kernel gives to a socket without a process would wait for ever."""
    (address,) = sockets.bind([Listen("127.0.0.1")], "")
    try:
        for worker in range(4):
            address.of(worker).listen()
        address.keep(1)
        clients = [socket.create_connection(address.bound.address) for _ in range(8)]
        for client in clients:
            address.of(0).accept()[0].close()
            client.close()
    finally:
        address.close()


def test_a_unix_socket_is_one_for_all_workers_and_its_file_goes_with_the_last_of_them() -> None:
    with TemporaryDirectory() as folder:
        (address,) = sockets.bind([Listen(path=f"{folder}/g")], "")
        assert len({address.of(worker) for worker in range(3)}) == 1
        address.keep(1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/g")
        address.close()
        assert list(Path(folder).iterdir()) == []


def test_a_worker_that_is_away_gets_no_clients_until_the_next_one_listens() -> None:
    (address,) = sockets.bind([Listen("127.0.0.1", 0)], "")
    try:
        for worker in (0, 1):
            address.of(worker).listen()
        address.pause(1)
        first = [socket.create_connection(address.bound.address) for _ in range(16)]
        for client in first:
            address.of(0).accept()[0].close()
            client.close()
        address.of(1).listen()
        second = [socket.create_connection(address.bound.address) for _ in range(64)]
        assert select.select([address.of(1)], [], [], 30)[0]  # of 64, some
        for client in second:
            client.close()
    finally:
        address.close()


def test_a_place_that_was_away_twice_serves_its_clients_once_the_next_worker_listens() -> None:
    (address,) = sockets.bind([Listen("127.0.0.1", 0)], "")
    try:
        address.pause(0)
        address.of(0).listen()
        address.pause(0)
        address.pause(0)
        address.of(0).listen()
        with socket.create_connection(address.bound.address) as client:
            accepted, _ = address.of(0).accept()
            with accepted:
                accepted.setblocking(False)
                with pytest.raises(BlockingIOError):  # b"" would be the end of what it sends
                    accepted.recv(1)
                client.sendall(b"x")
                assert select.select([accepted], [], [], 30)[0]
                assert accepted.recv(1) == b"x"
    finally:
        address.close()


def test_a_reload_changes_the_mode_of_a_unix_socket_of_ours() -> None:
    with TemporaryDirectory() as folder:
        path = Path(f"{folder}/g")
        (address,) = sockets.bind([Listen(path=str(path), mode=0o600)], "")
        address.of(0)
        address.speaks(replace(address.listen, mode=0o660))
        assert path.stat().st_mode & 0o777 == 0o660
        path.unlink()
        path.write_text("of somebody else")
        path.chmod(0o644)
        address.speaks(replace(address.listen, mode=0o600))
        assert path.stat().st_mode & 0o777 == 0o644
        address.close()


def test_a_unix_socket_whose_path_somebody_took_is_said_once_and_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(f"{folder}/g")
        (address,) = sockets.bind([Listen(path=str(path))], "")
        lost = LostPaths(lambda: [address.listen.path] if address.is_lost else [])
        lost.look()
        address.of(0)
        lost.look()
        assert caplog.records == [] and lost.notes() == []
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other, caplog.at_level(logging.ERROR):
            other.bind(str(path))
            lost.look()
            lost.look()
        assert len(caplog.records) == 1 and str(path) in caplog.text
        assert lost.notes() == ["unix:.../g is gone or another process's"]
        address.close()
        assert path.exists()
