"""How long a call may take, when its client says so; and how long the body of its request may."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.errors import BadRequest
from gateway.core.model import Timeouts

_seconds = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,9})?", re.ASCII).fullmatch  # float() reads more
_MOST = 86400.0
BODY_GRACE = 10.0  # seconds that a body may be waited for before its rate counts


def shortened(timeouts: Timeouts, wanted: Sequence[str]) -> Timeouts:
    """The route's time-outs, shortened to what the client wants at most. wanted: the values of its
    X-Request-Timeout headers, seconds. Raises BadRequest."""
    if not wanted:
        return timeouts
    seconds = float(wanted[0]) if len(wanted) == 1 and _seconds(wanted[0]) else 0.0
    if not 0 < seconds <= _MOST:
        raise BadRequest("X-Request-Timeout must be one number of seconds, at most 86400, such as 2.5.")
    return replace(
        timeouts,
        queue=min(timeouts.queue, seconds),
        connect=min(timeouts.connect, seconds),
        first_byte=min(timeouts.first_byte, seconds),
        total=min(timeouts.total or seconds, seconds),
    )


class BodyAllowance:
    """How long a body may still keep us waiting. left: seconds, for the next bytes.

    A leaky bucket: it begins with BODY_GRACE, each byte adds the time that it may take at `rate` bytes a
    second, waiting uses it up, and it holds `patience` seconds at most. So a body that stands still is given
    up after `patience`, one that drips when its grace is used up, and no fast beginning pays for a drip
    without end. Only the time in which the next bytes are waited for counts: a client that is held back by
    us (a backend that takes no more, a disk) is not slow. rate: 0 leaves the patience alone.
    """

    __slots__ = ("_patience", "_rate", "left")

    def __init__(self, patience: float, rate: int) -> None:
        self._patience = patience
        self._rate = rate
        self.left = min(patience, BODY_GRACE) if rate else patience

    def came(self, size: int, waited: float) -> None:
        """So many bytes came after waiting for so many seconds."""
        if self._rate:
            self.left = min(self._patience, max(0.0, self.left - waited) + size / self._rate)

    def too_slow(self) -> str:
        """The detail for the client when `left` has passed without a byte."""
        if self.left >= self._patience:
            return f"No byte of the body came for {self._patience:g} s."
        return f"The body came at less than {self._rate} bytes a second for longer than {BODY_GRACE:g} s."
