"""Names are looked up each on its own; what was known goes on to be used, and every address is tried."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import BackendUnavailable
from gateway.core.model import Address
from gateway.edge.backend import resolver
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.dial import dial
from gateway.edge.backend.faults import NameUnresolved, NothingListens
from gateway.edge.backend.pool import Pools
from gateway.edge.backend.resolver import FAILED, FRESH, STALE, Names, Unresolved
from gateway.edge.reading import ReadTurns
from tests import harness
from tests.edge.client.test_order import echo
from tests.eventually import END, eventually, head_start
from tests.fakes import Backend, RawClient


class Server:
    """A name server whose answers wait until it is let go. asked: the names, in their order."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.let_go = threading.Event()

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host in self.silent:
            assert self.let_go.wait(END)
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses[host]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(a=("127.0.0.1",), b=("127.0.0.2",))
    yield made
    made.let_go.set()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo", "::ffff:10.0.0.1"])
async def test_an_address_is_nobodys_to_look_up(server: Server, host: str) -> None:
    assert await Names(server).find(host) == (host,)
    assert server.asked == []


async def test_a_name_whose_server_is_silent_keeps_no_other_from_its_answer(server: Server) -> None:
    server.silent = {f"slow{number}" for number in range(100)}
    names = Names(server)
    before = threading.active_count()
    waiting = [asyncio.create_task(names.find(name)) for name in sorted(server.silent) * 3]
    await eventually(lambda: len(server.asked) == 100)
    assert await names.find("a") == ("127.0.0.1",)
    assert threading.active_count() <= before + 101  # one for each name, however many wait for it
    server.let_go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {Unresolved}


async def test_an_answer_is_used_while_it_is_asked_for_again_also_when_that_fails(server: Server) -> None:
    clock = Clock()
    names = Names(server, clock)
    assert await names.find("a") == ("127.0.0.1",)
    clock.now += FRESH - 0.1
    assert await names.find("a") == ("127.0.0.1",)
    assert server.asked == ["a"]
    clock.now += 0.2
    server.addresses["a"] = ("127.0.0.9",)
    assert await names.find("a") == ("127.0.0.1",)  # at once
    await eventually(lambda: names._names["a"].addresses == ("127.0.0.9",))
    del server.addresses["a"]
    clock.now += STALE - 1
    assert await names.find("a") == ("127.0.0.9",)
    clock.now += 1
    with pytest.raises(Unresolved):
        await names.find("a")


async def test_a_failure_is_an_answer_for_a_moment(server: Server) -> None:
    clock = Clock()
    names = Names(server, clock)
    for _ in range(3):
        with pytest.raises(Unresolved, match="Name or service not known"):
            await names.find("nobody")
    assert server.asked == ["nobody"]
    clock.now += FAILED + 0.1
    server.addresses["nobody"] = ("127.0.0.3",)
    assert await names.find("nobody") == ("127.0.0.3",)


async def test_who_waits_no_longer_leaves_the_answer_to_the_others(server: Server) -> None:
    server.silent = {"a"}
    names = Names(server)
    first, second = (asyncio.create_task(names.find("a")) for _ in range(2))
    await eventually(lambda: server.asked == ["a"])
    first.cancel()
    server.let_go.set()
    assert await second == ("127.0.0.1",)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_names_that_no_backend_has_any_more_are_forgotten(server: Server) -> None:
    names = Names(server)
    await names.find("a")
    pools = Pools(names)
    pools.reconcile([(Address("http://b:1", "b", 1), 2.0)])
    assert not names._names


def test_the_hosts_file_needs_no_server_and_localhost_is_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a server is asked")

    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.5 App.internal app # a comment\nfd00::5\tapp\njunk app\n\n127.0.0.1 #localhost")
    monkeypatch.setattr(resolver, "_HOSTS", hosts)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    assert resolver.lookup("APP") == ("10.0.0.5", "fd00::5")
    assert resolver.lookup("app.internal.") == ("10.0.0.5",)
    for name in ("localhost", "LOCALHOST.", "x.localhost"):
        assert resolver.lookup(name) == ("127.0.0.1", "::1")
    hosts.write_text("127.0.0.7 localhost\n")
    assert resolver.lookup("localhost") == ("127.0.0.7",)


