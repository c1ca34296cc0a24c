"""SQLite finds and orders what the reference finds and orders: random documents, filters, sorts, pages; with
declared indexes and without."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.filter import matcher, regex
from gateway.store.filter.nodes import (
    CREATED,
    EVERYTHING,
    ITSELF,
    And,
    Compare,
    Comparison,
    ElemMatch,
    Eq,
    Exists,
    In,
    Mod,
    Node,
    Not,
    Or,
    Size,
    Text,
    Type,
    TypeName,
)
from gateway.store.filter.nodes import Path as FieldPath
from gateway.store.json import strict
from gateway.store.model import collection, instants
from gateway.store.model.document import UNCONDITIONAL
from gateway.store.model.patch import MergePatch
from gateway.store.model.sort import SortKey, sort_value
from gateway.store.model.write import Delete, Replace, Update
from gateway.store.sqlite import collections
from gateway.store.sqlite.files.connections import open_writer, regex_search
from gateway.store.sqlite.read import plan as plans
from gateway.store.sqlite.read import query
from gateway.store.sqlite.write.group_commit import run_group
from gateway.store.sqlite.write.operations import operation
from gateway.store.sqlite.write.state import States
from gateway.store.sqlite.write.transaction import Operation, Pace

# Few names and values, so that filters hit.
names = st.sampled_from(["a", "b", "c", "é", "a b", "'", "id"])
# Texts that agree as far as an index, a statement, or a cursor holds them.
long_texts = ["x" * 128 + end for end in ("", "x", "\uffff", "\U00010000")]
long_texts += ["x" * 1000 + end for end in ("", "x", "é")]
texts = st.sampled_from(
    ["", "a", "1", "true", "null", "é\U0001f600", "\uffff", '"', "\\", "\n", "$", "ab", *long_texts]
)
numbers = st.sampled_from(
    [0, 1, -1, 7, -7, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.5, -7.5, 1e300, 5e-324, 0.1, 0.3, 1e19]
)
alike = st.sampled_from([True, False, 0, 1, None, "", "1"])  # what an engine might take for each other
scalars = st.none() | numbers | texts | st.booleans()
storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
wild = st.integers(-(2**63), 2**63 - 1) | st.text(storable)
values = st.recursive(
    alike | alike | scalars | wild,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
documents = st.lists(st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2), min_size=1, max_size=8)
short = st.sampled_from([("a",), ("b",), ("a", "a"), ("a", "b")])
long = st.lists(names, min_size=1, max_size=4).map(tuple).filter(lambda p: p[0] != "id" or not p[1:])
paths = short | short | long
keys = st.lists(
    st.builds(SortKey, paths | st.sampled_from([("_created",), ("_modified",)]), st.booleans()), max_size=3
).map(tuple)
patterns = st.sampled_from(["^a|1$", "(?i)A.*", '[é"]'])
INDEXED = [("a",), ("b",), ("a", "b")]


def canonical(value: Any) -> Any:
    """A value as it is read back: a number that is an integer is one."""
    return strict.loads(strict.dumps(value), lambda name, top: "")


def eq(path: FieldPath, value: Any) -> Eq:
    return Eq(path, value, strict.dumps(value))


# What the example's documents hold. Strategies made anew for each example cost more than all the rest.
parts: st.SearchStrategy[list[Any]] = st.shared(st.builds(list), key="parts")
part = st.builds(lambda found, n: found[n % len(found)] if found else n, parts, st.integers(0, 255))
operands = (part | alike | values).map(canonical)  # likely to be in the documents


def conditions(paths: st.SearchStrategy[FieldPath]) -> st.SearchStrategy[Node]:
    """Conditions on one path."""
    comparable = operands.filter(lambda v: isinstance(v, str | int | float)) | numbers.map(canonical) | texts
    several = st.lists(operands, min_size=2, max_size=4, unique_by=strict.dumps)
    kinds = ["prefix", "suffix", "contains"]
    types = st.frozensets(st.sampled_from(get_args(TypeName)), min_size=1)
    return st.one_of(
        st.builds(eq, paths, operands),
        st.builds(
            lambda path, found: In(path, tuple(found), tuple(map(strict.dumps, found))), paths, several
        ),
        st.builds(
            lambda path, op, value: Compare(path, op, value, strict.dumps(value)),
            paths, st.sampled_from(get_args(Comparison)), comparable,
        ),
        st.builds(Exists, paths),
        st.builds(Type, paths, types),
        st.builds(Size, paths, st.integers(0, 3)),
        st.builds(Mod, paths, st.sampled_from([1, -1, 2, 7, -7, 2**63 - 1]), st.integers(-6, 6)),
        st.builds(
            Text, paths, st.sampled_from(kinds), operands.filter(lambda v: isinstance(v, str)) | texts
        ),
        *([st.builds(Text, paths, st.just("regex"), patterns)] if regex.AVAILABLE else []),
    )  # fmt: skip


def element(path: FieldPath, node: Any, negated: bool, of_objects: bool) -> Node:
    """As the language makes it: only what is asked of the element itself is asked of every kind."""
    at = node.path
    node = Not(node) if negated else node
    is_object = Type(ITSELF, frozenset({"object"}))
    return ElemMatch(path, And((is_object, node)) if of_objects or at != ITSELF else node)


of_elements = conditions(st.sampled_from([ITSELF, ("a",), ("b",)]))
filters: st.SearchStrategy[Node] = st.recursive(
    conditions(paths) | st.builds(element, paths, of_elements, st.booleans(), st.booleans()),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=3).map(lambda found: And(tuple(found))),
        st.lists(inner, max_size=3).map(lambda found: Or(tuple(found))),
    ),
    max_leaves=4,
)


def held(value: Any) -> list[Any]:
    """A value and everything in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(part for item in inner for part in held(item))]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("differential") / "t.db"
    connection = open_writer(path, None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.create_function("regex_search", 2, regex_search, deterministic=True)
    yield connection
    connection.close()


Stored = dict[str, tuple[dict[str, Any], float, float]]


def store(connection: sqlite3.Connection, data: list[dict[str, Any]], *, indexed: bool = False) -> Stored:
    """The documents as read back, with the instants of their creation and modification."""
    for table in ("documents", "collections", "indexes", "entries", "uniques", "changes"):
        connection.execute(f"DELETE FROM {table}")
    states = States(connection)
    declare = [Operation(collections.put("c", with_indexes(), UNCONDITIONAL, Pace(60.0)), alone=True)]
    early, late = data[::2], data[1::2]
    run_group(connection, states, [write(str(2 * n), members) for n, members in enumerate(early)])
    if indexed:  # some documents are there before the indexes, some come and go after
        run_group(connection, states, declare)
        gone = Operation(operation("c", Delete("gone")))
        run_group(connection, states, [write("gone", data[0]), write("gone", data[-1]), gone])
    run_group(connection, states, [write(str(2 * n + 1), members) for n, members in enumerate(late)])
    change = Operation(operation("c", Update("0", MergePatch(canonical(data[-1])))))
    run_group(connection, states, [change])
    rows = connection.execute("SELECT id, data, created, modified FROM documents ORDER BY id").fetchall()
    return {name: (canonical(strict.json.loads(text)), made, last) for name, text, made, last in rows}


def write(identifier: str, members: dict[str, Any]) -> Operation:
    return Operation(operation("c", Replace(identifier, canonical(members))))


def with_indexes() -> collection.CollectionSettings:
    declared = [{"name": f"i{n}", "fields": [".".join(path)]} for n, path in enumerate(INDEXED)]
    return collection.from_data({"indexes": declared})


def found(
    connection: sqlite3.Connection, wanted: Node, sort: tuple[SortKey, ...] = (), limit: int = 1000
) -> list[str]:
    """All pages, one after the other."""
    seen: list[str] = []
    listed = query.Listed("c", wanted, sort, instants.now())
    position = None
    while True:
        page, end = query.read_page(connection, listed, limit, position, count=True)
        seen += [document.id for document in page.items]
        if end is None:
            assert page.count == len(seen)
            return seen
        position = canonical(end)


def expected(stored: Stored, wanted: Node, sort: tuple[SortKey, ...] = ()) -> list[str]:
    ids = sorted(name for name, whole in stored.items() if matcher.matches(wanted, name, *whole))
    for key in reversed(sort):  # from the last key to the first
        ranked: dict[Any, list[str]] = {}
        for name in ids:
            ranked.setdefault(sort_value(key.path, name, *stored[name]), []).append(name)
        ids = [name for value in sorted(ranked, reverse=key.descending) for name in ranked[value]]
    return ids


@contextmanager
def thresholds(few: int, many: int) -> Iterator[None]:
    """Plans for large collections, met by small ones."""
    before = plans.FEW, plans.MANY
    plans.FEW, plans.MANY = few, many
    try:
        yield
    finally:
        plans.FEW, plans.MANY = before


@pytest.mark.parametrize("indexed", [False, True])
def test_values_that_look_alike_are_kept_apart_at_every_place(
    connection: sqlite3.Connection, indexed: bool
) -> None:
    looks = [True, False, 0, 1, -1, None, "", "1", "true", "null", 0.5, "0.5", [], {}, 2**53, 2**53 + 1]
    places: list[Callable[[Any], Any]] = [
        lambda value: {"a": value},
        lambda value: {"a": [value]},
        lambda value: {"a": ["x", [value]]},
        lambda value: {"a": {"b": value}},
        lambda value: {"a": [{"b": value}, 7, {"c": 1}]},
        lambda value: {"a": [[{"b": value}]]},
    ]
    stored = store(connection, [{}, *(place(value) for place in places for value in looks)], indexed=indexed)
    for operand in [part for value in looks for part in (value, [value], {"b": value})]:
        for path in (("a",), ("a", "b")):
            wanted = eq(path, operand)
            assert found(connection, wanted) == expected(stored, wanted), (path, operand)
            several = In(path, (operand, "never"), (strict.dumps(operand), '"never"'))
            assert found(connection, several) == expected(stored, wanted), (path, operand)


@settings(max_examples=400, deadline=None)
@given(
    data=documents, parts=parts, choice=st.data(), indexed=st.booleans(), few=st.sampled_from([0, 2, 2000])
)
def test_a_filter_finds_what_the_reference_matches(
    connection: sqlite3.Connection,
    data: list[dict[str, Any]],
    parts: list[Any],
    choice: st.DataObject,
    indexed: bool,
    few: int,
) -> None:
    stored = store(connection, data, indexed=indexed)
    parts += [part for whole in stored.values() for part in held(whole[0])]
    wanted = choice.draw(filters)
    sort, limit = choice.draw(keys), choice.draw(st.sampled_from([1, 3, 1000]))
    with thresholds(few, 3 if few < 3 else 20_000):
        assert found(connection, wanted, sort, limit) == expected(stored, wanted, sort)


@settings(max_examples=300, deadline=None)
@given(data=documents, sort=keys, limit=st.integers(1, 4), indexed=st.booleans())
def test_pages_come_in_the_reference_order_with_nothing_left_out_or_twice(
    connection: sqlite3.Connection,
    data: list[dict[str, Any]],
    sort: tuple[SortKey, ...],
    limit: int,
    indexed: bool,
) -> None:
    stored = store(connection, data, indexed=indexed)
    assert found(connection, EVERYTHING, sort, limit) == expected(stored, EVERYTHING, sort)


WRAPS: dict[str, Callable[[Node], Node]] = {
    "not": Not,
    "and": lambda node: And((node, Exists(("id",)))),
    "or": lambda node: Or((eq(("b",), "never"), node)),
    "nor": lambda node: Not(Or((eq(("b",), "never"), Not(node)))),
    "element": lambda node: Or((ElemMatch(("a",), Not(ElemMatch(("a", "b"), node))), Exists(("b",)))),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("indexed", [False, True])
def test_a_filter_may_be_as_deep_as_json(connection: sqlite3.Connection, wrap: str, indexed: bool) -> None:
    stored = store(connection, [{"a": 1}, {"a": [{"b": 1}]}, {"a": "x"}, {}], indexed=indexed)
    wanted: Node = In(("a",), (1, "y", None), ("1", '"y"', "null"))
    for _ in range(30):
        wanted = WRAPS[wrap](wanted)
        assert found(connection, wanted) == expected(stored, wanted)


@pytest.mark.parametrize("op", get_args(Comparison))
def test_instants_are_compared_exactly(connection: sqlite3.Connection, op: Comparison) -> None:
    stored = store(connection, [{"a": n} for n in range(4)])
    for _, created, _ in stored.values():
        wanted = Compare(CREATED, op, created, strict.dumps(created))
        assert found(connection, wanted) == expected(stored, wanted)
        assert found(connection, eq(CREATED, created)) == expected(stored, eq(CREATED, created))
