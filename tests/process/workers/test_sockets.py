"""Each worker has a listening socket of its own on one port, and that port is nobody else's."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.core.process.listeners import Listen
from gateway.edge.client.sockets import ListenError
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
        address.of(1)
        with pytest.raises(ListenError, match="the port is in use"):
            sockets.bind([address.bound], "")
    finally:
        address.close()


def test_new_clients_reach_a_socket_that_is_kept() -> None:
    """Those that the kernel gives to a socket without a process would wait for ever."""
    (address,) = sockets.bind([Listen("127.0.0.1")], "")
    try:
        for worker in range(4):
            address.of(worker)
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
