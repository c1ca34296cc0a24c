"""Sessions of the console: a page gets one for a ticket, and holds it instead of its operator's credential.

A session stands for the credential that the ticket was asked with, and is never more: that is looked at again
with each request, so a session ends with it. Sessions and tickets are in memory, under their hashes, and end
with the process. A ticket is good for a minute, once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

from gateway.auth.operator_token import digest
from gateway.core.errors import Unauthenticated

PREFIX, TICKET_PREFIX = "gwcs_", "gwct_"
LIFE, IDLE, TICKET_LIFE = 12 * 3600.0, 2 * 3600.0, 60.0  # seconds
MOST = 100  # sessions; another one ends the one that was idle for longest
MOST_TICKETS = 100  # another one ends the oldest
MOST_OF_ONE = 20  # sessions of one credential, and tickets: it ends its own, and not those of others
_BYTES = 32
_GONE = "The ticket is not valid: it is good for a minute, once. Ask for a new one: gateway console."
_ENDED = "The session has ended. Sign in again: with gateway console, or a token."


@dataclass(slots=True)
class Session:
    """credential: that it stands for. until: when it ends at last, in seconds since the epoch."""

    credential: str = field(repr=False)
    until: float
    _ends: float  # on the monotonic clock
    _used: float

    def use(self, now: float) -> bool:
        """Whether it is one still."""
        if now >= self._ends or now - self._used >= IDLE:
            return False
        self._used = now
        return True


class Sessions:
    """All of them. now: the monotonic clock; wall: seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = monotonic, wall: Callable[[], float] = time) -> None:
        self._now = now
        self._wall = wall
        self._tickets: dict[bytes, tuple[str, float]] = {}  # the oldest first
        self._sessions: dict[bytes, Session] = {}  # the one that was idle for longest first

    def __len__(self) -> int:
        return len(self._sessions)

    def ticket(self, credential: str) -> str:
        """A new ticket for a session that stands for this credential."""
        own = [key for key, (of, _) in self._tickets.items() if of == credential]
        _make_room(self._tickets, own, MOST_TICKETS)
        text = TICKET_PREFIX + secrets.token_urlsafe(_BYTES)
        self._tickets[digest(text)] = credential, self._now() + TICKET_LIFE
        return text

    def begin(self, ticket: str) -> str:
        """A new session for a ticket, which is used up whatever comes of it. Raises Unauthenticated."""
        credential, good_until = self._tickets.pop(digest(ticket), ("", 0.0))
        now = self._now()
        if not credential or now >= good_until:
            raise Unauthenticated(_GONE)
        own = [key for key, one in self._sessions.items() if one.credential == credential]
        _make_room(self._sessions, own, MOST)
        text = PREFIX + secrets.token_urlsafe(_BYTES)
        self._sessions[digest(text)] = Session(credential, self._wall() + LIFE, now + LIFE, now)
        return text

    def use(self, text: str) -> Session:
        """The session. Raises Unauthenticated when it is none, or has ended."""
        key = digest(text)
        found = self._sessions.pop(key, None)
        if found is None or not found.use(self._now()):
            raise Unauthenticated(_ENDED)
        self._sessions[key] = found
        return found

    def end(self, text: str) -> None:
        """It has ended, if it was one."""
        self._sessions.pop(digest(text), None)


def _make_room(found: dict[bytes, Any], own: list[bytes], most: int) -> None:
    """For one more of a credential. own: the keys of those that it has, in their order."""
    if len(own) >= MOST_OF_ONE:
        del found[own[0]]
    elif len(found) >= most:
        del found[next(iter(found))]
