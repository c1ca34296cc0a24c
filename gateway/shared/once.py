"""What may be used once on a host, whichever of its workers has it: in the master, and asked for by them."""

from __future__ import annotations

from gateway.runtime.channel import Channel
from gateway.shared.master import ask

PUT, TAKE = "once put", "once take"  # the handlers


class MasterOnce:
    """auth.oauth.once.Once. channel: to the master."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def put(self, key: str, value: str, seconds: float) -> bool:
        """See the port."""
        return bool(await ask(self._channel, PUT, [key, value, seconds]))

    async def take(self, key: str) -> str | None:
        """See the port."""
        found: str | None = await ask(self._channel, TAKE, key)
        return found
