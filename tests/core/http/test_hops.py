"""Via: what is added, and which requests have been here before. Max-Forwards: how it is read, and what the
next hop gets."""

from __future__ import annotations

import time

import pytest

from gateway.core.errors import LoopDetected
from gateway.core.http.head import Head, read
from gateway.core.http.hops import Via, counted_down, hops_left, pseudonym, pseudonym_pattern

OWN = "gateway-3f9a"


def test_the_line_says_the_version_that_was_received() -> None:
    via = Via(OWN)
    assert via.request_lines == (b"Via: 1.1 gateway-3f9a\r\n", b"Via: 1.0 gateway-3f9a\r\n")
    assert via.response_lines == via.request_lines


def test_answers_may_go_without_it() -> None:
    via = Via(OWN, responses=False)
    assert not any(via.response_lines)
    assert all(via.request_lines)


@pytest.mark.parametrize(
    "values",
    [
        ["1.1 gateway-3f9a"],
        ["1.1 other", "1.1 gateway-3f9a"],
        ["1.0 fred, 1.1 gateway-3f9a, 1.1 wilma"],
        ["1.0 fred,1.1 gateway-3f9a"],
        ["HTTP/1.1 gateway-3f9a"],
        ["http/2 gateway-3f9a (a comment, with a comma)"],
        ["1.1 fred (a (nested, one) comment),  1.1\tGATEWAY-3F9A"],
        ["2 gateway-3f9a"],
    ],
)
def test_a_request_that_was_here_is_refused(values: list[str]) -> None:
    with pytest.raises(LoopDetected):
        Via(OWN).check(values)
    Via("gateway-another").check(values)


@pytest.mark.parametrize(
    "values",
    [
        ["1.1 gateway-3f9a.example"],
        ["1.1 my-gateway-3f9a"],
        ["1.1 gateway-3f9a1"],
        ["gateway-3f9a"],
        ["1.1 fred (1.1 gateway-3f9a)"],
        ["1.1 fred (a, 1.1 gateway-3f9a, b)"],
        ["1.1 fred (a, 1.1 gateway-3f9a"],
        [""],
        [",,"],
    ],
)
def test_another_name_or_a_comment_is_no_loop(values: list[str]) -> None:
    Via(OWN).check(values)


def test_a_pseudonym_is_taken_literally() -> None:
    Via("a.b").check(["1.1 axb"])
    with pytest.raises(LoopDetected):
        Via("a.b").check(["1.1 a.b"])


def test_a_request_may_come_back_as_often_as_it_is_allowed_to() -> None:
    via = Via(OWN, loops=2)
    via.check([f"1.1 {OWN}, 1.1 app, 1.1 {OWN}"])
    with pytest.raises(LoopDetected):
        via.check([f"1.1 {OWN}, 1.1 app", f"1.1 {OWN}", f"1.1 {OWN}"])


@pytest.mark.parametrize("piece", ["(", "(a", "1.1 ", "a/", ",", "1.1 x (", "()", "(" * 20 + ")" * 20, "\t"])
def test_a_long_line_costs_little(piece: str) -> None:
    value = piece * (8000 // len(piece))
    began = time.process_time()
    Via(OWN).check([value])
    assert time.process_time() - began < 5


def test_the_name_of_an_installation_is_its_own_and_tells_nothing_of_its_secret() -> None:
    names = {pseudonym(bytes([n]) * 32) for n in range(50)}
    assert len(names) == 50
    assert all(pseudonym_pattern(name) for name in names)
    assert pseudonym(b"a" * 32) == pseudonym(b"a" * 32)


# --- Max-Forwards ---


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
    assert hops_left(made) == hops
    if hops:
        lines = counted_down(made.block(), hops)
        assert lines == f"Max-Forwards: {passed_on}\r\nX-Max-Forwards: 7\r\n".encode()


def test_who_does_not_say_it_does_not_count() -> None:
    assert hops_left(head("Host: a", "X-Max-Forwards: 0")) is None
