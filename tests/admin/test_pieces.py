"""JSON in pieces is what the value says, whatever it is made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.admin.pieces import LazyObject, json_bytes, json_pieces


@pytest.mark.parametrize(
    "value",
    [
        None,
        'a\n"b\\ é \U0001f600',
        1.5,
        [],
        {},
        [[]],
        {"a": {}},
        {"a": 1, "b": [1, 2, {"c": None}], "d": {"e": {"f": [True]}}},
        [{"a": "line\nbreak"}, "x"],
        list(range(100)),
        {str(n): n for n in range(100)},
        {"many": [{"n": n, "deep": [{"m": [n]}]} for n in range(50)]},
    ],
)
def test_the_pieces_together_are_the_value(value: Any) -> None:
    assert json.loads("".join(json_pieces(value))) == value


def test_a_person_reads_a_member_a_line_and_what_is_small_on_one() -> None:
    text = "".join(json_pieces({"backends": [{"name": "a", "addresses": {"x": {"n": 1, "m": 2}}}], "n": 1}))
    assert text == (
        '{\n  "backends": [\n    {\n      "name": "a",\n      "addresses": {\n        "x": {"n": 1, "m": 2}\n'
        '      }\n    }\n  ],\n  "n": 1\n}'
    )


def test_what_is_made_while_it_is_written_is_written_as_what_is_there() -> None:
    pairs = ((name, (n for n in range(3))) for name in "ab")
    lazy = {"all": LazyObject(pairs), "none": LazyObject([]), "no": iter(())}
    eager = {"all": {"a": [0, 1, 2], "b": [0, 1, 2]}, "none": {}, "no": []}
    assert json.loads("".join(json_pieces(lazy))) == eager


def test_a_step_of_work_is_an_empty_piece() -> None:
    found = list(json_pieces({"a": LazyObject([None, ("b", 1), None]), "c": iter([None, 2])}))
    assert found.count("") == 3
    assert json.loads("".join(found)) == {"a": {"b": 1}, "c": [2]}
    assert json.loads("".join(json_pieces([None, 1]))) == [None, 1]  # in a list that is there it is a value


def test_no_piece_of_a_large_value_is_large() -> None:
    value = {"all": [{"name": str(n), "addresses": [{"a": n, "b": [n] * 5}]} for n in range(1000)]}
    assert max(map(len, json_pieces(value))) < 500


async def test_others_have_their_turns_while_a_large_value_is_written() -> None:
    turns, seen = 0, set[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def items() -> Iterator[str]:
        for _ in range(1000):
            seen.add(turns)
            yield "x" * 1000

    task = asyncio.create_task(others())
    assert len(json.loads(await json_bytes({"all": items()}))["all"]) == 1000
    task.cancel()
    assert len(seen) > 30
