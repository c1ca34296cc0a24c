"""Connections are taken a few at a time, all of them at the end, and not in a circle without descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, cast

import pytest

from gateway.core.process.listeners import Listen
from gateway.edge.client.acceptor import Acceptor
from gateway.edge.client.slots import UNLIMITED, ConnectionSlots
from gateway.edge.client.sockets import bind, listen
from tests.eventually import eventually, head_start


class Said(asyncio.Protocol):
    """Keeps what each client said."""

    def __init__(self, heard: list[bytes]) -> None:
        self._heard = heard

    def data_received(self, data: bytes) -> None:
        self._heard.append(data)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_what_the_kernel_had_accepted_is_served_and_who_comes_later_is_refused(host: str) -> None:
    listening = socket.create_server((host, 0), backlog=100)
    listening.setblocking(False)
    address = ("127.0.0.1", listening.getsockname()[1])
    heard: list[bytes] = []
    slots = ConnectionSlots(UNLIMITED, (), "x", lambda: 0)
    acceptor = Acceptor(listening, lambda *client: Said(heard), slots, 1)
    acceptor.start()
    clients = [socket.create_connection(address) for _ in range(50)]  # the loop does not turn meanwhile
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    await acceptor.stop()
    await eventually(lambda: sorted(map(int, heard)) == list(range(50)))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    for client in clients:
        client.close()


async def test_a_socket_that_one_process_has_left_takes_clients_for_the_next_one() -> None:
    bound = bind(Listen("127.0.0.1"))
    listen(bound, "")
    next_one = bound._replace(sock=bound.sock.dup())
    slots = ConnectionSlots(UNLIMITED, (), "x", lambda: 0)
    acceptor = Acceptor(bound.sock, lambda *client: asyncio.Protocol(), slots, 1)
    acceptor.start()
    await acceptor.stop()
    listen(next_one, "")
    with next_one.sock, socket.create_connection(next_one.bound.address, timeout=60):
        next_one.sock.accept()[0].close()


async def test_a_turn_of_the_loop_takes_no_more_than_its_part() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    listening.setblocking(False)
    taken = 0

    class Counting(ConnectionSlots):
        def admit(self) -> bool:
            nonlocal taken
            taken += 1
            return False

    slots = Counting(UNLIMITED, (), "x", lambda: 0)
    acceptor = Acceptor(listening, lambda *client: asyncio.Protocol(), slots, 3)
    acceptor.start()
    clients = [socket.create_connection(listening.getsockname()) for _ in range(10)]
    before = 0
    while taken < 10:
        await asyncio.sleep(0)
        assert taken - before <= 3
        before = taken
    await acceptor.stop()
    for client in clients:
        client.close()


class Full:
    """A listening socket of a process without a descriptor left, until there is one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.tries = 0
        self.full = True

    def accept(self) -> Any:
        self.tries += 1
        if self.full:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_without_descriptors_it_waits_between_two_tries(caplog: pytest.LogCaptureFixture) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    full = Full(listening)
    made: list[bytes] = []
    slots = ConnectionSlots(UNLIMITED, (), "x", lambda: 0)
    acceptor = Acceptor(cast(Any, full), lambda *client: Said(made), slots, 8)
    acceptor.start()
    client = socket.create_connection(listening.getsockname())
    client.sendall(b"1")
    await eventually(lambda: full.tries > 0)
    turns = 0
    while full.tries < 3:
        await head_start(0.001)
        turns += 1
    assert turns > full.tries  # the socket was readable in each of those turns
    full.full = False
    await eventually(lambda: made == [b"1"])
    assert caplog.text.count("no new connection can be taken") == 1
    await acceptor.stop()
    client.close()
