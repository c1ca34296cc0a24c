"""The drain: what the gateway waits for when it stops, what it ends, and what it logs meanwhile.

Requests may take the whole `time`. Streams and WebSockets, which have no end of their own, may continue for
`grace` and are then ended as their protocol provides; what has not ended soon after that is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from time import monotonic

from gateway.call import Call
from gateway.core.errors import BackendTimeout, Draining

L = logging.getLogger("gateway.drain")
ENDING = 1.0  # seconds for streams to end: the rest of an event, a close frame
_INTERVAL = 1.0  # seconds between two reports
_SETTLED = 0.2  # seconds for which a state has to last to be reported
_CUTTING = 0.3  # seconds for the last error responses to be sent


class Drain:
    """One drain.

    calls: a live view of the calls under way. ended: gets those that did not end by themselves. end_streams:
    asks WebSockets and change feeds to end. time, grace: seconds. now: a monotonic clock, in seconds.
    report(text): tells what is waited for.
    """

    def __init__(
        self,
        calls: Collection[Call],
        ended: set[Call],
        end_streams: Callable[[], None],
        *,
        time: float,
        grace: float,
        now: Callable[[], float] = monotonic,
        report: Callable[[str], None] = lambda text: L.info("%s", text),
    ) -> None:
        self._calls = calls
        self._ended = ended
        self._end_streams = end_streams
        self._now = now
        self._report = report
        self._began = self._state_since = now()
        self._state = ""
        self._time = time
        self._grace = min(grace, time)
        self._reported = ""
        self._report_at = self._began + _SETTLED
        self._streams_ended = self._cut = False

    def step(self, connections: int) -> bool:
        """End what is due and report what is waited for. To be called some times a second. Returns False when
        the time is over. connections: those of clients that are still open."""
        passed = self._now() - self._began
        streams = [call for call in self._calls if is_endless(call)]
        if passed >= self._grace:
            self._end(streams, late=passed >= self._grace + ENDING)
        if passed >= self._time and not self._cut:
            self._cut = True
            self._cut_requests()
        left = sum(map(is_endless, self._calls))  # counted again: many of them have just ended
        requests = len(self._calls) - left
        limit = self._time if requests or not left else min(self._time, self._grace + ENDING)
        self._report_state(waiting_for(requests, left, connections), max(0.0, limit - passed))
        return passed < self._time + _CUTTING

    def _end(self, streams: list[Call], *, late: bool) -> None:
        if not self._streams_ended:
            self._streams_ended = True
            self._end_streams()
        for call in streams:
            self._ended.add(call)
            call.code = Draining.code
            writer = call.client.writer if call.client is not None else None
            if writer is not None:
                writer.cut() if late else writer.leave_off()

    def _cut_requests(self) -> None:
        left = list(self._calls)
        if left:
            L.warning("the time to drain is over: %s cut", _counted(len(left), "request is", "requests are"))
        for call in left:
            self._ended.add(call)
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

    def _report_state(self, state: str, left: float) -> None:
        now = self._now()
        if state != self._state:
            self._state, self._state_since = state, now
        # As a rule it changes at once, so a new state has to last before it is reported.
        is_new = now - self._state_since < _SETTLED and now < self._report_at + _INTERVAL
        if state == self._reported or now < self._report_at or is_new:
            return
        self._reported, self._report_at = state, now + _INTERVAL
        self._report(f"waiting for {state}, at most {left:.0f} s; Ctrl-C or SIGTERM again ends it now")


def is_endless(call: Call) -> bool:
    """Whether the call has no end of its own: an event stream, a WebSocket."""
    writer = call.client.writer if call.client is not None else None
    return writer is not None and writer.endless


def waiting_for(requests: int, streams: int, connections: int) -> str:
    """Text such as `3 requests and 1 stream`; connections are named when only their last bytes are left."""
    parts = [_counted(requests, "request", "requests")] if requests else []
    parts += [_counted(streams, "stream", "streams")] if streams else []
    return " and ".join(parts) or f"the last bytes of {_counted(connections, 'connection', 'connections')}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
