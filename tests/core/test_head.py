"""The head of a client's request: what is simple, and what its lines mean."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core import head as module
from gateway.core.head import MAX_HEAD, MAX_LINES, Head, from_pairs, parse_simple


def simple(*lines: str | bytes, first: str = "GET /a HTTP/1.1", host: str = "Host: a") -> Head | None:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in (first, host, *lines)]
    found = parse_simple(b"\r\n".join(line for line in encoded if line))
    return found[2] if found is not None else None


def head_of(*lines: str | bytes) -> Head:
    """As the long way sees it: from aiohttp's raw headers."""
    encoded = [line if isinstance(line, bytes) else line.encode() for line in ("Host: a", *lines)]
    pairs = [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in encoded)]
    return from_pairs(pairs)


# --- the request line ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY"])
@pytest.mark.parametrize(
    "target", ["/", "/a", "//a", "/a?b=c?d", "/%2F", "/a;b", '/"', "/~!$&'()*+,:@[]^`{|}\\<>"]
)
def test_a_simple_request_line(method: str, target: str) -> None:
    found = parse_simple(f"{method} {target} HTTP/1.1\r\nHost: a".encode())
    assert found is not None
    assert found[:2] == (method, target)
    assert (found[2].hosts, found[2].length) == (["a"], -1)


def test_a_head_that_repeats_the_last_one_s_lines_is_that_head_again() -> None:
    _, _, last = parse_simple(b"POST /a HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Length: 3") or pytest.fail()
    again = parse_simple(b"PUT /b HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Length: 3", last)
    assert again is not None
    assert again[:2] == ("PUT", "/b")
    assert again[2] is last


