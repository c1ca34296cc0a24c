"""The filter and sort languages: what is accepted, and where what is not accepted is pointed at."""

import gc
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.store.filter import matcher, regex
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import And, Eq, canonical
from gateway.store.json import strict
from gateway.store.model import sort


def test_a_filter_becomes_nodes() -> None:
    parsed = filters.parse('{"a":1,"b.c":{"$eq":[true]},"$and":[{"d":null},{}]}')
    assert parsed == And(
        (
            Eq(("a",), 1, "1"),
            Eq(("b", "c"), [True], "[true]"),
            And((Eq(("d",), None, "null"), And(()))),
        )
    )


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"$where":"1"}', "/$where"),
        ('{"$or":[]}', "/$or"),
        ('{"a":{"$function":1}}', "/a/$function"),
        ('{"a":{"$eq":1,"$expr":1}}', "/a/$expr"),
        ('{"a":{"$eq":1,"b":1}}', "/a/b"),
        ('{"a":{"b":{"$gt":1}}}', "/a/b/$gt"),
        ('{"a":[{"$gt":1}]}', "/a/0/$gt"),
        ('{"a":{"$eq":{"$ne":1}}}', "/a/$eq/$ne"),
        ('{"a":{"b.c":1}}', "/a/b.c"),
        ('{"$and":[{"a":1},{"$nor":[]}]}', "/$and/1/$nor"),
        ('{"$and":[]}', "/$and"),
        ('{"$and":{}}', "/$and"),
        ('{"$and":[1]}', "/$and/0"),
        ('{"":1}', "/"),
        ('{"a..b":1}', "/a..b"),
        ('{"a.$b":1}', "/a.$b"),
        ('{"a.0":1}', "/a.0"),
        ('{"a\\"b":1}', '/a"b'),
        ('{"a\\\\":1}', "/a\\"),
        ('{"_etag":1}', "/_etag"),
        ('{"id.x":1}', "/id.x"),
        ('{"' + ".".join("a" * 17) + '":1}', "/" + ".".join("a" * 17)),
        ('{"a":1,"a":2}', "/a"),
        ('{"a":NaN}', "/a"),
        ('{"a":"\\ud800"}', "/a"),
        ('{"a":99999999999999999999}', "/a"),
        ("[]", ""),
        ("1", ""),
        ("[" * 100_000 + "]" * 100_000, ""),
        ('{"$and":[' + ",".join(['{"a":1}'] * 101) + "]}", ""),
    ],
)
def test_what_is_not_accepted_is_pointed_at(text: str, pointer: str) -> None:
    with pytest.raises(BadRequest) as caught:
        filters.parse(text)
    assert [error["pointer"] for error in caught.value.extra["errors"]] == [pointer]


@pytest.mark.parametrize("text", ["", "{", "a=1", "{'a':1}"])
def test_a_filter_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        filters.parse(text)


def test_an_unsupported_operator_is_told_what_is_supported() -> None:
    with pytest.raises(BadRequest) as caught:
        filters.parse('{"a":{"$where":1}}')
    assert filters.SUPPORTED in caught.value.extra["errors"][0]["detail"]


def test_different_filters_have_different_canonical_texts() -> None:
    texts = [
        '{"a":1}', '{"a":true}', '{"a":"1"}', '{"a.b":1}', '{"a":1,"b":1}', "{}", '{"a":null}', '{"a":[1]}',
        '{"$and":[{"a":1},{"b":1}]}', '{"$and":[{"a":1}],"b":1}', '{"a":{"b":1}}',
    ]  # fmt: skip
    # The same conditions in the same order are the same list, however they are written.
    assert len({canonical(filters.parse(text)) for text in texts}) == len(texts) - 1
    assert canonical(filters.parse('{"a":1.0}')) == canonical(filters.parse('{ "a" : 1 }'))


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, True), (1, True, False), (0, False, False), (None, None, True), (None, 0, False),
        (None, False, False), ("1", 1, False), ([], {}, False), ([1, [2]], [1, [2]], True),
        ([True], [1], False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False), ({"a": [1]}, {"a": [1.0]}, True),
        (2**53, float(2**53), True), (2**53 + 1, float(2**53), False),
    ],
)  # fmt: skip
def test_equality_is_strict_in_type_and_by_value(left: Any, right: Any, equal: bool) -> None:
    assert matcher.same(left, right) is equal
    assert matcher.same(right, left) is equal


def test_a_sort_becomes_keys() -> None:
    assert sort.parse("-a,b.c,id") == (
        sort.SortKey(("a",), True),
        sort.SortKey(("b", "c")),
        sort.SortKey(("id",)),
    )


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "-", "--a,", "$a", "a.0", "_x", "id.a", "a..b", "a,b,c,d,e", 'a"']
)
def test_a_sort_that_is_not_accepted_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="sort"):
        sort.parse(text)


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"$or": [{"a": n} for n in range(filters.MAX_CONDITIONS + 1)]}, "conditions"),
        ({"$nor": [{"$and": [{"a": n}, {"b": n}]} for n in range(10_000)]}, "conditions"),
        ({f"a{n}": 1 for n in range(filters.MAX_CONDITIONS + 1)}, "conditions"),
        ({name: {"$in": list(range(1000))} for name in "abc"}, "values"),
        ({name: {"$nin": list(range(1000))} for name in "abc"}, "values"),
        ({"a": {"$elemMatch": {name: {"$in": list(range(1000))} for name in "abc"}}}, "values"),
    ],
)
def test_a_filter_has_bounds_as_a_whole(wanted: dict[str, Any], what: str) -> None:
    with pytest.raises(BadRequest) as refused:
        filters.parse_value(wanted)
    (error,) = refused.value.extra["errors"]
    assert error["pointer"] == "" and what in error["detail"]


