"""Header lines, and the memory of them."""

from __future__ import annotations

import time

import pytest

from gateway.core.http.headers import MAX_LENGTH, MAX_REMEMBERED, LineCache, is_long_line, line_pattern


def memory() -> LineCache[tuple[bytes, bytes, bytes]]:
    return LineCache(lambda name, value, line: (name, value, line))


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"A: b", b"a", b"b"),
        (b"A:b", b"a", b"b"),
        (b"A:", b"a", b""),
        (b"A:  \t ", b"a", b""),
        (b"A: \t b\tc  d \t", b"a", b"b\tc  d"),
        (b"A: b: c", b"a", b"b: c"),
        (b"A: \xc3\xa9\xff\x80", b"a", b"\xc3\xa9\xff\x80"),
        (b"!#$%&'*+.^_`|~09AZaz-: b", b"!#$%&'*+.^_`|~09azaz-", b"b"),
    ],
)
def test_a_line_is_a_token_a_colon_and_a_value_between_white_space(
    line: bytes, name: bytes, value: bytes
) -> None:
    assert memory().learn(line) == (name, value, line)


@pytest.mark.parametrize(
    "line",
    [b"", b"A", b":", b": b", b" A: b", b"A : b", b"A\t: b", b"A B: c", b"A: b\r", b"A: b\n", b"A: b\rc",
     b"A: b\nc", b"A: b\0", b"A: b\x7f", b"A: b\x1bc", b"A\0: b", b"A\r: b", b"A\n: b", b"A\xc3\xa9: b",
     b"(A): b", b"A/: b", b'"A": b', b"A: b\x0bc", b"A: b\x0c", b"\tA: b"],
)  # fmt: skip
def test_other_lines_are_refused_and_not_remembered(line: bytes) -> None:
    lines = memory()
    for _ in range(2):
        with pytest.raises(ValueError, match="not a header line"):
            lines.learn(line)
        assert lines.get(line) is None


def test_a_line_is_classified_once() -> None:
    seen = []
    lines = LineCache(lambda name, value, line: seen.append(line) or len(seen))
    for _ in range(3):
        assert (lines.get(b"A: b") or lines.learn(b"A: b")) == 1
    assert seen == [b"A: b"]


def test_lines_that_differ_in_one_byte_are_different_lines() -> None:
    lines = memory()
    variants = [b"A: b", b"a: b", b"A:b", b"A: b ", b"A: B", b"A:\tb"]
    for line in variants:
        lines.learn(line)
    assert [lines.get(line) for line in variants] == [memory().learn(line) for line in variants]


@pytest.mark.parametrize(
    "name",
    ["Authorization", "AUTHORIZATION", "Proxy-Authorization", "Cookie", "Set-Cookie", "sEt-cOOkie2",
     "X-Api-Key", "X-Auth-Token", "X-CSRF-Token", "X-XSRF", "WWW-Authenticate", "Proxy-Authenticate",
     "Authentication-Info", "X-Session-Id", "X-Amz-Signature", "Location", "Content-Location", "Referer",
     "Password", "Client-Secret", "Sec-WebSocket-Protocol"],
)  # fmt: skip
def test_a_line_that_may_hold_a_secret_is_not_remembered(name: str) -> None:
    lines = memory()
    line = f"{name}: hunter2".encode()
    assert lines.learn(line)[1] == b"hunter2"
    assert lines.get(line) is None
    assert b"hunter2" not in repr(lines._known).encode()


def test_the_memory_is_bounded() -> None:
    lines = memory()
    for n in range(3 * MAX_REMEMBERED):
        lines.learn(b"A: %d" % n)
        assert len(lines._known) <= MAX_REMEMBERED
    assert lines.get(b"A: %d" % (3 * MAX_REMEMBERED - 1)) is not None
    long = b"A: " + b"b" * (MAX_LENGTH - 3)
    assert lines.learn(long)
    assert lines.get(long) is not None
    assert lines.learn(long + b"b")
    assert lines.get(long + b"b") is None


@pytest.mark.parametrize("line", [b"A:" + b" " * 65536 + b"\0", b"A: " + b"b " * 32768 + b"\0", b"A" * 65536])
def test_no_line_takes_long(line: bytes) -> None:
    """With a pattern that backtracks, 64 KiB of white space took 15 s."""
    before = time.process_time()
    with pytest.raises(ValueError, match="not a header line"):
        memory().learn(line)
    assert time.process_time() - before < 5


def test_a_long_line_is_judged_as_a_short_one() -> None:
    for number in range(256):
        byte = bytes((number,))
        shapes = [byte + b"a: b", b"a" + byte + b": b", b"a:" + byte + b"b", b"a: b" + byte]
        for line in shapes:
            assert is_long_line(line) == (line_pattern(line) is not None), line
    assert not is_long_line(b": b") and not is_long_line(b"a") and is_long_line(b"a:")
