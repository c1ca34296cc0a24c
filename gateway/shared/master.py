"""The books in the master of a host: a worker asks it over its channel."""

from __future__ import annotations

from typing import Any

from gateway.core.shared.ports import Away, Body
from gateway.runtime.channel import Channel, ChannelError

NAME = "exchange"  # of the handler
_WAIT = 1.0  # seconds


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
