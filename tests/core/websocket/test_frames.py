"""WebSocket frames, however they are cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.websocket import frames
from gateway.core.websocket.frames import FrameError, FrameReader
from tests.support.sockets import raw_frame

NOT_PASSED_UNSEEN = (frames.CLOSE, frames.PONG)
CONTROL = (frames.CLOSE, frames.PING, frames.PONG)


def parts_of(reader: FrameReader, raw: bytes, most: int = 1 << 20) -> Iterator[frames.Part]:
    reader.feed(raw)
    while (part := reader.next(most)) is not None:
        yield part


def read(
    raw: bytes, cuts: list[int], *, masked: bool, limit: int = 1 << 20, most: int = 1 << 20
) -> list[frames.Part]:
    reader = FrameReader(masked=masked, max_message=limit)
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [part for one, two in pairwise(edges) for part in parts_of(reader, raw[one:two], most)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8bye", b"\x0f\xa0" + b"x" * 123])
def test_a_close_frame_is_found_at_the_end_of_what_nobody_can_read(masked: bool, payload: bytes) -> None:
    raw = raw_frame(frames.CLOSE, payload, masked=masked)
    assert len(raw) <= frames.MAX_CLOSE
    for before in (b"", b"\x00", b"\x81" * 200):
        assert frames.ends_in_close(before + raw)
        assert not frames.ends_in_close(before + raw[:-1])
        assert not frames.ends_in_close(before + raw + b"\xff")


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xee", b"\x03\xe8\xff"])
def test_what_is_no_close_frame_is_not_found(payload: bytes) -> None:
    assert not frames.ends_in_close(b"x" + raw_frame(frames.CLOSE, payload, masked=True))


messages = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(CONTROL), st.binary(max_size=125)),
        st.tuples(st.sampled_from((frames.TEXT, frames.BINARY)), st.binary(max_size=300)),
        st.tuples(st.just(frames.BINARY), st.integers(65530, 65540).map(bytes)),
    ),
    max_size=5,
)


@given(messages, st.lists(st.integers(0, 1 << 20), max_size=8), st.booleans(), st.integers(1, 4))
def test_whatever_the_cuts_the_same_bytes_come_out_and_close_frames_and_pongs_alone(
    sent: list[tuple[int, bytes]], cuts: list[int], masked: bool, most: int
) -> None:
    raw = b"".join(raw_frame(opcode, payload, masked=masked) for opcode, payload in sent)
    parts = read(raw, cuts, masked=masked, most=most)
    assert b"".join(part.data for part in parts) == raw
    alone = [(part.opcode, part.payload) for part in parts if part.opcode in NOT_PASSED_UNSEEN]
    assert alone == [item for item in sent if item[0] in NOT_PASSED_UNSEEN]
    assert sum(part.frames for part in parts) == len(sent)
    assert max((part.frames for part in parts), default=0) <= most
    assert sum(part.small for part in parts) == sum(len(payload) < frames.SMALL for _, payload in sent)
    ends, at = {0}, 0
    for opcode, payload in sent:
        at += len(raw_frame(opcode, payload, masked=masked))
        ends.add(at)
    at = 0
    for part in parts:
        inside = at not in ends
        assert (part.first > 0) is (inside and any(at < end <= at + len(part.data) for end in ends))
        assert not part.first or at + part.first == min(end for end in ends if end > at)
        at += len(part.data)
        assert part.ends is (at in ends)


def test_a_run_of_frames_costs_no_copy() -> None:
    raw = raw_frame(frames.BINARY, bytes(70_000), masked=True) * 3
    [part] = read(raw, [], masked=True)
    assert part.data is raw


def test_what_is_good_before_a_broken_frame_is_given_first() -> None:
    good = raw_frame(frames.TEXT, b"x", masked=True) * 3
    reader = FrameReader(masked=True, max_message=100)
    reader.feed(good + b"\xff\xff and more")
    part = reader.next(100)
    assert part is not None and part.data == good
    with pytest.raises(FrameError):
        reader.next(100)
    assert reader.take() == b"\xff\xff and more"


@given(st.binary(max_size=200), st.booleans())
def test_junk_gives_parts_or_a_frame_error_and_never_another_exception(raw: bytes, masked: bool) -> None:
    reader = FrameReader(masked=masked, max_message=100)
    try:
        out = b"".join(part.data for part in parts_of(reader, raw))
    except FrameError as error:
        assert error.code in (1002, 1009)
    else:
        assert raw.startswith(out)


def test_a_frame_that_is_too_large_is_refused_by_its_head_alone() -> None:
    for size in (101, 70_000, 1 << 40):
        head = b"\x82\x7f" + size.to_bytes(8, "big") if size > 65535 else b"\x82" + bytes((size,))
        with pytest.raises(FrameError) as caught:
            list(parts_of(FrameReader(masked=False, max_message=100), head))
        assert caught.value.code == 1009


def test_the_limit_is_that_of_a_message_and_begins_anew_with_each() -> None:
    half = raw_frame(frames.TEXT, bytes(60), masked=False, final=False)
    rest = raw_frame(frames.CONTINUATION, bytes(40), masked=False)
    assert read((half + rest) * 3, [], masked=False, limit=100)
    with pytest.raises(FrameError) as caught:
        read(half + rest, [], masked=False, limit=99)
    assert caught.value.code == 1009


@given(st.binary(max_size=125), st.binary(min_size=4, max_size=4))
def test_a_frame_of_ours_is_read_back(payload: bytes, key: bytes) -> None:
    for masked, raw in (
        (True, frames.frame(frames.PONG, payload, key)),
        (False, frames.frame(frames.PONG, payload)),
    ):
        [part] = read(raw, [], masked=masked)
        assert (part.opcode, part.payload, part.data) == (frames.PONG, payload, raw)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_close_code_that_may_not_be_sent_is_refused(code: int) -> None:
    with pytest.raises(FrameError) as caught:
        frames.check_close(code.to_bytes(2, "big"))
    assert caught.value.code == 1002


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_a_close_code_that_may_be_sent_is_taken(code: int) -> None:
    frames.check_close(frames.close_payload(code, "č" * 50))
    frames.check_close(b"")