@pytest.mark.parametrize("lines", ["Host: a\r\nX-A: c", "Host: a\r\nX-A: bb", "Host: a", "Host: b\r\nX-A: b"])
def test_a_head_with_other_lines_is_another_head(lines: str) -> None:
    _, _, last = parse_simple(b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b") or pytest.fail()
    again = parse_simple(f"GET /a HTTP/1.1\r\n{lines}".encode(), last)
    assert again is not None
    assert again[2] is not last


def test_the_request_line_is_read_anew_whatever_the_lines_are() -> None:
    _, _, last = parse_simple(b"GET /a HTTP/1.1\r\nHost: a") or pytest.fail()
    for first in (b"GET /a HTTP/1.0", b"CONNECT a:1 HTTP/1.1", b"GET /a\rb HTTP/1.1", b""):
        assert parse_simple(first + b"\r\nHost: a", last) is None


@pytest.mark.parametrize(
    "first",
    ["", "GET", "GET /", "GET / HTTP/1.0", "GET / HTTP/2", "GET / HTTP/1.1 ", "GET  / HTTP/1.1",
     "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "get / HTTP/1.1", "GET / http/1.1",
     "GETS / HTTP/1.1", "OPTIONS / HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT a:1 HTTP/1.1",
     "TRACE / HTTP/1.1", "GET a HTTP/1.1", "GET * HTTP/1.1", "GET http://a/ HTTP/1.1", "GET /a b HTTP/1.1",
     "GET /#b HTTP/1.1", "GET /a\tb HTTP/1.1", "GET /\0 HTTP/1.1", "GET /\x7f HTTP/1.1", "GET /é HTTP/1.1",
     "GET /\nX HTTP/1.1", "GET /\rX HTTP/1.1", "GET / HTTP/1.1\n", "PRI * HTTP/2.0", "\nGET / HTTP/1.1",
     "GET / HTTP/1.1\r"],
)  # fmt: skip
def test_other_request_lines_are_not_simple(first: str) -> None:
    assert parse_simple(first.encode() + b"\r\nHost: a") is None


def test_an_empty_line_before_the_request_is_not_simple() -> None:
    assert parse_simple(b"\r\nGET / HTTP/1.1\r\nHost: a") is None


# --- the lines ---


@pytest.mark.parametrize(
    "line",
    ["A", "A : b", " A: b", "\tb", ": b", "A: b\rc", "A: b\nc", "A: \0", "A: \x7f", b"\xc3\xa9: b", "A B: c"],
)
def test_a_malformed_line_is_not_simple(line: str | bytes) -> None:
    assert simple(line) is None
    assert simple(line, "X: y") is None
    assert simple("X: y") is not None


@pytest.mark.parametrize("host", ["", "Host: a\r\nHost: a", "Host: a\r\nhost: b"])
def test_there_is_exactly_one_host(host: str) -> None:
    assert simple(host=host) is None


@pytest.mark.parametrize(
    "line",
    ["Transfer-Encoding: chunked", "transfer-encoding: identity", "Transfer-Encoding:", "Connection: close",
     "Connection: keep-alive, x-a", "Connection:", "Connection: upgrade", "Connection: Host",
     "Expect: 100-continue", "Upgrade: h2c", "Upgrade: websocket", "Trailer: a", "X-Request-Timeout: 1",
     "Proxy-Connection: close", "Access-Control-Request-Method: GET", "Sec-WebSocket-Key1: a",
     "X_Tenant: a", "a_b: c", b"A: \xff", b"A: \xc3", b"A: \xed\xa0\x80",
     "Connection: \N{KELVIN SIGN}eep-alive", "Transfer-Encoding: chun\N{KELVIN SIGN}ed"],
)  # fmt: skip
def test_what_needs_a_second_look_is_not_simple(line: str | bytes) -> None:
    assert simple(line) is None


@pytest.mark.parametrize("name", ["Content-Type", "Content-Location", "Content-Range", "ETag", "Max-Forwards",
                                  "Server", "User-Agent"])  # fmt: skip
def test_what_may_be_there_once_is_not_simple_when_it_is_there_twice(name: str) -> None:
    once = simple(f"{name}: a")
    assert once is not None
    assert once.block() == f"{name}: a\r\n".encode()
    assert simple(f"{name}: a", f"{name.lower()}: a") is None


@pytest.mark.parametrize("name", ["Accept", "Cookie", "X-Anything"])
def test_other_lines_may_be_repeated_and_keep_their_order(name: str) -> None:
    head = simple(f"{name}: b", "B: c", f"{name}: a")
    assert head is not None
    assert head.block() == f"{name}: b\r\nB: c\r\n{name}: a\r\n".encode()


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive", "KEEP-ALIVE", " keep-alive\t"])
def test_keep_alive_is_simple(value: str) -> None:
    head = simple(f"Connection: {value}")
    assert head is not None
    assert (head.block(), head.listed) == (b"", frozenset())


def test_the_number_and_the_size_of_lines_are_bounded() -> None:
    assert simple(*["A: b"] * (MAX_LINES - 1)) is not None
    assert simple(*["A: b"] * MAX_LINES) is None
    room = MAX_HEAD - len("GET /a HTTP/1.1\r\nHost: a\r\nA: ")
    assert simple("A: " + "b" * room) is not None
    assert simple("A: " + "b" * (room + 1)) is None


# --- the length ---


@pytest.mark.parametrize(
    ("value", "length"),
    [("0", 0), ("5", 5), (" 5 ", 5), ("\t5\t", 5), ("007", 7), ("0" * 40 + "5", 5), ("9" * 15, 10**15 - 1)],
)
def test_a_length_is_digits(value: str, length: int) -> None:
    head = simple(f"Content-Length:{value}")
    assert head is not None
    assert head.length == length
    assert head.block() == b"", "the gateway says it itself"
    assert head_of(f"Content-Length:{value}").length == length


@pytest.mark.parametrize(
    "value",
    ["", "+5", "-5", "5, 5", "5,5", "5 5", "0x5", "5.0", "1_0", "5;", "\N{ARABIC-INDIC DIGIT FIVE}",
     "\N{SUPERSCRIPT TWO}", "9" * 16, "9" * 19, "9" * 20, "1" + "0" * 5000, "a"],
)  # fmt: skip
def test_no_other_length_is_simple_and_none_of_them_counts_as_small(value: str) -> None:
    assert simple(f"Content-Length: {value}") is None
    assert head_of(f"Content-Length: {value}").length >= 10**15


@pytest.mark.parametrize("second", ["5", "6"])
def test_two_lengths_are_not_simple(second: str) -> None:
    assert simple("Content-Length: 5", f"Content-Length: {second}") is None


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
def test_what_the_policies_ask_for_is_found_both_ways(lines: list[str], field: str, expected: Any) -> None:
    head = simple(*lines)
    assert head is not None
    assert getattr(head, field) == getattr(head_of(*lines), field) == expected


@pytest.mark.parametrize(
    ("lines", "field", "expected"),
    [
        (["Expect: 100-Continue"], "expect", "100-Continue"),
        (["X-Request-Timeout: 2", "X-Request-Timeout: 3"], "timeouts", ["2", "3"]),
        (["Access-Control-Request-Method: PUT"], "asked", "PUT"),
        (["Transfer-Encoding: Chunked"], "codings", ["chunked"]),
        (["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], "codings", ["gzip", "chunked"]),
        (["Upgrade: WebSocket"], "upgrades", ["websocket"]),
        (["Connection: close, X-A ,, keep-alive"], "listed", {"x-a"}),
        (["Connection: X-A", "Connection: x-b"], "listed", {"x-a", "x-b"}),
        (["Connection: Host, Content-Length, Content-Type, Upgrade"], "listed", set()),
        (["X_Tenant: a"], "ambiguous", "x_tenant"),
        ([b"A: \xff"], "ambiguous", "a"),
        (["Transfer-Encoding: chun\N{KELVIN SIGN}ed"], "codings", []),
        (["Transfer-Encoding: chun\N{KELVIN SIGN}ed"], "ambiguous", "transfer-encoding"),
        (["A: b"], "ambiguous", ""),
    ],
)
def test_what_the_long_way_finds(lines: list[str | bytes], field: str, expected: Any) -> None:
    assert getattr(head_of(*lines), field) == expected


def test_a_line_that_is_none_is_ambiguous_on_the_long_way() -> None:
    assert from_pairs([(b"A", b"b\0")]).ambiguous
    assert from_pairs([(b"A", b"b\r\nC: d")]).ambiguous
    assert from_pairs([(b"A: b\r\nC", b"d")]).ambiguous


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
    head = simple(f"{name}: hunter2")
    assert head is not None
    assert "hunter2" in str(head.authorization) or b"hunter2" in head.block()
    assert "hunter2" not in repr(module._lines._known)


def test_a_line_means_the_same_for_whoever_says_it_first() -> None:
    """Both ways share the memory: what one has learned, the other reads as it would have itself."""
    variants = ["Connection:close", "CONNECTION: close", "Host:b", "X-Tenant:b", "Content-Length:5", "A:b"]
    for first, second in ((head_of, simple), (simple, head_of)):
        module._lines._known.clear()
        fresh = {line: facts(second(line)) for line in variants}
        module._lines._known.clear()
        for line in variants:
            first(line)
        assert {line: facts(second(line)) for line in variants} == fresh


def facts(head: Head | None) -> Any:
    return head and [getattr(head, name) for name in Head.__slots__]


def test_heads_share_nothing_that_changes() -> None:
    one, two = simple("X-Tenant: a", "Origin: b"), simple("X-Tenant: a", "Origin: b")
    assert one is not None
    assert two is not None
    for name in Head.__slots__:
        if isinstance(getattr(one, name), list):
            assert getattr(one, name) is not getattr(two, name)
