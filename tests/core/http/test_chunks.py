"""The chunked coding of a backend's answer."""

from __future__ import annotations

import time

import pytest

from gateway.core.errors import BackendMalformed
from gateway.core.http.chunks import ChunkedReader


def read(*data: bytes) -> tuple[bytes, bool, bytes]:
    reader = ChunkedReader()
    body = b"".join(piece for part in data for piece in reader.feed(part))
    return body, reader.done, reader.surplus


GOOD = [
    (b"0\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    (b"00000005\r\nhello\r\n000\r\n\r\n", b"hello"),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
    (b'5;a=b\r\nhello\r\n0;c;d="e;f"\r\n\r\n', b"hello"),
    (b"5 ;a\r\nhello\r\n0\t;\r\n\r\n", b"hello"),
    (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    (b"1\r\n0\r\n0\r\nA: b\r\nC:\r\n\r\n", b"0"),
]


@pytest.mark.parametrize(("raw", "body"), GOOD)
def test_chunks_extensions_and_trailers_are_taken_apart_wherever_the_bytes_are_cut(
    raw: bytes, body: bytes
) -> None:
    after = b"HTTP/1.1 200 OK"
    assert read(raw) == (body, True, b"")
    assert read(raw + after) == (body, True, after)
    assert read(*(raw[at : at + 1] for at in range(len(raw)))) == (body, True, b"")
    for at in range(len(raw) + 1):
        assert read(raw[:at], raw[at:] + after) == (body, True, after)
        if at < len(raw):
            assert read(raw[:at])[1] is False
        for second in range(at, len(raw) + 1):
            assert read(raw[:at], raw[at:second], raw[second:]) == (body, True, b"")


def test_what_is_there_of_a_chunk_is_given_at_once() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"5\r\nhe") == [b"he"]
    assert reader.feed(b"l") == [b"l"]
    assert reader.feed(b"lo\r") == [b"lo"]
    assert reader.feed(b"\n") == []
    assert not reader.done


BAD = [
    b"\r\n",
    b"g\r\n",
    b"-1\r\n",
    b"+1\r\n",
    b"0x1\r\n",
    b"1_0\r\n",
    b" 1\r\n",
    b"1 \r\n",
    b"1\t\r\n",
    b"1 2\r\n",
    b"1,1\r\n",
    b"1\r;a\r\n",
    b"1\n;a\r\n",
    b"1\nx\n0\n\n\r\n",
    b"1;\0\r\n",
    b"1;a\nb\r\n",
    b"\xd9\xa1\r\n",
    b"f" * 16 + b"\r\n",
    b"0" * 16 + b"\r\n",
    b"1\r\nab\r\n",
    b"1\r\na\n\n",
    b"1\r\na\r\r",
    b"1\r\na0\r\n\r\n",
    b"2\r\na\r\n\r\n0\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\nA: b\nC: d\r\n\r\n",
    b"0\r\nHTTP/1.1 200 OK\r\n\r\n",
]


@pytest.mark.parametrize("raw", BAD)
def test_anything_else_is_malformed_wherever_the_bytes_are_cut(raw: bytes) -> None:
    for at in range(len(raw)):
        with pytest.raises(BackendMalformed):
            read(raw[:at], raw[at:])
    with pytest.raises(BackendMalformed):
        read(*(raw[at : at + 1] for at in range(len(raw))))


def test_a_chunk_may_be_as_large_as_fifteen_digits_say() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"f" * 15 + b"\r\nabc") == [b"abc"]
    assert not reader.done


@pytest.mark.parametrize(
    "raw",
    [b"1;" + b"a" * 5000, b"1;" + b"a" * 5000 + b"\r\n", b"0\r\nA: " + b"b" * 5000 + b"\r\n\r\n",
     b"0\r\n" + b"A: b\r\n" * 4000 + b"\r\n"],
)  # fmt: skip
def test_lines_and_trailers_are_bounded_however_they_come(raw: bytes) -> None:
    for size in (len(raw), 100):
        with pytest.raises(BackendMalformed, match="too long"):
            read(*(raw[at : at + size] for at in range(0, len(raw), size)))


def test_nothing_is_kept_of_what_was_given() -> None:
    reader = ChunkedReader()
    reader.feed(b"fffffff\r\n")
    for _ in range(100):
        reader.feed(b"x" * 65536)
    assert reader._buffer == b""


def test_a_hundred_thousand_tiny_chunks_take_no_time_that_grows_with_their_number_squared() -> None:
    before = time.process_time()
    body, done, _ = read(b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n")
    assert (len(body), done) == (100_000, True)
    assert time.process_time() - before < 5
