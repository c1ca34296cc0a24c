"""How long a call may take, when its client says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.errors import BadRequest
from gateway.core.model import Timeouts

_seconds = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,9})?", re.ASCII).fullmatch  # float() reads more
_MOST = 86400.0


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