# --- connecting --------------------------------------------------------------------------------------


@contextmanager
def listening(host: str, port: int = 0, refused: tuple[str, ...] = ()) -> Iterator[int]:
    """What the kernel accepts for it is enough. refused: addresses that have the port and do not accept."""
    with ExitStack() as stack:
        for _ in range(100):
            server = stack.enter_context(socket.create_server((host, port)))
            found = server.getsockname()[1]
            try:
                for other in refused:
                    stack.enter_context(socket.socket()).bind((other, found))
            except OSError:  # somebody has that port on another address
                stack.close()
                continue
            break
        yield found


async def test_every_address_of_a_name_is_tried_and_the_one_that_took_is_the_first_of_the_next_time(
    server: Server,
) -> None:
    with listening("127.0.0.3", refused=("127.0.0.1", "127.0.0.2")) as port:
        server.addresses["many"] = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        names = Names(server)
        address = Address("x", "many", port)
        connection = await dial(address, names, lambda: Connection(address, ReadTurns()), END)
        assert connection.transport is not None
        assert connection.transport.get_extra_info("peername")[0] == "127.0.0.3"
        assert (await names.find("many"))[0] == "127.0.0.3"
        connection.abort()


async def test_an_address_that_keeps_silent_holds_up_no_other_and_its_late_connection_is_closed(
    server: Server,
) -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    filling = [socket.socket() for _ in range(4)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))  # the kernel drops what comes to a full backlog
    with listening("127.0.0.2", port):
        server.addresses["many"] = ("127.0.0.1", "127.0.0.2")
        address = Address("x", "many", port)
        connection = await dial(address, Names(server), lambda: Connection(address, ReadTurns()), END)
        assert connection.transport is not None
        assert connection.transport.get_extra_info("peername")[0] == "127.0.0.2"
        connection.abort()
    for sock in (full, *filling):
        sock.close()


async def test_all_that_refuse_are_one_refusal_and_a_name_without_an_address_is_told_apart(
    server: Server,
) -> None:
    with listening("127.0.0.3") as port:
        pass
    server.addresses["many"] = ("127.0.0.1", "127.0.0.2")
    names = Names(server)
    for host, kind in (("many", NothingListens), ("nobody", NameUnresolved)):
        address = Address("x", host, port)
        with pytest.raises(BackendUnavailable) as raised:
            await dial(address, names, lambda address=address: Connection(address, ReadTurns()), END)  # type: ignore[misc]
        assert type(raised.value) is kind


async def test_a_silent_name_server_is_told_within_the_time_to_connect(server: Server) -> None:
    server.silent = {"a"}
    address = Address("x", "a", 1)
    with pytest.raises(NameUnresolved, match="not resolved in time"):
        await dial(address, Names(server), lambda: Connection(address, ReadTurns()), 0.05)


async def test_a_backend_whose_name_is_not_resolved_costs_one_at_localhost_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They shared the resolver's threads, and so the circuit of the healthy one opened too."""
    real = socket.getaddrinfo

    def slow(host: str, *arguments: Any, **more: Any) -> Any:
        return server(host) if host == "slow.example" else real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server.silent = {"slow.example"}
    async with Backend(echo) as backend:
        port = int(backend.address.rpartition(":")[2])
        routes = [harness.route("slow", "slow", public=True, timeouts={"connect": "0.05s"})]
        routes += [harness.route("svc", "svc", public=True)]
        backends = {
            "slow": {"kind": "http", "addresses": ["http://slow.example:81"]},
            "svc": {"kind": "http", "addresses": [f"http://localhost:{port}"]},
        }
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
            hung = []
            for _ in range(40):
                client = await RawClient.connect(harness.address(gateway))
                client.send(b"GET /slow/x HTTP/1.1\r\nHost: a\r\n\r\n")
                hung.append(client)
            await head_start(0.1)
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.head()).startswith("HTTP/1.1 200")
            for one in hung:
                assert (await one.head()).startswith("HTTP/1.1 503")
                one.close()
            states = {each["name"]: each["healthy"] for each in gateway.health.each_state()}
            assert states == {"slow": False, "svc": True}
            client.close()
    assert server.asked == ["slow.example"]
