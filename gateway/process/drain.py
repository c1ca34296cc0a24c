"""The drain: what the gateway waits for when it is told to stop, what it ends, and what it says meanwhile.

Requests may take the whole `time`. Streams and WebSockets, which have no end of their own, go on for `grace`
and are then ended in a way that their clients understand; what is not over soon after that is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from time import monotonic

from gateway.call import Call
from gateway.core.errors import BackendTimeout, Draining

L = logging.getLogger("gateway.drain")
ENDING = 1.0  # seconds that streams may take to end once they were told: the rest of an event, a close frame
_AGAIN = 1.0  # seconds between two things said
_QUIET = 0.2  # seconds that it has to last, to be worth saying
_CUTTING = 0.3  # seconds that the last errors have to leave


class Drain:
    """One drain. calls: those that have begun and not ended, live. end_streams: tell WebSockets and change
    feeds to end. time, grace: seconds. ended: the calls that did not end by themselves."""

    def __init__(
        self,
        calls: Collection[Call],
        end_streams: Callable[[], None],
        *,
        time: float,
        grace: float,
        now: Callable[[], float] = monotonic,
        say: Callable[[str], None] = lambda text: L.info("%s", text),
    ) -> None:
        self._calls = calls
        self._end_streams = end_streams
        self._now = now
        self._say = say
        self._began = self._seen_at = now()
        self._seen = ""
        self._time = time
        self._grace = min(grace, time)
        self._said = ""
        self._say_at = self._began + _QUIET
        self._told = self._cut = False
        self.ended: set[Call] = set()

    def goes_on(self, connections: int) -> bool:
        """Look at what is left, some times a second: end what is due, say what is waited for. False when the
        time is over. connections: those of clients that are still open."""
        passed = self._now() - self._began
        streams = [call for call in self._calls if endless(call)]
        if passed >= self._grace:
            self._end(streams, late=passed >= self._grace + ENDING)
        if passed >= self._time and not self._cut:
            self._cut = True
            self._cut_requests()
        left = sum(map(endless, self._calls))  # counted again: many of them have just ended
        requests = len(self._calls) - left
        limit = self._time if requests or not left else min(self._time, self._grace + ENDING)
        self._tell(waiting_for(requests, left, connections), max(0.0, limit - passed))
        return passed < self._time + _CUTTING

    def _end(self, streams: list[Call], *, late: bool) -> None:
        if not self._told:
            self._told = True
            self._end_streams()
        for call in streams:
            self.ended.add(call)
            call.code = Draining.code
            writer = call.client.writer if call.client is not None else None
            if writer is not None:
                writer.cut() if late else writer.leave_off()

    def _cut_requests(self) -> None:
        left = list(self._calls)
        if left:
            L.warning("the time to drain is over: %s cut", _counted(len(left), "request is", "requests are"))
        for call in left:
            self.ended.add(call)
            call.code = Draining.code
            client = call.client
            if client is None:
                continue
            if client.writer is None:
                client.cancel_call()
            elif client.writer.begun:
                client.writer.cut()
            else:
                detail = "The gateway is shutting down, and the backend did not answer in time."
                client.writer.give_up(BackendTimeout(detail, close=True))

    def _tell(self, what: str, left: float) -> None:
        now = self._now()
        if what != self._seen:
            self._seen, self._seen_at = what, now
        passes = now - self._seen_at < _QUIET and now < self._say_at + _AGAIN  # as a rule it does at once
        if what == self._said or now < self._say_at or passes:
            return
        self._said, self._say_at = what, now + _AGAIN
        self._say(f"waiting for {what}, at most {left:.0f} s; Ctrl-C or SIGTERM again ends it now")


def endless(call: Call) -> bool:
    """Whether the call has no end of its own: an event stream, a WebSocket."""
    writer = call.client.writer if call.client is not None else None
    return writer is not None and writer.endless


def waiting_for(requests: int, streams: int, connections: int) -> str:
    """`3 requests and 1 stream`; connections are named when nothing else is left: their last bytes."""
    parts = [_counted(requests, "request", "requests")] if requests else []
    parts += [_counted(streams, "stream", "streams")] if streams else []
    return " and ".join(parts) or f"the last bytes of {_counted(connections, 'connection', 'connections')}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
