"""Instants and strings as text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.store import instants, representation
from gateway.store.document import Document
from gateway.store.strict_json import dumps, quote

# From 1970 to 2200, to the microsecond.
moments = st.integers(0, 7_258_118_400_000_000).map(lambda microseconds: microseconds / 1e6)


@given(moments)
def test_the_text_of_an_instant_is_exactly_it(seconds: float) -> None:
    text = instants.to_text(seconds)
    assert len(text) == len("2026-11-22T09:45:18.123456Z") and instants.parse(text) == seconds


def test_a_whole_second_has_its_zeros() -> None:
    assert instants.to_text(1_795_340_718.0) == "2026-11-22T09:45:18.000000Z"


@given(st.text())
def test_a_quoted_string_is_its_json(text: str) -> None:
    assert quote(text) == dumps(text)


@given(moments, moments)
def test_an_item_of_a_list_tells_both_instants(created: float, modified: float) -> None:
    found = json.loads(representation.item(Document("a", 2, "b", created, modified, '{"c":1}')))
    told = found.pop("_created"), found.pop("_modified")
    assert told == (instants.to_text(created), instants.to_text(modified))
    assert found == {"id": "a", "_etag": '"b-2"', "c": 1}
