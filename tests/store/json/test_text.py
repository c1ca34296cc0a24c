"""Instants and strings as text."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.json import representation
from gateway.store.json.strict import dumps, quote
from gateway.store.model import instants
from gateway.store.model.document import Document

# From 1970 to 2200, to the microsecond.
moments = st.integers(0, 7_258_118_400_000_000).map(lambda microseconds: microseconds / 1e6)


@given(moments)
def test_the_text_of_an_instant_is_exactly_it(seconds: float) -> None:
    text = instants.to_text(seconds)
    assert len(text) == len("2026-11-22T09:45:18.123456Z") and instants.parse(text) == seconds


def test_a_whole_second_has_its_zeros() -> None:
    assert instants.to_text(1_795_340_718.0) == "2026-11-22T09:45:18.000000Z"


@st.composite
def written(draw: st.DrawFn) -> tuple[str, Fraction]:
    """An instant as RFC 3339 may write it, and its seconds, exactly."""
    moment = draw(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))).replace(microsecond=0)
    leap = draw(st.booleans())
    if leap:
        moment = moment.replace(day=1, hour=0, minute=0, second=0)
    offset = draw(st.integers(-1439, 1439))
    here = moment + timedelta(minutes=offset) - timedelta(seconds=leap)
    digits = draw(st.text("0123456789", max_size=40))
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    if offset == 0 and draw(st.booleans()):
        zone = draw(st.sampled_from(["Z", "z", "-00:00"]))
    time = f"{here:%H:%M}:{60 if leap else here.second:02d}"
    fraction = f".{digits}" if digits else ""
    text = f"{here.year:04d}-{here:%m-%d}{draw(st.sampled_from('Tt '))}{time}{fraction}{zone}"
    whole = (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)
    return text, whole + (Fraction(int(digits), 10 ** len(digits)) if digits else 0)


@given(written())
def test_any_way_of_writing_an_instant_gives_its_seconds(case: tuple[str, Fraction]) -> None:
    text, seconds = case
    found = instants.parse(text)
    assert found is not None
    assert abs(Fraction(found) - seconds) <= Fraction(math.ulp(found)) / 2 + Fraction(1, 10**20)


@given(written(), written())
def test_instants_are_ordered_by_value(one: tuple[str, Fraction], other: tuple[str, Fraction]) -> None:
    first, second = instants.parse(one[0]), instants.parse(other[0])
    assert first is not None and second is not None
    if one[1] <= other[1]:
        assert first <= second


@pytest.mark.parametrize(
    "text",
    ["2016-12-31T23:59:61Z", "2016-12-30T23:59:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:60+01:00",
     "2016-12-31T24:00:00Z", "2016-12-31T23:60:00Z", "2016-12-31T23:59:00+24:00", "2016-12-31T23:59:00+01:60",
     "2016-12-31T23:59:00.Z", "2016-12-31T23:59:00", "2016-12-31T23:59Z", "2016-02-30T00:00:00Z",
     "0000-00-01T00:00:00Z", "0000-02-30T00:00:00Z", "0000-12-30T23:59:60Z", "2100-02-29T00:00:00Z",
     "9999-12-31T22:59:60Z", "10000-01-01T00:00:00Z", "2016-12-31T23:59:00,5Z", "２016-12-31T23:59:00Z"],
)  # fmt: skip
def test_what_is_no_instant_is_none(text: str) -> None:
    assert instants.parse(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        ("0000-12-31T23:59:59Z", -62_135_596_801),
        ("0000-12-31T23:59:60Z", -62_135_596_800),
        ("0000-03-01T00:00:00Z", -62_135_596_800 - 306 * 86400),
        ("0000-02-29T00:00:00Z", -62_135_596_800 - 307 * 86400),  # a leap year, as each 400th is
        ("0000-01-01T00:00:00Z", -62_167_219_200),
        ("0000-01-01T00:00:00.5+23:59", -62_167_219_200 - 86_340 + 0.5),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("9999-12-31T23:59:60Z", 253_402_300_800),
        ("9999-12-31T23:59:59-23:59", 253_402_300_799 + 86_340),
    ],
)
def test_the_years_from_0000_to_9999_are_instants(text: str, seconds: float) -> None:
    assert instants.parse(text) == seconds


def test_a_fraction_may_have_a_million_digits() -> None:
    assert instants.parse(f"2026-01-01T00:00:00.{'9' * 1_000_000}Z") == instants.parse("2026-01-01T00:00:01Z")


@given(st.text())
def test_a_quoted_string_is_its_json(text: str) -> None:
    assert quote(text) == dumps(text)


@given(moments, moments)
def test_an_item_of_a_list_tells_both_instants(created: float, modified: float) -> None:
    found = json.loads(representation.item(Document("a", 2, "b", created, modified, '{"c":1}')))
    received = found.pop("_created"), found.pop("_modified")
    assert received == (instants.to_text(created), instants.to_text(modified))
    assert found == {"id": "a", "_etag": '"b-2"', "c": 1}
