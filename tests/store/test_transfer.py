"""Lines of NDJSON: however they are cut, however many are blank, no turn of the loop has much to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import BodyTooLarge, Unprocessable
from gateway.store import transfer
from gateway.store.transfer import LINE_COST, MAX_BLANK, MAX_LINE, SLICE, LineSplitter, NumberedLines


def split(*pieces: bytes) -> list[tuple[int, bytes]]:
    splitter = LineSplitter()
    found = [line for piece in pieces for line in splitter.split(piece)]
    return [*found, *splitter.end()]


BODY = b'\r\n {"a":1} \n\n\t\n{"b":2}\r\n\n  {"c":3}'
EXPECTED = [(2, b'{"a":1}'), (5, b'{"b":2}'), (7, b'{"c":3}')]


@pytest.mark.parametrize("size", range(1, len(BODY) + 1))
def test_any_cut_gives_the_same_lines_with_the_same_numbers(size: int) -> None:
    assert split(*(BODY[at : at + size] for at in range(0, len(BODY), size))) == EXPECTED


@pytest.mark.parametrize("blank", [b"\n", b" \n", b" ", b"\r\n\t"])
def test_white_space_without_a_document_has_an_end(blank: bytes) -> None:
    most = blank * (MAX_BLANK // len(blank))
    assert len(split(most, b"{}\n", most, b"{}")) == 2, "every document begins it anew"
    for pieces in ([most, blank, blank], [b"{}\n", most + blank + blank]):
        with pytest.raises(Unprocessable) as refused:
            split(*pieces)
        assert refused.value.close, "the rest of the body is not read"
        assert str(MAX_BLANK) in refused.value.detail


def test_a_line_that_no_document_fits_in_is_refused_before_it_has_ended() -> None:
    piece = b"[" * (1024 * 1024)
    with pytest.raises(BodyTooLarge):
        split(*[piece] * (MAX_LINE // len(piece) + 1))


async def sent(body: bytes) -> AsyncIterator[bytes]:
    yield body


class Turns:
    """How many turns the loop takes."""

    def __init__(self) -> None:
        self.count = 0
        self._goes_on = True

    def __enter__(self) -> Turns:
        asyncio.get_running_loop().call_soon(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on = False

    def _turn(self) -> None:
        self.count += 1
        if self._goes_on:
            asyncio.get_running_loop().call_soon(self._turn)


@pytest.mark.asyncio
async def test_between_two_turns_of_the_loop_a_slice_is_looked_at() -> None:
    document = b" " * 60_000 + b"{}\n"
    with Turns() as turns:
        found = [line async for line in NumberedLines(sent(document * 20)).read()]
    assert len(found) == 20
    assert turns.count >= len(document) * 20 // SLICE


@pytest.mark.asyncio
async def test_lines_that_all_fail_give_the_loop_its_turns() -> None:
    """Nothing of them is written, so nothing else would wait."""

    class Nothing:
        async def bulk(
            self, collection: str, writes: object, *, most: int = 0
        ) -> tuple[transfer.Outcome, ...]:
            raise AssertionError("there is nothing to write")

    body = b"{x:1}\n" * 20_000
    with Turns() as turns:
        lines = NumberedLines(sent(body)).read()
        failed = [one async for batch in transfer.import_lines(Nothing(), "c", lines) for one in batch]
    assert {one.status for one in failed} == {400} and len(failed) == 20_000
    assert turns.count >= (len(body) + 20_000 * LINE_COST) // SLICE, "a short line counts more than its bytes"
