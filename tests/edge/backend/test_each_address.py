"""Names that stand for several servers: each is an address of its own, and what leaves the name's list is let
go without a request being lost."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Address, Backend, BackendTls
from gateway.core.routing.backends.each import each_address
from gateway.edge.backend.pool import Pools
from gateway.edge.backend.resolver import FRESH, Names
from tests import harness
from tests.edge.backend.test_resolver import Clock, Server, listening
from tests.eventually import END, eventually
from tests.fakes import Backend as FakeBackend
from tests.fakes import Heard, RawClient, answer


def backend(*addresses: Address) -> Backend:
    return Backend("b", "http", addresses, resolve_each=True)


def test_each_address_of_a_name_is_one_and_a_name_that_is_not_known_stands_for_one() -> None:
    app = Address("http://app:80", "app", 80, weight=3.0)
    unix, literal = Address("unix:a", path="/a"), Address("http://10.0.0.9:80", "10.0.0.9", 80)
    known = {"app": ("10.0.0.2", "10.0.0.1", "10.0.0.9")}
    made = each_address(backend(app, unix, literal), lambda host: known.get(host, ()))
    assert [(one.text, one.host, one.weight) for one in made.addresses] == [
        ("http://app:80 (10.0.0.1)", "10.0.0.1", 3.0),
        ("http://app:80 (10.0.0.2)", "10.0.0.2", 3.0),
        ("http://app:80 (10.0.0.9)", "10.0.0.9", 3.0),  # and not again as the literal: it has threads once
        ("unix:a", "", 1.0),
    ]
    assert each_address(backend(app), lambda host: ()).addresses == (app,)
    # Name servers tell them in another order each time: nothing has changed then.
    turned = {"app": tuple(reversed(known["app"]))}
    assert each_address(backend(app, unix, literal), lambda host: turned.get(host, ())) == made


def test_a_server_with_an_address_of_each_family_counts_once() -> None:
    app = Address("http://app:80", "app", 80)
    made = each_address(backend(app), lambda host: ("fd00::1", "10.0.0.1", "fd00::2"))
    assert [one.host for one in made.addresses] == ["fd00::1", "fd00::2"]


def test_the_certificate_is_that_of_the_name_whatever_address_it_has() -> None:
    for written, checked in (("", "app"), ("shop.example", "shop.example")):
        app = Address("https://app:443", "app", 443, tls=BackendTls(server_name=written))
        (one,) = each_address(backend(app), lambda host: ("10.0.0.1",)).addresses
        assert one.tls == BackendTls(server_name=checked)


async def test_an_address_is_gone_when_two_results_in_a_row_lack_it() -> None:
    """Of many, some name servers tell a few at a time, in turn."""
    server, clock = Server(many=("10.0.0.1", "10.0.0.2")), Clock()
    names = Names(server, clock)
    told: list[frozenset[str]] = []
    names.when_resolved(lambda host, gone: told.append(gone))
    names.keep({"many": FRESH})
    assert names.known("many") == ()
    await eventually(lambda: len(told) == 1)
    for found, known, gone in (
        (("10.0.0.3",), {"10.0.0.1", "10.0.0.2", "10.0.0.3"}, set()),
        (("10.0.0.1",), {"10.0.0.1", "10.0.0.3"}, {"10.0.0.2"}),
        (("10.0.0.1",), {"10.0.0.1"}, {"10.0.0.3"}),
    ):
        server.addresses["many"] = found
        clock.now += FRESH
        number = len(told)
        names.refresh()
        await eventually(lambda number=number: len(told) > number)
        assert (set(names.known("many")), told[-1]) == (known, gone)


async def test_the_interval_of_the_config_says_when_a_name_is_resolved_again() -> None:
    server, clock = Server(a=("10.0.0.1",)), Clock()
    names = Names(server, clock)
    names.keep({"a": 60.0})
    await names.find("a")
    clock.now += 59.0
    names.refresh()
    assert server.asked == ["a"]
    clock.now += 1.0
    names.refresh()
    await eventually(lambda: server.asked == ["a", "a"])


async def test_a_connection_to_an_address_that_is_gone_finishes_and_is_not_used_again() -> None:
    """A busy connection is never dialled anew: without this it would lead to the old server for ever."""
    server, clock = Server(), Clock()
    with listening("127.0.0.2") as port, listening("127.0.0.3", port):
        server.addresses["app"] = ("127.0.0.2",)
        pools = Pools(Names(server, clock))
        address = Address("http://app", "app", port)
        pools.reconcile([(address, 60.0)])
        pool = pools.of(address, 60.0)
        idle, used = await pool.connect(END), await pool.connect(END)
        pool.give_back(idle, reusable=True)
        server.addresses["app"] = ("127.0.0.3",)
        for number in (2, 3):
            clock.now += FRESH
            await pools.follow()
            await eventually(lambda number=number: len(server.asked) == number)
            await eventually(lambda: pools.names.known("app")[0] == "127.0.0.3")
        await eventually(lambda: idle.lost)
        assert used.transport is not None and not used.transport.is_closing()
        pool.give_back(used, reusable=True)
        assert used.transport.is_closing() and pool.take(fresh=False) is None
        new = await pool.connect(END)
        assert new.peer == "127.0.0.3"
        new.abort()
        pools.close()


async def test_each_server_of_a_name_gets_requests_has_a_circuit_and_may_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = ["127.0.0.2", "127.0.0.3"]

    real = socket.getaddrinfo

    def lookup(host: str, *rest: Any, **more: Any) -> Any:
        if host != "app.example":
            return real(host, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in hosts]

    asked: Counter[str] = Counter()

    def serves(name: str) -> Any:
        async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked[name] += 1
            writer.write(answer(name.encode()))

        return script

    async with FakeBackend(serves("one"), host="127.0.0.2") as one:
        port = int(one.address.rpartition(":")[2])
        async with FakeBackend(serves("two"), host="127.0.0.3", port=port) as two:
            monkeypatch.setattr(socket, "getaddrinfo", lookup)
            app = {
                "kind": "http",
                "addresses": [f"http://app.example:{port}"],
                "resolve": {"each": True, "interval": "50ms"},
            }
            routes = [harness.route("svc", "app", public=True)]
            async with harness.running(tmp_path, harness.routing(routes, backends={"app": app})) as gateway:

                def addresses() -> list[str]:
                    (state,) = gateway.health.states()
                    return [one["address"] for one in state["addresses"]]

                text = f"http://app.example:{port} (127.0.0.{{}})"
                await eventually(lambda: addresses() == [text.format(2), text.format(3)])
                client = await RawClient.connect(harness.address(gateway))
                for _ in range(40):
                    client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert "200" in (await client.answer())[0]
                assert asked["one"] and asked["two"]
                hosts[:] = ["127.0.0.3"]
                await eventually(lambda: addresses() == [text.format(3)])
                asked.clear()
                for _ in range(20):
                    client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert "200" in (await client.answer())[0]
                assert asked == {"two": 20}
                client.close()
            assert two.connections
