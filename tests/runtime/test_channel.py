"""The channel between a master and a worker: both ask, tell and answer; it ends with either."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runtime import channel as channels
from gateway.runtime.channel import AskFailed, Channel, ChannelEnded, Frames, Handler, NoAnswer, frame
from tests.eventually import eventually

Pair = tuple[Channel, Channel]


@asynccontextmanager
async def pair(
    handlers: Mapping[str, Handler], ours: Mapping[str, Handler] | None = None, **more: Callable[[], None]
) -> AsyncIterator[Pair]:
    """Two sides: the first asks, the second has the handlers."""
    left, right = socket.socketpair()
    one, other = await Channel.open(left, ours or {}, **more), await Channel.open(right, handlers)
    try:
        yield one, other
    finally:
        await one.close()
        await other.close()


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 30)))
def test_frames_are_the_same_however_the_bytes_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    frames, found = Frames(), []
    for cut in (*cuts, len(whole)):
        found += frames.feed(whole[:cut])
        whole = whole[cut:]
    assert found == bodies


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(ValueError, match="1000 bytes"):
        Frames(most=999).feed((1000).to_bytes(4, "big"))


def test_a_name_of_a_file_that_is_no_utf8_arrives_as_it_is() -> None:
    name = os.fsdecode(b"/tmp/\xff")
    (raw,) = Frames().feed(frame([0, "x", name]))
    assert json.loads(raw.decode("utf-8", "surrogatepass"))[2] == name


async def test_both_sides_ask_and_answer() -> None:
    async def slowly(body: Any) -> Any:
        await asyncio.sleep(0)
        return body * 2

    theirs: dict[str, Handler] = {"double": slowly, "next": lambda body: body + 1}
    async with pair(theirs, {"who": lambda _: "one"}) as (one, other):
        assert await one.ask("double", "ab") == "abab"
        assert await one.ask("next", 1) == 2
        assert await other.ask("who") == "one"


async def test_what_is_sent_is_handled_in_order_and_written_at_once() -> None:
    seen: list[int] = []
    async with pair({"add": seen.append, "all": lambda _: list(seen)}) as (one, _):
        for number in range(100):
            one.tell("add", number)
        assert await one.ask("all") == list(range(100))


async def test_a_large_answer_arrives_whole() -> None:
    async with pair({"text": lambda body: "ä" * body}) as (one, _):
        assert await one.ask("text", 3_000_000) == "ä" * 3_000_000


async def test_an_error_that_a_handler_means_comes_back_with_its_words() -> None:
    def refuse(_: Any) -> None:
        raise AskFailed("no seat is known there")

    async def later(_: Any) -> None:
        raise AskFailed("later")

    async with pair({"seat": refuse, "later": later}) as (one, _):
        with pytest.raises(AskFailed, match="no seat is known there"):
            await one.ask("seat")
        with pytest.raises(AskFailed, match="later"):
            await one.ask("later")


@pytest.mark.parametrize("result", ["bug", "no JSON", "late bug"])
async def test_a_bug_of_a_handler_is_logged_there_and_told_without_its_words(
    result: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def late() -> None:
        raise RuntimeError("s3cret")

    def fail(_: Any) -> Any:
        if result == "bug":
            raise RuntimeError("s3cret")
        return late() if result == "late bug" else object()

    async with pair({"fail": fail, "ok": lambda _: 1}) as (one, _):
        with caplog.at_level(logging.ERROR), pytest.raises(AskFailed) as failed:
            await one.ask("fail")
        assert "s3cret" not in str(failed.value)
        assert await one.ask("ok") == 1
    assert "a message between master and worker failed" in caplog.text


async def test_a_name_of_another_version_is_answered() -> None:
    async with pair({"ok": lambda _: 1}) as (one, _):
        one.tell("new", 1)
        with pytest.raises(AskFailed, match="'new'"):
            await one.ask("new")
        assert await one.ask("ok") == 1


async def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    go = asyncio.Event()

    async def waits(body: Any) -> Any:
        await go.wait()
        return body

    async with pair({"waits": waits}) as (one, _):
        with pytest.raises(NoAnswer, match=r"'waits' within 0\.01 s"):
            await one.ask("waits", 1, wait=0.01)
        go.set()
        assert await one.ask("waits", 2) == 2


async def test_questions_end_with_the_other_side_which_is_said_once() -> None:
    ends: list[str] = []

    async def forever(_: Any) -> None:
        await asyncio.Event().wait()

    async with pair({"forever": forever}, on_end=lambda: ends.append("end")) as (one, other):
        asked = asyncio.create_task(one.ask("forever"))
        await eventually(lambda: other._tasks)
        await other.close()
        with pytest.raises(ChannelEnded):
            await asked
        await eventually(lambda: ends)
        with pytest.raises(ChannelEnded):
            await one.ask("forever")
        one.tell("forever")
        assert one.ended
    assert ends == ["end"]


async def test_what_was_told_before_the_end_arrives() -> None:
    seen: list[str] = []
    async with pair({"last": seen.append}) as (one, _):
        one.tell("last", "words")
        await one.close()
        await eventually(lambda: seen == ["words"])


async def test_what_is_no_message_ends_the_channel(caplog: pytest.LogCaptureFixture) -> None:
    left, right = socket.socketpair()
    ends: list[str] = []
    channel = await Channel.open(left, {}, on_end=lambda: ends.append("end"))
    right.sendall(b"\0\0\0\3abc")
    await eventually(lambda: ends)
    assert "what came is no message" in caplog.text
    await channel.close()
    right.close()


async def test_a_side_that_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MOST", 1024 * 1024)
    left, right = socket.socketpair()
    ends: list[str] = []
    channel = await Channel.open(left, {}, on_end=lambda: ends.append("end"))
    for _ in range(3):
        channel.tell("more", "x" * 700_000)
    await eventually(lambda: ends)
    with pytest.raises(ChannelEnded):
        await channel.ask("more")
    await channel.close()
    right.close()
