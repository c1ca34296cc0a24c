"""The head of a backend's answer: its framing, what passes of it, and the memory of heads."""

from __future__ import annotations

import pytest

from gateway.core.errors import BackendMalformed
from gateway.core.http import response_head
from gateway.core.http.response_head import ResponseHead, parse


def head_of(
    *lines: str | bytes, status: str = "200 OK", method: str = "GET", version: str = "1.1"
) -> ResponseHead:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return parse(b"\r\n".join([f"HTTP/{version} {status}".encode(), *encoded]), method)


# --- the status line ---


@pytest.mark.parametrize(
    ("line", "status", "out"),
    [
        (b"HTTP/1.1 200 OK", 200, b"HTTP/1.1 200 OK\r\n"),
        (b"HTTP/1.0 200 OK", 200, b"HTTP/1.1 200 OK\r\n"),
        (b"HTTP/1.1 200 ", 200, b"HTTP/1.1 200 \r\n"),
        (b"HTTP/1.1 200", 200, b"HTTP/1.1 200 \r\n"),
        (b"HTTP/1.1 404 Not\tFound \xc3\xa9", 404, b"HTTP/1.1 404 Not\tFound \xc3\xa9\r\n"),
        (b"HTTP/1.1 999 x", 999, b"HTTP/1.1 999 x\r\n"),
    ],
)
def test_a_status_line(line: bytes, status: int, out: bytes) -> None:
    for _ in range(2):
        head = parse(line + b"\r\nContent-Length: 0", "GET")
        assert (head.status, head.status_line) == (status, out)


@pytest.mark.parametrize(
    "line",
    [b"", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 2000", b"HTTP/1.1 099 x", b"HTTP/1.1 -20 x",
     b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"http/1.1 200 OK", b"HTTP/1.2 200 OK", b"HTTP/2 200 OK",
     b"HTTP/2.0 200 OK", b"HTTP/01.1 200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r",
     b"HTTP/1.1 200 O\nK", b"HTTP/1.1 200 \0", b"ICY 200 OK", b"HTTP/1.1 200 OK\nContent-Length: 0",
     b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"<html>", b"HTTP/1.1 200\x0bOK"],
)  # fmt: skip
def test_other_status_lines_are_malformed(line: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BackendMalformed, match="status line"):
            parse(line + b"\r\nContent-Length: 0", "GET")


# --- the framing: (length, chunked, close, bodyless) ---

FRAMINGS = [
    ("GET", "1.1", "200 OK", ["Content-Length: 5"], (5, False, False, False)),
    ("GET", "1.1", "200 OK", ["content-length:0"], (0, False, False, False)),
    ("GET", "1.1", "200 OK", ["Content-Length: \t7 \t"], (7, False, False, False)),
    ("GET", "1.1", "200 OK", ["Transfer-Encoding: chunked"], (-1, True, False, False)),
    ("GET", "1.1", "200 OK", ["transfer-encoding:  Chunked "], (-1, True, False, False)),
    ("GET", "1.1", "200 OK", [], (-1, False, True, False)),
    ("GET", "1.1", "200 OK", ["Connection: keep-alive"], (-1, False, True, False)),
    ("GET", "1.1", "200 OK", ["Content-Length: 5", "Connection: close"], (5, False, True, False)),
    ("GET", "1.1", "200 OK", ["Content-Length: 5", "Connection: a, CLOSE"], (5, False, True, False)),
    (
        "GET",
        "1.1",
        "200 OK",
        ["Content-Length: 5", "Connection: a", "Connection: close"],
        (5, False, True, False),
    ),
    ("GET", "1.1", "200 OK", ["Content-Length: 5", "Connection: closed"], (5, False, False, False)),
    ("GET", "1.0", "200 OK", ["Content-Length: 5"], (5, False, True, False)),
    ("GET", "1.0", "200 OK", ["Content-Length: 5", "Connection: Keep-Alive"], (5, False, False, False)),
    ("GET", "1.0", "200 OK", ["Connection: keep-alive"], (-1, False, True, False)),
    ("HEAD", "1.1", "200 OK", ["Content-Length: 5"], (5, False, False, True)),
    ("HEAD", "1.1", "200 OK", ["Transfer-Encoding: chunked"], (-1, True, False, True)),
    ("HEAD", "1.1", "200 OK", [], (-1, False, False, True)),
    ("GET", "1.1", "204 No Content", [], (-1, False, False, True)),
    ("GET", "1.1", "204 No Content", ["Content-Length: 0"], (0, False, False, True)),
    ("GET", "1.1", "204 No Content", ["Content-Length: 5"], (5, False, True, True)),
    ("GET", "1.1", "204 No Content", ["Transfer-Encoding: chunked"], (-1, True, True, True)),
    ("GET", "1.1", "304 Not Modified", ["Content-Length: 5"], (5, False, False, True)),
    ("GET", "1.1", "304 Not Modified", ["Transfer-Encoding: chunked"], (-1, True, False, True)),
    ("GET", "1.1", "205 Reset Content", ["Content-Length: 0"], (0, False, False, False)),
    ("GET", "1.1", "100 Continue", [], (-1, False, False, True)),
    ("GET", "1.1", "103 Early Hints", ["Link: a"], (-1, False, False, True)),
]


