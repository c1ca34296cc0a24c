"""SQLite finds and orders what the reference finds and orders: random documents, filters, sorts, pages."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store import filter as filters
from gateway.store import matcher, sqlite_operations, sqlite_query, strict_json
from gateway.store.document import merge_patch, to_text
from gateway.store.sort import SortKey, sort_value
from gateway.store.sqlite_schema import open_writer

# Few names and values, so that filters hit.
names = st.sampled_from(["a", "b", "c", "é", "a b", "'", "id"])
texts = st.sampled_from(
    ["", "a", "1", "true", "null", "é\U0001f600", "\uffff", '"', "\\", "\n", "$", "x" * 130 + "a"]
)
numbers = st.sampled_from(
    [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.5, 1e300, 5e-324, 0.1, 0.1 + 0.2, 1e19]
)
alike = st.sampled_from([True, False, 0, 1, None, "", "1"])  # what an engine might take for each other
scalars = st.none() | numbers | texts
storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
wild = st.integers(-(2**63), 2**63 - 1) | st.text(storable)
values = st.recursive(
    alike | alike | scalars | wild,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
documents = st.lists(
    st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2), min_size=1, max_size=8
)
short = st.sampled_from([("a",), ("b",), ("a", "a"), ("a", "b")])
long = st.lists(names, min_size=1, max_size=4).map(tuple).filter(lambda p: p[0] != "id" or not p[1:])
paths = short | short | long
keys = st.lists(st.builds(SortKey, paths, st.booleans()), max_size=3).map(tuple)


def node(path: tuple[str, ...], value: Any) -> filters.Eq:
    return filters.Eq(path, value, strict_json.dumps(value))


def held(value: Any) -> list[Any]:
    """A value and everything in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(part for item in inner for part in held(item))]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    path: Path = tmp_path_factory.mktemp("differential") / "t.db"
    return open_writer(path, None)


def store(connection: sqlite3.Connection, data: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The documents as read back: a number that is an integer is one."""
    connection.execute("DELETE FROM documents")
    stored = {}
    for index, members in enumerate(data):
        canonical = strict_json.loads(strict_json.dumps(members), lambda name, top: "")
        text, size = to_text(merge_patch({}, canonical) if index % 2 else canonical)
        row = ("c", str(index), 1, "i", 0.0, 0.0, size, text)
        connection.execute(sqlite_operations._INSERT, row)
        stored[str(index)] = strict_json.loads(text, lambda name, top: "")
    return stored


def found(
    connection: sqlite3.Connection, wanted: filters.Node, sort: tuple[SortKey, ...], limit: int
) -> list[str]:
    """All pages, one after the other."""
    seen: list[str] = []
    position = None
    while True:
        page, end = sqlite_query.read_page(connection, "c", wanted, sort, limit, position)
        seen += [document.id for document in page.items]
        if end is None:
            return seen
        position = strict_json.loads(strict_json.dumps(end), lambda name, top: "")


def test_values_that_look_alike_are_kept_apart_at_every_place(connection: sqlite3.Connection) -> None:
    looks = [True, False, 0, 1, -1, None, "", "1", "true", "null", 0.5, "0.5", [], {}, 2**53, 2**53 + 1]
    places: list[Callable[[Any], Any]] = [
        lambda value: {"a": value},
        lambda value: {"a": [value]},
        lambda value: {"a": ["x", [value]]},
        lambda value: {"a": {"b": value}},
        lambda value: {"a": [{"b": value}, 7, {"c": 1}]},
        lambda value: {"a": [[{"b": value}]]},
    ]
    stored = store(connection, [{}, *(place(value) for place in places for value in looks)])
    for operand in [part for value in looks for part in (value, [value], {"b": value})]:
        for path in (("a",), ("a", "b")):
            wanted = node(path, operand)
            expected = {name for name, members in stored.items() if matcher.matches(wanted, name, members)}
            assert set(found(connection, wanted, (), 1000)) == expected, (path, operand)


@settings(max_examples=300, deadline=None)
@given(data=documents, choice=st.data())
def test_a_filter_finds_what_the_reference_matches(
    connection: sqlite3.Connection, data: list[dict[str, Any]], choice: st.DataObject
) -> None:
    stored = store(connection, data)
    parts = [part for members in stored.values() for part in held(members)]
    operands = st.sampled_from(parts) | alike | values
    conditions = []
    for _ in range(choice.draw(st.integers(1, 2))):
        value = strict_json.loads(strict_json.dumps(choice.draw(operands)), lambda name, top: "")
        conditions.append(node(choice.draw(paths), value))
    wanted = filters.And(tuple(conditions))
    expected = [name for name, members in stored.items() if matcher.matches(wanted, name, members)]
    assert found(connection, wanted, (), 1000) == expected


@settings(max_examples=300, deadline=None)
@given(data=documents, sort=keys, limit=st.integers(1, 4))
def test_pages_come_in_the_reference_order_with_nothing_left_out_or_twice(
    connection: sqlite3.Connection, data: list[dict[str, Any]], sort: tuple[SortKey, ...], limit: int
) -> None:
    stored = store(connection, data)
    expected = sorted(stored)
    for key in reversed(sort):  # from the last key to the first
        ranked: dict[Any, list[str]] = {}
        for name in expected:
            ranked.setdefault(sort_value(key.path, name, stored[name]), []).append(name)
        expected = [name for value in sorted(ranked, reverse=key.descending) for name in ranked[value]]
    assert found(connection, filters.EVERYTHING, sort, limit) == expected
