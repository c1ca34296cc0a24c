"""Where an event stream is whole: as a reader of one byte at a time sees it, however the stream is cut."""

from __future__ import annotations

import random

import pytest

from gateway.core.http.server_sent_events import EventEnds


def whole_at(data: bytes) -> tuple[set[int], bool]:
    """The positions where the stream is whole, and whether it is at its end: one byte after the other."""
    places, pending, line, at = {0}, False, b"", 0
    while at < len(data):
        byte = data[at : at + 1]
        at += 1
        if byte not in b"\r\n":
            line += byte
            continue
        pending = bool(line) and (pending or not line.startswith(b":"))
        line = b""
        if not pending:
            places.add(at)
        if byte == b"\r" and data[at : at + 1] == b"\n":
            at += 1
            if not pending:
                places.add(at)
    return places, not pending and not line


@pytest.mark.parametrize(
    ("stream", "whole"),
    [
        (b"", True),
        (b"data: 1\n\n", True),
        (b"data: 1\r\n\r\n", True),
        (b"data: 1\r\r", True),
        (b"data: 1\n", False),
        (b"data: 1\r\n", False),
        (b"data: 1\n\ndata", False),
        (b"data: 1\n\n: beat\n", True),
        (b": beat\n", True),
        (b": be", False),
        (b"data: 1\n: beat\n", False),
        (b"data: a\ndata: b\n", False),
    ],
)
def test_a_stream_is_whole_behind_an_event_and_behind_comments(stream: bytes, whole: bool) -> None:
    ends = EventEnds()
    ends.feed(stream)
    assert ends.whole is whole


def test_of_what_comes_in_one_piece_the_last_end_counts() -> None:
    ends = EventEnds()
    assert ends.feed(b"data: 1\n\ndata: 2\n\ndata: 3") == len(b"data: 1\n\ndata: 2\n\n")
    assert ends.feed(b" more") == -1
    assert ends.feed(b"\n\ndata: 4") == 2


def test_any_stream_cut_anywhere_is_read_as_one_byte_at_a_time() -> None:
    chance = random.Random(7)
    for _ in range(20_000):
        data = bytes(chance.choice(b"\r\n:ax\n\r") for _ in range(chance.randint(1, 14)))
        cuts = sorted({chance.randrange(len(data) + 1) for _ in range(chance.randint(0, 4))} | {len(data)})
        ends, before = EventEnds(), 0
        for cut in cuts:
            last = ends.feed(data[before:cut])
            places, whole = whole_at(data[:cut])
            assert ends.whole is whole, (data, cuts, cut)
            later = [place for place in places if place > before]
            if cut > before:
                assert (last > 0) == bool(later), (data, cuts, cut)
                assert last < 1 or before + last in places, (data, cuts, cut)
                assert not later or max(later) - before - last in (0, 1), (data, cuts, cut)
            before = cut
