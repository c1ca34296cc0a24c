"""Of a filter, MongoDB gets conditions that every match fulfils; and keys that are in the reference order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.filter import parse as language
from gateway.store.filter import regex
from gateway.store.filter.matcher import matches
from gateway.store.filter.nodes import Compare
from gateway.store.json import strict
from gateway.store.model.indexing import ENTRY_TEXT, entry
from gateway.store.model.sort import rank
from gateway.store.mongo.read.filter import narrow
from gateway.store.mongo.read.keys import beginning_with, between, key
from gateway.store.mongo.rows import Ordered, derived
from tests.store.mongo import semantics
from tests.store.sqlite.read.test_differential import (
    alike,
    canonical,
    documents,
    filters,
    held,
    numbers,
    parts,
    scalars,
    storable,
    texts,
    values,
)

INDEXES = tuple(
    Ordered(f"s{n}", f"s{n}-x", path) for n, path in enumerate([("a",), ("b",), ("a", "b"), ("é",)])
)
USABLE = {index.path: index for index in INDEXES}


def row(identifier: str, data: dict[str, Any], created: float, modified: float) -> dict[str, Any]:
    made = derived(INDEXES, None, modified, data)
    return {"id": identifier, "cr": created, "mo": modified, "d": data, **made}


@pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")
@settings(max_examples=400, deadline=None)
@given(data=documents, parts=parts, choice=st.data(), indexed=st.booleans())
def test_every_document_that_matches_fulfils_the_conditions(
    data: list[dict[str, Any]], parts: list[Any], choice: st.DataObject, indexed: bool
) -> None:
    parts += [part for members in data for part in held(members)]
    node = choice.draw(filters)
    query = narrow(node, USABLE if indexed else {})
    for number, members in enumerate(map(canonical, data)):
        if query is not None and matches(node, str(number), members, 1.5, 2.5):
            assert semantics.holds(query, row(str(number), members, 1.5, 2.5))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":{"$elemMatch":{"$size":2}}}', [[1, 2]]),
        ('{"a":{"$elemMatch":{"$elemMatch":{"$gt":1}}}}', [[1, 2]]),
        ('{"a":{"$elemMatch":{"$eq":[1]}}}', [[1]]),
        ('{"a":{"$elemMatch":{"$type":"array"}}}', [[1]]),
        ('{"a":{"$elemMatch":{"id":1,"_created":2}}}', [{"id": 1, "_created": 2}]),
        ('{"a":{"$elemMatch":{"b":null}}}', [{}]),
        ('{"a.b":null}', [{"b": 1}, {}]),
        ('{"a.b":null}', 7),
        ('{"a":{"$lt":"' + "x" * 200 + '"}}', "x" * 199),
        ('{"a":{"$gt":"' + "x" * 199 + '"}}', "x" * 200),
        ('{"a":{"$prefix":"' + "x" * 200 + '"}}', "x" * 201),
        ('{"a":{"$all":[1,2]}}', [1, 2]),
        ('{"a":{"$gt":1,"$lt":2}}', [0, 3]),
    ],
)
@pytest.mark.parametrize("indexes", [{}, USABLE], ids=["members", "entries"])
def test_a_match_behind_arrays_and_long_texts_fulfils_the_conditions(
    text: str, value: Any, indexes: Any
) -> None:
    node = language.parse(text)
    assert matches(node, "x", {"a": value})
    assert semantics.holds(narrow(node, indexes) or {}, row("x", {"a": value}, 0, 0))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a":1}', [1]),
        ('{"a":{"$gt":1}}', [2, 3]),
        ('{"a":{"$in":[1,"x"]}}', [1, 5]),
        ('{"a":{"$prefix":"x"}}', [5]),
        ('{"a":{"$contains":"x"}}', [5]),
        ('{"a":{"$exists":true,"$type":"string"}}', [5]),
        ('{"a":{"$size":2}}', [4]),
        ('{"a":{"$elemMatch":{"b":1,"c":{"$lt":2}}}}', [4]),
        ('{"$or":[{"a":1},{"a":2}]}', [1, 2]),
        ('{"id":"3"}', [3]),
        ('{"id":{"$gt":"3"}}', [4, 5]),
        ('{"_created":{"$gte":"1970-01-01T00:00:04Z"}}', [4, 5]),
        ('{"id":7}', []),
        ('{"a":{"$in":[]}}', []),
    ],
)
@pytest.mark.parametrize("indexes", [{}, USABLE], ids=["members", "entries"])
def test_the_conditions_leave_out_what_does_not_match(text: str, found: list[int], indexes: Any) -> None:
    data: list[Any] = [None, 1, 2, 3, [{"b": 1, "c": 1}, {}], "x"]
    query = narrow(language.parse(text), indexes)
    assert query is not None
    rows = [row(str(n), {} if n == 0 else {"a": value}, n, n) for n, value in enumerate(data)]
    assert [n for n in range(6) if semantics.holds(query, rows[n])] == found


@settings(max_examples=300)
@given(left=scalars | alike | numbers | values, right=scalars | alike | numbers | values)
def test_keys_compare_as_the_reference_orders(left: Any, right: Any) -> None:
    a, b = rank(canonical(left)), rank(canonical(right))
    assert (key(a).encode() < key(b).encode()) == (a < b)
    assert (key(a) == key(b)) == (a == b)


@settings(max_examples=300)
@given(
    value=(numbers | texts | st.booleans() | st.integers(-(2**63), 2**63 - 1)).map(canonical),
    other=(scalars | st.integers(-(2**63), 2**63 - 1)).map(canonical),
    op=st.sampled_from(["gt", "gte", "lt", "lte"]),
)
def test_the_bounds_of_a_comparison_hold_every_value_of_which_it_is_true(
    value: Any, other: Any, op: Any
) -> None:
    node = Compare(("a",), op, value, strict.dumps(value))
    inside = semantics.holds({"k": between(node)}, {"k": key(entry(rank(other)))})
    if matches(node, "", {"a": other}):
        assert inside
    elif not isinstance(value, str) or len(value) < ENTRY_TEXT:
        assert not inside or isinstance(other, str)


@given(text=st.text(storable, max_size=5), rest=st.text(storable, max_size=2))
def test_the_bounds_of_a_beginning_hold_every_text_that_begins_so(text: str, rest: str) -> None:
    bounds = beginning_with(text)
    assert bounds["$gte"].encode() <= key(entry(rank(text + rest))).encode()
    assert key(entry(rank(text + rest))).encode() < bounds["$lt"].encode()
