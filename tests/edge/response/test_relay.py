"""A relay is one sink of a chain: others stand between it and the exchange, and neither knows of them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.call import Call, Snapshot
from gateway.core.errors import BackendReset, GatewayError
from gateway.core.http.head import Head
from gateway.core.http.hops import Via
from gateway.core.http.response_head import ResponseHead
from gateway.core.model import Address, Timeouts
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.exchange import Exchange, Sink
from gateway.edge.reading import ReadTurns
from gateway.edge.response.relay import Relay
from gateway.edge.spool import Spools
from tests.fakes import answer


class Copy:
    """A sink that keeps a copy of each response body that was whole, as a cache or a mirror would."""

    def __init__(self, following: Sink) -> None:
        self._following = following
        self._body = b""
        self.copies: list[bytes] = []

    def interim(self, head: ResponseHead) -> None:
        self._following.interim(head)

    def begin(self, head: ResponseHead) -> None:
        self._following.begin(head)

    def write(self, data: bytes) -> None:
        self._body += data
        self._following.write(data)

    def flush(self) -> None:
        self._following.flush()

    def end(self) -> None:
        self.copies.append(self._body)
        self._following.end()

    def fail(self, error: GatewayError) -> None:
        self._following.fail(error)


class Transport:
    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        raise OSError

    def abort(self) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Client:
    writing_paused = False
    fields = b""

    def __init__(self) -> None:
        self.transport = Transport()

    def attach(self, writer: object) -> None: ...
    def detach(self, writer: object) -> None: ...


class Observer:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def head_came(self, head: ResponseHead) -> None:
        self.heard.append(f"head {head.status}")

    def exchange_failed(self, error: GatewayError) -> bool:
        self.heard.append(f"failed {error.code}")
        return False

    def waits_for_client(self) -> None:
        self.heard.append("waits")

    def client_lost(self) -> None:
        self.heard.append("lost")

    def response_ended(self) -> None:
        self.heard.append("ended")


class Chain:
    """Exchange -> copy -> relay -> client."""

    def __init__(self) -> None:
        snapshot = cast(Snapshot, None)
        self.client, self.observer = Client(), Observer()
        self.call = Call("GET", "/", Head(), "", snapshot, client=cast(Any, self.client))
        self.relay = Relay(
            self.call,
            cast(Any, self.client),
            cast(Spools, None),
            self.observer,
            via=Via("gw", responses=False),
            threaded=False,
        )
        self.copy = Copy(self.relay)
        self.connection = Connection(Address("a", "127.0.0.1", 1), ReadTurns())
        self.connection.connection_made(cast(Any, Transport()))
        exchange = Exchange(self.connection, "GET", self.copy, Timeouts(), 0.0, lambda _, keep: None)
        self.relay.follow(exchange)
        exchange.send(b"GET / HTTP/1.1\r\n\r\n")


async def test_a_sink_between_the_exchange_and_the_relay_sees_all_that_passes() -> None:
    chain = Chain()
    for piece in (answer(b"hello")[:-2], b"lo"):
        chain.connection.data_received(piece)
    assert chain.client.transport.written.endswith(b"\r\n\r\nhello")
    assert chain.copy.copies == [b"hello"]
    assert chain.observer.heard == ["head 200", "ended"]
    assert chain.relay.error is None and chain.relay.begun


async def test_a_sink_between_them_passes_on_a_failure_and_keeps_no_part() -> None:
    chain = Chain()
    chain.connection.data_received(answer(b"hello")[:-2])
    chain.connection.connection_lost(None)
    assert chain.copy.copies == []
    assert isinstance(chain.relay.error, BackendReset)
    assert chain.observer.heard == ["head 200", "failed backend_reset", "ended"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_ends_the_response_and_then_the_observer_hears_of_it(begun: bool) -> None:
    chain = Chain()
    if begun:
        chain.connection.data_received(answer(b"hello")[:-2])
    chain.relay.client_lost()
    assert chain.call.status == (200 if begun else 499)
    assert chain.observer.heard[-2:] == ["ended", "lost"]
