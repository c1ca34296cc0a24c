"""Max-Forwards: how it is read, and what the next hop gets."""

from __future__ import annotations

import pytest

from gateway.core.http import max_forwards
from gateway.core.http.head import Head, read


def head(*lines: str) -> Head:
    return read("".join(f"\r\n{line}" for line in lines).encode())


@pytest.mark.parametrize(
    ("value", "hops", "passed_on"),
    [
        ("0", 0, None),
        ("000", 0, None),
        ("1", 1, "0"),
        ("10", 10, "9"),
        ("012", 12, "11"),
        ("2147483648", 2**31, "2147483647"),
        ("9999999999", 9_999_999_999, "2147483647"),
        ("9" * 21, 2**31 - 1, "2147483646"),
        ("9" * 5000, 2**31 - 1, "2147483646"),
        ("", None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("1, 2", None, None),
        ("\u0663", None, None),
    ],
)
def test_it_is_counted_down(value: str, hops: int | None, passed_on: str | None) -> None:
    made = head("Host: a", f"MAX-forwards: {value}", "X-Max-Forwards: 7")
    assert max_forwards.hops(made) == hops
    if hops:
        lines = max_forwards.counted_down(made.block(), hops)
        assert lines == f"Max-Forwards: {passed_on}\r\nX-Max-Forwards: 7\r\n".encode()


def test_who_does_not_say_it_does_not_count() -> None:
    assert max_forwards.hops(head("Host: a", "X-Max-Forwards: 0")) is None
