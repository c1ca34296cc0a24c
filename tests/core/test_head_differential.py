"""Whatever the short way reads as a simple request, aiohttp's parser accepts and reads the same: method,
target, headers, body length and what comes after. The reverse is not required."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.head import Head, from_pairs, parse_simple
from tests.mutants import request_head

BODY = b"abcdefghijklmnop"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def read_by_aiohttp(loop: asyncio.AbstractEventLoop, raw: bytes) -> tuple[Any, Any, list[Any]]:
    """The first message, its payload, and the messages after it. Raises HttpProcessingError."""
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, auto_decompress=False)  # as edge/listener.py
    messages, upgraded, _ = parser.feed_data(raw)
    assert not upgraded
    (message, payload), *rest = messages
    return message, payload, list(rest)


def facts(head: Head) -> dict[str, Any]:
    found = {name: getattr(head, name) for name in Head.__slots__ if name not in ("lines", "raw")}
    return {**found, "lines": [(n.lower(), v.strip()) for n, _, v in (x.partition(b":") for x in head.lines)]}


def check(loop: asyncio.AbstractEventLoop, raw: bytes) -> bool:
    """Whether the head is simple; then it must be read in the same way."""
    simple = parse_simple(raw)
    if simple is None or simple[2].length > len(BODY):
        return False
    method, target, head = simple
    length = max(head.length, 0)
    follows = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
    try:
        message, payload, rest = read_by_aiohttp(loop, raw + b"\r\n\r\n" + BODY[:length] + follows)
    except HttpProcessingError as error:
        raise AssertionError(f"aiohttp refuses {raw!r}: {error}") from None
    assert (message.method, message.path, message.version) == (method, target, (1, 1)), raw
    assert not (message.should_close or message.upgrade or message.chunked), raw
    assert payload.is_eof(), raw
    assert b"".join(payload._buffer if length else ()) == BODY[:length], raw
    assert [after[0].path for after in rest] == ["/next"], f"the next request begins elsewhere: {raw!r}"
    again = from_pairs(message.raw_headers)
    assert facts(again) == facts(head), raw
    return True


@settings(max_examples=100, deadline=None)
@given(random=st.randoms(use_true_random=True))
def test_a_simple_head_is_read_by_aiohttp_in_the_same_way(
    loop: asyncio.AbstractEventLoop, random: Random
) -> None:
    simple = sum(check(loop, request_head(random)) for _ in range(100))
    assert simple > 5, "most of what is tried says nothing"


@pytest.mark.parametrize("length", ["", "Content-Length: 3\r\n"])
def test_every_byte_in_every_place_is_read_by_aiohttp_in_the_same_way(
    loop: asyncio.AbstractEventLoop, length: str
) -> None:
    good = f"POST /a?b HTTP/1.1\r\nHost: a\r\n{length}X-A: b c".encode()
    simple = 0
    for at in range(len(good) + 1):
        for byte in range(256):
            simple += check(loop, good[:at] + bytes([byte]) + good[at:])
            simple += check(loop, good[:at] + bytes([byte]) + good[at + 1 :])
    assert simple > 2000
