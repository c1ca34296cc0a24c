"""The books in the master of a host: what it keeps, and how a worker asks it over its channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from gateway.core.shared.ports import Away, Body, Book
from gateway.runtime.channel import Channel, ChannelError

NAME = "exchange"  # of the handler
_WAIT = 1.0  # seconds


class Books:
    """All books of one process, by the name of their part. Pure but for the clock."""

    def __init__(self, books: Mapping[str, Book], now: Callable[[], float] = monotonic) -> None:
        self._books = dict(books)
        self._now = now

    def settle(self, member: str, reports: Mapping[str, Body]) -> dict[str, Body]:
        """The grants for the reports of a member. Raises ValueError for what is no report."""
        now, books = self._now(), self._books
        return {
            name: books[name].exchange(member, body, now) for name, body in reports.items() if name in books
        }

    def gone(self, member: str) -> None:
        """A member has ended."""
        now = self._now()
        for book in self._books.values():
            book.gone(member, now)


class MasterEngine:
    """An Engine (shared/exchange.py). channel: to the master."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def exchange(self, reports: dict[str, Body]) -> dict[str, Body]:
        """See Engine."""
        grants: dict[str, Body] = await ask(self._channel, NAME, reports, _WAIT)
        return grants


async def ask(channel: Channel, *question: Any) -> Any:
    """Channel.ask of the master. Raises Away."""
    try:
        return await channel.ask(*question)
    except ChannelError as error:
        raise Away(f"the master: {error}") from None
