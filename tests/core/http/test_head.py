"""The header lines of a client's request: which are refused, and what the others mean."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import BadRequest, HeadersTooLarge
from gateway.core.http import head as module
from gateway.core.http.head import MAX_LINES, Head, read


def head_of(*lines: str | bytes) -> Head:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return read(b"".join(b"\r\n" + line for line in encoded))


# --- the lines ---


@pytest.mark.parametrize(
    "line",
    ["A", "A : b", " A: b", "\tb", ": b", "A: b\rc", "A: b\nc", "A: \0", "A: \x7f", b"\xc3\xa9: b", "A B: c"],
)
def test_a_malformed_line_is_refused(line: str | bytes) -> None:
    for lines in ([line], [line, "X: y"], ["X: y", line]):
        with pytest.raises(BadRequest):
            head_of(*lines)


@pytest.mark.parametrize("line", ["X_Tenant: a", "a_b: c", b"A: \xff", b"A: \xc3", b"A: \xed\xa0\x80",
                                  "Connection: \N{KELVIN SIGN}eep-alive", "Sec-WebSocket-Key1: a",
                                  b"Content-Length: \x803",
                                  "Transfer-Encoding: chun\N{KELVIN SIGN}ed"])  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(line: str | bytes) -> None:
    """Also where it is said how the body ends: one of both ways has none."""
    with pytest.raises(BadRequest):
        head_of("A: b", line)


@pytest.mark.parametrize("name", ["Content-Type", "Content-Location", "Content-Range", "ETag", "Max-Forwards",
                                  "Server", "User-Agent"])  # fmt: skip
def test_what_has_one_value_is_refused_when_it_is_there_twice(name: str) -> None:
    assert head_of(f"{name}: a").block() == f"{name}: a\r\n".encode()
    with pytest.raises(BadRequest):
        head_of(f"{name}: a", f"{name.lower()}: a")


@pytest.mark.parametrize("name", ["Accept", "Cookie", "X-Anything"])
def test_other_lines_may_be_repeated_and_keep_their_order(name: str) -> None:
    head = head_of(f"{name}: b", "B: c", f"{name}: a")
    assert head.block() == f"{name}: b\r\nB: c\r\n{name}: a\r\n".encode()


def test_the_number_of_lines_is_bounded() -> None:
    assert len(head_of(*["A: b"] * MAX_LINES).lines) == MAX_LINES
    with pytest.raises(HeadersTooLarge):
        head_of(*["A: b"] * (MAX_LINES + 1))


# --- the length ---


@pytest.mark.parametrize(
    ("value", "length"),
    [("0", 0), ("5", 5), (" 5 ", 5), ("\t5\t", 5), ("007", 7), ("0" * 19 + "5", 5), ("9" * 15, 10**15 - 1)],
)
def test_a_length_is_digits(value: str, length: int) -> None:
    head = head_of(f"Content-Length:{value}")
    assert head.length == length
    assert head.block() == b"", "the gateway says it itself"


@pytest.mark.parametrize("value", ["9" * 16, "9" * 19, "9" * 20])
def test_a_large_length_is_above_every_limit(value: str) -> None:
    assert head_of(f"Content-Length: {value}").length >= 10**15


@pytest.mark.parametrize(
    "value",
    ["", "+5", "-5", "5, 5", "5,5", "5 5", "0x5", "5.0", "1_0", "5;", "\N{ARABIC-INDIC DIGIT FIVE}",
     "\N{SUPERSCRIPT TWO}", "a", "9" * 20 + "a", "9" * 21,
     "1" + "0" * 5000, "0" * 20 + "5"],
)  # fmt: skip
def test_any_other_length_is_refused(value: str) -> None:
    with pytest.raises(BadRequest):
        head_of(f"Content-Length: {value}")


@pytest.mark.parametrize("second", ["5", "6"])
def test_two_lengths_are_refused(second: str) -> None:
    with pytest.raises(BadRequest):
        head_of("Content-Length: 5", f"Content-Length: {second}")


# --- what lines mean ---


@pytest.mark.parametrize(
    ("lines", "field", "expected"),
    [
        (["Authorization: Bearer a"], "authorization", ["Bearer a"]),
        (["authorization:a", "Authorization: b"], "authorization", ["a", "b"]),
        (["X-Tenant: acme", "x-tenant: b"], "tenants", ["acme", "b"]),
        (["Origin: http://a"], "origins", ["http://a"]),
        (["X-Forwarded-For: 1", "X-Forwarded-Proto: https", "x-forwarded-for: 2"], "forwarded",
         [("x-forwarded-for", "1"), ("x-forwarded-proto", "https"), ("x-forwarded-for", "2")]),
    ],
)  # fmt: skip
def test_what_the_policies_ask_for_is_found(lines: list[str], field: str, expected: Any) -> None:
    assert getattr(head_of(*lines), field) == expected


@pytest.mark.parametrize(
    ("lines", "field", "expected"),
    [
        (["Expect: 100-Continue"], "expect", {"100-continue"}),
        (["Expect: 100-continue", "Expect: x"], "expect", {"100-continue", "x"}),
        (["Expect: 100-continue, ,", "Expect:"], "expect", {"100-continue"}),
        (["Expect:"], "expect", frozenset()),
        (["Connection: close, Keep-Alive"], "connection", {"close", "keep-alive"}),
        (["X-Request-Timeout: 2", "X-Request-Timeout: 3"], "timeouts", ["2", "3"]),
        (["Access-Control-Request-Method: PUT"], "asked", "PUT"),
        (["Transfer-Encoding: Chunked"], "codings", ["chunked"]),
        (["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], "codings", ["gzip", "chunked"]),
        (["Upgrade: WebSocket"], "upgrades", ["websocket"]),
        (["Connection: close, X-A ,, keep-alive"], "listed", {"x-a"}),
        (["Connection: X-A", "Connection: x-b"], "listed", {"x-a", "x-b"}),
        (["Connection: Host, Content-Length, Content-Type, Upgrade"], "listed", set()),
    ],
)
def test_what_decides_how_a_request_goes_on_is_found(
    lines: list[str | bytes], field: str, expected: Any
) -> None:
    assert getattr(head_of(*lines), field) == expected


@pytest.mark.parametrize(
    "name",
    ["Host", "Authorization", "Content-Length", "X-Tenant", "X-Subject", "X-Scopes", "X-Request-ID",
     "X-Request-Start", "X-Request-Deadline", "X-Forwarded-For", "X-Forwarded-Host",
     "X-Forwarded-Anything", "Forwarded",
     "X-Real-IP", "X-Original-URL", "Keep-Alive", "TE", "Proxy-Authorization", "Proxy-Connection",
     "Connection", "Transfer-Encoding", "Upgrade", "Trailer", "Expect", "X-Request-Timeout"],
)  # fmt: skip
def test_no_backend_sees_what_is_the_hops_or_ours(name: str) -> None:
    for written in (name, name.lower(), name.upper()):
        assert head_of(f"{written}: 1", "A: b").block() == b"A: b\r\n"


@pytest.mark.parametrize("listed", ["X-A", "x-a", "close, X-A", "X-A, X-Tenant"])
def test_no_backend_sees_what_connection_lists(listed: str) -> None:
    head = head_of("X-A: 1", "X-Ab: 2", f"Connection: {listed}", "x-a: 3", "Content-Type: a")
    assert head.block() == b"X-Ab: 2\r\nContent-Type: a\r\n"


def test_what_connection_lists_without_effect_passes() -> None:
    head = head_of("Content-Type: a", "Connection: content-type, content-length, close, host")
    assert head.block() == b"Content-Type: a\r\n"


# --- the memory ---


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Api-Key"])
def test_secrets_are_read_and_not_remembered(name: str) -> None:
    head = head_of(f"{name}: hunter2")
    assert "hunter2" in str(head.authorization) or b"hunter2" in head.block()
    assert "hunter2" not in repr(module._lines._known)


def test_a_line_means_the_same_the_second_time() -> None:
    lines = ["Connection:close", "Host:b", "X-Tenant:b", "Content-Length:5", "A:b", "Expect: c", "ETag: d"]
    module._lines._known.clear()
    first, again = head_of(*lines), head_of(*lines)
    assert [getattr(first, name) for name in Head.__slots__] == [
        getattr(again, name) for name in Head.__slots__
    ]


def test_heads_share_nothing_that_changes() -> None:
    one, two = head_of("X-Tenant: a", "Origin: b"), head_of("X-Tenant: a", "Origin: b")
    for name in Head.__slots__:
        if isinstance(getattr(one, name), list):
            assert getattr(one, name) is not getattr(two, name)


def test_an_api_key_of_ours_is_kept_from_the_backend_and_another_is_not() -> None:
    ours, other = "X-API-Key: gw_7Kq0ZmP3xA_secret", "X-Api-Key: the-backends-own"
    head = head_of(ours, other, "Accept: */*")
    assert head.api_keys == ["gw_7Kq0ZmP3xA_secret"]
    assert head.lines == [b"X-Api-Key: the-backends-own\r\n", b"Accept: */*\r\n"]