@pytest.mark.parametrize(("method", "version", "status", "lines", "expected"), FRAMINGS)
def test_the_framing_of_an_answer(
    method: str, version: str, status: str, lines: list[str], expected: tuple[int, bool, bool, bool]
) -> None:
    for _ in range(2):  # the second one is remembered
        head = head_of(*lines, status=status, method=method, version=version)
        assert (head.length, head.chunked, head.close, head.bodyless) == expected


@pytest.mark.parametrize(
    "lines",
    [
        *([f"Content-Length: {value}"] for value in
          ("", "+5", "-5", "5, 5", "5,5", "5 5", "0x5", "5.", "1_0", "5;", "five", "9" * 19, "0" * 19,
        "\u0665")), ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        *([f"Transfer-Encoding: {value}"] for value in
          ("", "identity", "gzip", "gzip, chunked", "chunked, chunked", "chunked, gzip", "chunked;a",
           "xchunked", "chunked ,", '"chunked"', "chun\N{KELVIN SIGN}ed", "chunked\x0b")),
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding : chunked"],
        ["Content-Length : 5"],
        ["X: a\nTransfer-Encoding: chunked"],
        ["X: a\rTransfer-Encoding: chunked"],
        [" folded"],
        ["A: b", "\tfolded"],
        ["A: \0"],
        [""],
        ["no colon"],
        [b"\xc3\xa9: b"],
        ["A: b"] * 129,
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
def test_any_other_framing_or_line_is_malformed_whoever_asked(
    lines: list[str | bytes], method: str, status: str
) -> None:
    for _ in range(2):
        with pytest.raises(BackendMalformed):
            head_of(*lines, method=method, status=status)


def test_an_answer_of_http_1_0_is_never_chunked() -> None:
    with pytest.raises(BackendMalformed):
        head_of("Transfer-Encoding: chunked", version="1.0")


def test_a_head_is_as_good_for_head_as_for_get_but_not_the_same() -> None:
    get, head = head_of("Content-Length: 5"), head_of("Content-Length: 5", method="HEAD")
    assert (get.bodyless, head.bodyless) == (False, True)
    assert head_of("Content-Length: 5") is get


# --- what passes ---


def test_what_is_the_hops_does_not_pass_and_the_rest_does_in_order_and_unchanged() -> None:
    head = head_of(
        "B: 1", "Connection: X-Hop, close", "a:2", "X-HOP: 3", "Keep-Alive: 4", "TE: a", "Trailer: b",
        "Upgrade: c", "Proxy-Authenticate: d", "Proxy-Connection: e", "X-Request-ID: f",
        "Content-Length: 5", "B: 6", b"C: \xff \t", "Set-Cookie: g=h", "Set-Cookie: i=j",
    )  # fmt: skip
    assert head.lines == b"B: 1\r\na:2\r\nB: 6\r\nC: \xff \t\r\nSet-Cookie: g=h\r\nSet-Cookie: i=j\r\n"


def test_a_426_says_to_what_and_no_other_answer_does() -> None:
    """RFC 9110 sections 7.8 and 15.5.22."""
    said = ("Connection: close, Upgrade", "Upgrade: websocket", "A: 1", "Upgrade: h2c", "Content-Length: 0")
    refused = head_of(*said, status="426 Upgrade Required")
    assert refused.lines == b"A: 1\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n"
    assert refused.close
    assert head_of(*said).lines == b"A: 1\r\n"
    assert head_of("A: 1", "Content-Length: 0", status="426 Upgrade Required").lines == b"A: 1\r\n"


def test_a_connection_cannot_take_away_what_says_what_the_body_is() -> None:
    head = head_of("Content-Type: a", "Connection: content-type, content-length", "Content-Length: 5")
    assert (head.lines, head.length) == (b"Content-Type: a\r\n", 5)


@pytest.mark.parametrize(("name", "field"), [("Date", "dated"), ("Server", "served")])
def test_a_line_that_connection_takes_away_does_not_count_as_said(name: str, field: str) -> None:
    assert getattr(head_of(f"{name}: a", "Content-Length: 0"), field) is True
    assert getattr(head_of("Content-Length: 0"), field) is False
    head = head_of(f"{name}: a", f"Connection: {name}", "Content-Length: 0")
    assert getattr(head, field) is False
    assert head.lines == b""


@pytest.mark.parametrize("value", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_an_event_stream_is_known_by_its_type(value: str) -> None:
    assert head_of(f"Content-Type: {value}").stream
    assert not head_of("Content-Type: text/plain").stream


def test_what_is_said_about_other_origins_is_noted() -> None:
    assert head_of("Access-Control-Allow-Origin: *", "Content-Length: 0").cors
    assert not head_of("Content-Length: 0").cors


# --- the memories ---


@pytest.mark.parametrize(
    "name",
    ["Set-Cookie", "set-cookie", "SET-COOKIE", "Set-CooKie", "sET-cOOKIE2", "X-Auth-Token", "Location",
     "Authentication-Info", "WWW-Authenticate", "X-Api-Key"],
)  # fmt: skip
def test_a_head_that_may_hold_a_secret_is_not_remembered(name: str) -> None:
    head = head_of("Content-Length: 0", f"{name}: hunter2")
    assert b"hunter2" in head.lines
    assert head_of("Content-Length: 0", f"{name}: hunter2") is not head
    held = repr((response_head._lines._known, list(response_head._heads), response_head._statuses))
    assert "hunter2" not in held
    assert all(b"hunter2" not in known.lines for known in response_head._heads.values())


def test_equal_heads_are_read_once() -> None:
    assert head_of("A: b", "Content-Length: 1") is head_of("A: b", "Content-Length: 1")
    assert head_of("A: b", "Content-Length: 1") is not head_of("A: b", "Content-Length: 2")


def test_the_memories_are_bounded() -> None:
    for n in range(3 * response_head._MAX_HEADS):
        head_of(f"A: {n}", status=f"200 {n}")
        assert len(response_head._heads) <= response_head._MAX_HEADS
    assert len(response_head._statuses) <= 256
    big = ["A: " + "b" * 200] * 10
    assert head_of(*big) is not head_of(*big), "a large head is not worth remembering"
    long = "200 " + "x" * 1000
    head_of(status=long)
    assert f"HTTP/1.1 {long}".encode() not in response_head._statuses


def test_a_malformed_head_is_refused_each_time_and_not_remembered() -> None:
    before = dict(response_head._heads)
    for _ in range(2):
        with pytest.raises(BackendMalformed):
            head_of("Content-Length: 1", "Content-Length: 1")
    assert response_head._heads == before
