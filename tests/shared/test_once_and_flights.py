"""What one process of a host does for all of its workers: a ticket is good at each of them and once, and an
issuer is asked by one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from gateway.auth.oauth.tickets import Tickets
from gateway.call import Call
from gateway.core.errors import Unauthenticated
from gateway.core.http.head import Head
from gateway.core.model import Route
from gateway.core.shared.once import OnceBook
from gateway.core.shared.ports import Away
from gateway.edge.backend.origin import TIMEOUT, OriginError
from gateway.runtime.channel import Channel
from gateway.shared.flights import BOARD, LANDED, Flights, Outcome, SharedFlights
from tests.eventually import eventually


class Shared:
    """auth.oauth.once.Once, with a book in the test."""

    def __init__(self) -> None:
        self.book = OnceBook()
        self.now = 0.0
        self.away = False
        self.seen: list[str] = []

    async def put(self, key: str, value: str, seconds: float) -> bool:
        if self.away:
            raise Away("it is away")
        self.seen.append(key + value)
        return self.book.put(key, value, seconds, self.now)

    async def take(self, key: str) -> str | None:
        if self.away:
            raise Away("it is away")
        return self.book.take(key, self.now)


def call(path: str = "/events") -> Call:
    made = Call("GET", path, Head(), "", None)  # type: ignore[arg-type]
    made.route = Route("r", "/events", "t", None)  # type: ignore[assignment,arg-type]
    made.path = path
    return made


async def given(tickets: Tickets) -> str:
    ticket = tickets.give("the.very.token", "acme", "r", "/events")
    await tickets.share(ticket)
    return ticket


async def test_a_ticket_is_good_at_another_process_and_once() -> None:
    shared = Shared()
    one, other = Tickets(once=shared), Tickets(once=shared)
    ticket = await given(one)
    assert other.try_redeem(ticket, call()) is None
    assert await other.redeem(ticket, call()) == "the.very.token"
    for tickets in (one, other):
        assert tickets.try_redeem(ticket, call()) is None
        with pytest.raises(Unauthenticated):
            await tickets.redeem(ticket, call())


async def test_where_a_ticket_is_kept_neither_it_nor_its_token_can_be_read() -> None:
    shared = Shared()
    ticket = await given(Tickets(once=shared))
    assert ticket not in shared.seen[0]
    assert ticket.removeprefix("gwt_") not in shared.seen[0]
    assert "token" not in shared.seen[0]


async def test_a_ticket_on_another_path_is_refused_and_used_up() -> None:
    shared = Shared()
    one, other = Tickets(once=shared), Tickets(once=shared)
    ticket = await given(one)
    with pytest.raises(Unauthenticated, match="another path"):
        await other.redeem(ticket, call("/else"))
    with pytest.raises(Unauthenticated):
        await other.redeem(ticket, call())


async def test_while_what_is_shared_is_away_a_ticket_is_good_where_it_was_given() -> None:
    shared = Shared()
    shared.away = True
    one, other = Tickets(once=shared), Tickets(once=shared)
    ticket = await given(one)
    with pytest.raises(Unauthenticated):
        await other.redeem(ticket, call())
    assert one.try_redeem(ticket, call()) == "the.very.token"


def test_what_is_kept_once_has_its_end() -> None:
    book = OnceBook()
    assert book.put("a", "x", 30.0, 0.0)
    assert book.put("b", "y", 400.0, 0.0)
    assert not book.put("a", "z", 400.0, 29.0)
    assert book.take("a", 30.0) is None
    assert book.put("a", "z", 30.0, 30.0)
    assert book.take("b", 31.0) == "y"
    assert len(book) == 1


class Asked:
    """An issuer. answers: when it is let."""

    def __init__(self) -> None:
        self.times = 0
        self.let = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self) -> Any:
        self.times += 1
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return ["answer", self.times]


@asynccontextmanager
async def workers(number: int, now: list[float]) -> AsyncIterator[tuple[list[str], list[Channel]]]:
    """Who has asked the flights of the master, one after the other, and channels of so many workers."""
    flights = Flights(lambda: now[0])
    boarded: list[str] = []

    async def board(name: str, body: tuple[str, float]) -> Outcome | None:
        boarded.append(name)
        return await flights.board(name, body)

    channels: list[Channel] = []
    ends: list[Channel] = []
    for name in map(str, range(number)):
        one, other = socket.socketpair()
        handlers = {BOARD: partial(board, name), LANDED: partial(flights.landed, name)}
        ends.append(await Channel.open(one, handlers, partial(flights.gone, name)))
        channels.append(await Channel.open(other, {}))
    try:
        yield boarded, channels
    finally:
        for channel in (*channels, *ends):
            await channel.close()


async def test_one_worker_asks_and_the_others_have_its_answer() -> None:
    now = [0.0]
    async with workers(3, now) as (_, channels):
        issuer = Asked()
        asking = [asyncio.create_task(SharedFlights(one).share("k", 5.0, issuer.ask)) for one in channels]
        while not issuer.times:
            await asyncio.sleep(0)
        issuer.let.set()
        assert await asyncio.gather(*asking) == [["answer", 1]] * 3
        now[0] = 4.0
        assert await SharedFlights(channels[1]).share("k", 5.0, issuer.ask) == ["answer", 1]
        assert await SharedFlights(channels[0]).share("k", 0.0, issuer.ask) == ["answer", 2]
        await SharedFlights(channels[0]).share("another", 0.0, issuer.ask)  # behind what the master was told
        now[0] = 10.0
        assert await SharedFlights(channels[1]).share("k", 5.0, issuer.ask) == ["answer", 4]


async def test_a_failure_is_told_to_those_that_wait_and_not_kept() -> None:
    async with workers(2, [0.0]) as (_, channels):
        issuer = Asked()
        issuer.error = OriginError("it is away")
        asking = [asyncio.create_task(SharedFlights(one).share("k", 5.0, issuer.ask)) for one in channels]
        while not issuer.times:
            await asyncio.sleep(0)
        issuer.let.set()
        failed = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(error) for error in failed] == ["it is away"] * 2
        issuer.error = None
        assert await SharedFlights(channels[0]).share("k", 5.0, issuer.ask) == ["answer", issuer.times]


async def test_when_the_worker_that_asks_ends_another_one_asks() -> None:
    async with workers(3, [0.0]) as (boarded, channels):
        issuer, dead = Asked(), Asked()
        lost = asyncio.create_task(SharedFlights(channels[0]).share("k", 5.0, dead.ask))
        while not dead.times:
            await asyncio.sleep(0)
        asking = [asyncio.create_task(SharedFlights(one).share("k", 5.0, issuer.ask)) for one in channels[1:]]
        await eventually(lambda: len(boarded) == 3)
        await channels[0].close()
        issuer.let.set()
        assert await asyncio.gather(*asking) == [["answer", 1]] * 2
        lost.cancel()


async def test_a_question_that_was_given_up_is_asked_by_another_one_and_is_no_failure() -> None:
    async with workers(3, [0.0]) as (boarded, channels):
        issuer, given_up = Asked(), Asked()
        first = asyncio.create_task(SharedFlights(channels[0]).share("k", 5.0, given_up.ask))
        await eventually(lambda: given_up.times)
        asking = [asyncio.create_task(SharedFlights(one).share("k", 5.0, issuer.ask)) for one in channels[1:]]
        await eventually(lambda: len(boarded) == 3)
        first.cancel()
        issuer.let.set()
        assert await asyncio.gather(*asking) == [["answer", 1]] * 2


async def test_who_is_cancelled_before_it_knows_that_it_is_to_ask_keeps_nobody_waiting() -> None:
    async with workers(2, [0.0]) as (_, channels):
        issuer = Asked()
        issuer.let.set()
        first = asyncio.create_task(SharedFlights(channels[0]).share("k", 5.0, issuer.ask))
        await asyncio.sleep(0)  # it has asked the master, and cannot have its answer
        first.cancel()
        assert await SharedFlights(channels[1]).share("k", 5.0, issuer.ask) == ["answer", 1]


async def test_who_does_not_say_what_came_of_a_question_is_not_waited_for_for_ever() -> None:
    now = [0.0]
    flights = Flights(lambda: now[0])
    assert await flights.board("a", ("k", 5.0)) is None
    now[0] = 2 * TIMEOUT + 1
    assert await flights.board("b", ("k", 5.0)) is None
    flights.landed("a", ("k", "late", ""))
    flights.landed("b", ("k", "answer", ""))
    assert await flights.board("c", ("k", 5.0)) == ("answer", "")


async def test_without_its_master_a_worker_asks_itself() -> None:
    async with workers(1, [0.0]) as (_, channels):
        issuer = Asked()
        issuer.let.set()
        await channels[0].close()
        assert await SharedFlights(channels[0]).share("k", 5.0, issuer.ask) == ["answer", 1]
