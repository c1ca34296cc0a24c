"""Max-Forwards (RFC 9110 section 7.6.2): how many more intermediaries an OPTIONS may pass.

Who follows a request from hop to hop sends it with 0, 1, 2 and so on; each intermediary counts it down, and
at 0 it is the recipient. (TRACE, the other method that it is for, ends here always.)
"""

from __future__ import annotations

import re

from gateway.core.http.head import Head

_MOST = 2**31 - 1  # the largest number that is passed on
_line = re.compile(rb"^max-forwards:.*\r\n", re.IGNORECASE | re.MULTILINE)
_number = re.compile(r"0*+([0-9]*+)", re.ASCII).fullmatch


def hops(head: Head) -> int | None:
    """How many more hops the request may make. None when it does not say, or not in digits."""
    if "max-forwards" not in head.once:
        return None
    value = head.values(b"max-forwards")[0]
    found = _number(value)
    if not value or found is None:
        return None
    return int(found[1] or 0) if len(found[1]) <= 10 else _MOST


def counted_down(lines: bytes, left: int) -> bytes:
    """The header lines for the next hop. left: the hops that the request may make, at least 1."""
    return _line.sub(b"Max-Forwards: %d\r\n" % min(left - 1, _MOST), lines)
