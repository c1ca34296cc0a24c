"""What was revoked, in memory: asked of a credential when it is verified, and of all known ones after a
change."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.core.model import Identity
from gateway.core.revocations import Revoked


class Revocations:
    """The revocations of the store, as this process has them. until_of_key: when an identity of an API key
    ends, as its key is now."""

    def __init__(
        self, until_of_key: Callable[[Identity], float], now: Callable[[], float] = time.time
    ) -> None:
        self._until_of_key = until_of_key
        self._now = now
        self._revoked = Revoked()
        self._callbacks: list[Callable[[], None]] = []

    def take(self, revoked: Revoked) -> None:
        """These are in force from now on."""
        self._revoked = revoked

    def covers(self, identity: Identity) -> bool:
        """Whether a credential that was found good is to be refused (or looked at again, if it was found so
        before): it was revoked, or its API key was changed."""
        return self.expires(identity) != identity.expires

    def expires(self, identity: Identity) -> float:
        """When a credential ends (seconds since the epoch), as is known now: 0.0 when it was revoked, earlier
        than it says itself when its API key has got another secret."""
        if self._revoked.covers(identity, self._now()):
            return 0.0
        return self._until_of_key(identity) if identity.kind == "api_key" else identity.expires

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have it called after each change by which `covers` may have become true of more credentials."""
        self._callbacks.append(callback)

    def changed(self) -> None:
        """There was such a change."""
        for callback in self._callbacks:
            callback()