EMPTIES = [{}] * filters.MAX_CONDITIONS


@pytest.mark.parametrize(
    "around",
    [
        lambda branches: {"$and": branches},
        lambda branches: {"$or": branches},
        lambda branches: {"$nor": branches},
        lambda branches: {"$or": [{"$and": [branch]} for branch in branches]},
        lambda branches: {"$and": [{"$nor": branches[1:]}, *branches[:1]]},
        lambda branches: {"a": {"$elemMatch": {"$or": branches[1:]}}},
        lambda branches: {"a": {"$not": {"$elemMatch": {"$and": branches[1:]}}}},
    ],
)
def test_a_branch_without_conditions_counts_as_one(around: Callable[[list[Any]], Any]) -> None:
    filters.parse_value(around(EMPTIES[1:]))
    with pytest.raises(BadRequest) as refused:
        filters.parse_value(around([*EMPTIES, {}]))
    (error,) = refused.value.extra["errors"]
    assert error["pointer"] == "" and str(filters.MAX_CONDITIONS) in error["detail"]


def test_too_many_branches_are_refused_before_they_are_walked() -> None:
    class Branches(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("nobody should look at them")

    for wanted in ({"$and": Branches(EMPTIES * 2)}, {"a": {"$elemMatch": {"$nor": Branches(EMPTIES * 2)}}}):
        with pytest.raises(BadRequest):
            filters.parse_value(wanted)


def test_what_has_too_many_fields_is_refused_before_any_of_them_is_looked_at() -> None:
    """The last one, which is wrong, is not reported."""
    with pytest.raises(BadRequest) as refused:
        filters.parse_value({"$and": [*({"a": n} for n in range(10_000)), {"$nothing": 1}]})
    assert [error["pointer"] for error in refused.value.extra["errors"]] == [""]


def test_a_filter_of_many_conditions_is_large() -> None:
    few = {"$or": [{"a": n} for n in range(filters.LARGE)]}
    assert not filters.is_large(filters.parse_value(few))
    assert filters.is_large(filters.parse_value({"$nor": [few], "b": {"$elemMatch": {"c": 1}}}))
    assert not filters.is_large(filters.parse_value({"$or": [{}] * filters.LARGE}))
    assert filters.is_large(filters.parse_value({"$or": [{}] * (filters.LARGE + 1)}))


_NEEDS_RE2 = pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")


@_NEEDS_RE2
@pytest.mark.parametrize(
    "wanted",
    [
        {"$or": [{"a": {"$regex": rf"\pL{{2}}N{n}"}} for n in range(18)]},
        {"$or": [{"a": {"$regex": f"q.r{n}"}} for n in range(filters.QUICK_PATTERNS + 1)]},
        {"a": {"$regex": r"nine\w{9}"}},
        {"a": {"$regex": "(?i)[!-\U0010ffff]"}},
        {"a": {"$regex": "[0-\U0010ffff]", "$options": "i"}},
        {"a": {"$regex": "." * 60}},
        {"a": {"$not": {"$elemMatch": {"$regex": r"\pN\pN"}}}},
    ],
)
def test_many_or_large_patterns_are_not_compiled_where_a_filter_is_read_at_once(wanted: Any) -> None:
    with pytest.raises(filters.NotQuick):
        filters.parse(strict.dumps(wanted), quick=True)
    node = filters.parse_value(wanted)  # as a worker process does
    patterns = regex.compiled_all(filters.patterns(node))
    assert patterns and filters.parse_value(wanted, quick=True) == node


@_NEEDS_RE2
def test_a_few_small_patterns_are_compiled_at_once() -> None:
    wanted = {"$or": [{"a": {"$regex": f"s.all{n}+"}} for n in range(filters.QUICK_PATTERNS)]}
    literals = [{"a": {"$regex": f"^literal{n}"}} for n in range(50)]
    assert filters.parse_value({"$and": [wanted, *literals]}, quick=True)


@_NEEDS_RE2
def test_patterns_are_bounded_each_and_together() -> None:
    for pattern in (r"\pL{29}N", r"(\pL{9}){9}"):
        with pytest.raises(BadRequest) as refused:
            filters.parse_value({"a": {"$regex": pattern}})
        assert refused.value.extra["errors"][0]["pointer"] == "/a/$regex"
    each = {"$or": [{"a": {"$regex": rf"\pL{{4}}{n}"}} for n in range(20)]}
    with pytest.raises(BadRequest) as refused:
        filters.parse_value(each)
    assert refused.value.extra["errors"][0]["pointer"] == ""


@_NEEDS_RE2
def test_of_patterns_that_are_refused_or_let_go_none_is_kept() -> None:
    """The engine has a cache of its own, whose bound is a number."""
    kind = type(importlib.import_module("re2").compile("a"))

    def alive() -> int:
        return sum(issubclass(type(one), kind) for one in gc.get_objects())

    def compile_some(begin: int) -> None:
        for n in range(begin, begin + 5):
            for pattern in (rf"\pL{{20}}{n}", rf"(\pL{{30}}){{30}}{n}", f"({n}"):
                with pytest.raises(ValueError, match="pattern"):
                    regex.compiled(pattern)

    compile_some(0)
    before = alive()
    compile_some(5)
    assert alive() <= before
    for n in range(4 * regex.MAX_KEPT // 2**20):
        regex.compiled(rf"[ab]\.{n}")
    assert alive() < before + 2 * regex.MAX_KEPT // 2**20
