"""Each worker has a listening socket of its own on one port, and that port is nobody else's."""

from __future__ import annotations

import socket

import pytest

from gateway.edge.client.listener import ListenError
from gateway.process.workers import sockets


def test_every_worker_has_a_socket_on_the_same_port() -> None:
    (address,) = sockets.bind([("127.0.0.1", 0)], "")
    try:
        ports = {address.of(worker).getsockname() for worker in range(3)}
        assert ports == {address.name}
        assert len({address.of(worker).fileno() for worker in range(3)}) == 3
    finally:
        address.close()


def test_a_port_of_another_master_is_in_use_though_both_would_share_it() -> None:
    (address,) = sockets.bind([("127.0.0.1", 0)], "")
    try:
        address.of(1)
        with pytest.raises(ListenError, match="the port is in use"):
            sockets.bind([address.name], "")
    finally:
        address.close()


def test_new_clients_reach_a_socket_that_is_kept() -> None:
    """Those that the kernel gives to a socket without a process would wait for ever."""
    (address,) = sockets.bind([("127.0.0.1", 0)], "")
    try:
        for worker in range(4):
            address.of(worker)
        address.keep(1)
        clients = [socket.create_connection(address.name) for _ in range(8)]
        for client in clients:
            address.of(0).accept()[0].close()
            client.close()
    finally:
        address.close()
