"""What may be used once on a host, whichever of its workers has it: in the master, and asked for by them."""

from __future__ import annotations

from gateway.core.shared.ports import Away
from gateway.runtime.channel import Channel, ChannelError

PUT, TAKE = "once put", "once take"  # the handlers


class MasterOnce:
    """auth.oauth.once.Once. channel: to the master."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def put(self, key: str, value: str, seconds: float) -> bool:
        """See the port."""
        try:
            return bool(await self._channel.ask(PUT, [key, value, seconds]))
        except ChannelError as error:
            raise Away(f"the master: {error}") from None

    async def take(self, key: str) -> str | None:
        """See the port."""
        try:
            found: str | None = await self._channel.ask(TAKE, key)
        except ChannelError as error:
            raise Away(f"the master: {error}") from None
        return found
