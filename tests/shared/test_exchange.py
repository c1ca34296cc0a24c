"""The exchange: one at a time, nothing while idle; who waits has an answer that began after it asked."""

from __future__ import annotations

import asyncio

from gateway.core.shared.ports import Away, Body
from gateway.shared.exchange import Exchange
from gateway.shared.master import Books


class Engine:
    """Answers when it is let; counts."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Body]] = []
        self.away = ""
        self.let = asyncio.Event()
        self.let.set()

    async def exchange(self, reports: dict[str, Body]) -> dict[str, Body]:
        self.asked.append(reports)
        await self.let.wait()
        if self.away:
            raise Away(self.away)
        return {"one": {"granted": len(self.asked)}}


class One:
    name = "one"

    def __init__(self) -> None:
        self.tells: Body | None = {"used": 1}
        self.grants: list[Body] = []
        self.times_lost = 0
        self.next: float | None = None

    def report(self, now: float) -> Body | None:
        return self.tells

    def granted(self, grant: Body, now: float) -> None:
        self.grants.append(grant)

    def lost(self, now: float) -> None:
        self.times_lost += 1

    def due(self, now: float) -> float | None:
        return self.next


async def test_nothing_is_exchanged_while_nothing_is_in_use_but_a_last_time() -> None:
    engine, part = Engine(), One()
    exchange = Exchange(engine)
    exchange.add(part)
    exchange.start()
    for _ in range(20):
        await asyncio.sleep(0)
    assert engine.asked == []
    await exchange.stop()
    assert len(engine.asked) == 1


async def test_who_waits_hears_of_an_exchange_that_began_after_it_asked() -> None:
    engine, part = Engine(), One()
    exchange = Exchange(engine)
    exchange.add(part)
    exchange.start()
    engine.let.clear()
    first = exchange.wait()
    while not engine.asked:
        await asyncio.sleep(0)
    second = exchange.wait()
    engine.let.set()
    await first
    await second
    assert len(engine.asked) == 2
    await exchange.stop()


async def test_a_report_without_an_answer_is_lost_and_the_next_one_is_made_anew() -> None:
    engine, part = Engine(), One()
    exchange = Exchange(engine)
    exchange.add(part)
    engine.away = "it is restarted"
    await exchange.once()
    assert (part.times_lost, part.grants, exchange.away) == (1, [], "it is restarted")
    engine.away = ""
    await exchange.once()
    assert (part.times_lost, part.grants, exchange.away) == (1, [{"granted": 2}], "")


async def test_a_part_that_has_nothing_to_tell_is_not_asked() -> None:
    engine, part = Engine(), One()
    exchange = Exchange(engine)
    exchange.add(part)
    part.tells = None
    await exchange.once()
    assert engine.asked == []


async def test_what_is_in_use_is_told_again_without_being_asked_for() -> None:
    engine, part = Engine(), One()
    part.next = 0.0
    exchange = Exchange(engine)
    exchange.add(part)
    exchange.start()
    while len(engine.asked) < 3:
        await asyncio.sleep(0)
    await exchange.stop()


def test_a_report_of_a_part_that_has_no_book_has_no_grant() -> None:
    assert Books({}).settle("a", {"unknown": {}}) == {}
