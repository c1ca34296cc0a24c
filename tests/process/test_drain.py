"""What a drain ends, when, and what it says; the clock is the test's."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.call import Call
from gateway.core.http.head import Head
from gateway.process.drain import ENDING, Drain, is_endless, waiting_for


class Client:
    """The client of one call, with an answer under way when `relay` is asked for."""

    fields = b""

    def __init__(self, *, relay: bool, endless: bool = False, begun: bool = True) -> None:
        self.told: list[str] = []
        self.writer: Any = self if relay else None
        self.endless = endless
        self.begun = begun

    def leave_off(self) -> None:
        self.told.append("leave off")

    def cut(self) -> None:
        self.told.append("cut")

    def give_up(self, error: Exception) -> None:
        self.told.append(type(error).__name__)

    def cancel_call(self) -> None:
        self.told.append("gone")


class World:
    def __init__(self, time: float = 25.0, grace: float = 2.0) -> None:
        self.now = 100.0
        self.calls: set[Call] = set()
        self.ended: set[Call] = set()
        self.said: list[str] = []
        self.streams_told = 0
        self.drain = Drain(
            *(self.calls, self.ended, self._tell),
            time=time,
            grace=grace,
            now=lambda: self.now,
            report=self.said.append,
        )

    def _tell(self) -> None:
        self.streams_told += 1

    def add(self, **how: Any) -> Client:
        client: Any = Client(**how)
        self.calls.add(Call("GET", "/", Head(), "", None, client=client))  # type: ignore[arg-type]
        return client  # type: ignore[no-any-return]

    def at(self, passed: float, connections: int = 1) -> bool:
        self.now = 100.0 + passed
        return self.drain.step(connections)


def test_streams_go_on_for_the_grace_and_are_then_told_and_then_cut() -> None:
    world = World()
    stream = world.add(relay=True, endless=True)
    assert world.at(1.9)
    assert (stream.told, world.streams_told) == ([], 0)
    world.at(2.0)
    world.at(2.1)
    assert set(stream.told) == {"leave off"}
    assert world.streams_told == 1
    world.at(2.0 + ENDING)
    assert stream.told[-1] == "cut"
    assert world.ended == world.calls
    assert {call.code for call in world.calls} == {"draining"}  # its status stays that of its response


def test_a_request_gets_all_of_the_time_and_then_an_error_if_nothing_of_its_answer_has_left() -> None:
    world = World()
    download, silent, queued = (
        world.add(relay=True),
        world.add(relay=True, begun=False),
        world.add(relay=False),
    )
    assert world.at(24.9)
    assert download.told == silent.told == queued.told == []
    assert world.ended == set()
    assert world.at(25.0)  # the errors have to leave
    assert (download.told, silent.told, queued.told) == (["cut"], ["BackendTimeout"], ["gone"])
    assert world.ended == world.calls
    assert not world.at(26.0)
    assert {call.code for call in world.calls} == {"draining"}


def test_a_grace_longer_than_the_whole_time_is_the_whole_time() -> None:
    world = World(time=3.0, grace=60.0)
    stream = world.add(relay=True, endless=True)
    world.at(3.0)
    assert stream.told
    assert not world.at(4.0)


def test_it_says_what_it_waits_for_when_that_changes_and_at_most_once_a_second() -> None:
    world = World()
    world.add(relay=True)
    world.add(relay=True, endless=True)
    for passed in (0.0, 0.1):
        world.at(passed)
    assert world.said == []  # most drains are over by then
    for step in range(3, 10):
        world.at(step / 10)
    assert world.said == [
        "waiting for 1 request and 1 stream, at most 25 s; Ctrl-C or SIGTERM again ends it now"
    ]
    stream = next(call for call in world.calls if is_endless(call))
    world.calls.remove(stream)
    world.at(1.0)
    assert len(world.said) == 1
    world.at(2.9)
    world.at(3.2)
    assert world.said[1:] == ["waiting for 1 request, at most 22 s; Ctrl-C or SIGTERM again ends it now"]


def test_what_ends_while_it_is_told_to_is_counted_no_more() -> None:
    world = World()
    world.add(relay=True)
    stream = world.add(relay=True, endless=True)
    world.at(0.0)
    world.at(1.0)
    (call,) = [call for call in world.calls if call.client is stream]
    stream.leave_off = lambda: world.calls.discard(call)  # type: ignore[method-assign]
    world.at(2.5)
    world.at(2.8)
    assert [text.partition(",")[0] for text in world.said] == [
        "waiting for 1 request and 1 stream",
        "waiting for 1 request",
    ]


def test_the_last_bytes_are_named_when_they_take_long() -> None:
    world = World()
    world.add(relay=True)
    world.at(1.0)
    world.at(1.3)
    world.calls.clear()
    world.at(2.2)
    assert len(world.said) == 1
    world.at(2.5)
    assert "waiting for the last bytes of 1 connection, at most 22 s" in world.said[1]


def test_what_never_stays_the_same_is_said_all_the_same() -> None:
    world = World()
    for step in range(100):
        world.add(relay=True)
        world.at(step / 10)
    assert 3 <= len(world.said) <= 10


def test_streams_alone_are_waited_for_as_long_as_they_may_take() -> None:
    world = World()
    world.add(relay=True, endless=True)
    world.at(0.0)
    world.at(0.5)
    assert "1 stream, at most 2 s" in world.said[0]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((3, 1, 4), "3 requests and 1 stream"),
        ((1, 0, 1), "1 request"),
        ((0, 2, 2), "2 streams"),
        ((0, 0, 1), "the last bytes of 1 connection"),
        ((1200, 0, 1200), "1,200 requests"),
    ],
)
def test_what_is_waited_for_in_words(counts: tuple[int, int, int], text: str) -> None:
    assert waiting_for(*counts) == text
