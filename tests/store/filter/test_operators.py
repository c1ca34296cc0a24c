"""The operators of the filter language: what each becomes, and where what is not accepted is pointed at."""

from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.store.filter import matcher, regex
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import (
    ITSELF,
    NOTHING,
    And,
    Compare,
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
    canonical,
    conjuncts,
    fields,
    parse_path,
)
from gateway.store.json import strict

A = ("a",)
ONE, TWO = Eq(A, 1, "1"), Eq(A, 2, "2")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ('{"a":{"$ne":1}}', Not(ONE)),
        ('{"a":{"$gt":1.0}}', Compare(A, "gt", 1, "1")),
        ('{"a":{"$gte":"x","$lt":true}}', And((Compare(A, "gte", "x",
        '"x"'), Compare(A, "lt", True, "true")))),
        ('{"a":{"$in":[1,2,1.0]}}', In(A, (1, 2), ("1", "2"))),
        ('{"a":{"$in":[1,1]}}', ONE),
        ('{"a":{"$in":[]}}', NOTHING),
        ('{"a":{"$nin":[1,2]}}', Not(In(A, (1, 2), ("1", "2")))),
        ('{"$or":[{"a":1},{"a":2}]}', Or((ONE, TWO))),
        ('{"$nor":[{"a":1}]}', Not(Or((ONE,)))),
        ('{"a":{"$not":{"$ne":1}}}', Not(Not(ONE))),
        ('{"a":{"$exists":true}}', Exists(A)),
        ('{"a":{"$exists":false}}', Not(Exists(A))),
        ('{"a":{"$type":"null"}}', Type(A, frozenset({"null"}))),
        ('{"a":{"$all":[1,2]}}', And((ONE, TWO))),
        ('{"a":{"$all":[]}}', NOTHING),
        ('{"a":{"$size":2}}', Size(A, 2)),
        ('{"a":{"$mod":[3,-1]}}', Mod(A, 3, -1)),
        ('{"a":{"$prefix":"x"}}', Text(A, "prefix", "x")),
        ('{"a":{"$contains":""}}', Text(A, "contains", "")),
        ('{"a":{"$elemMatch":{"$gt":1}}}', ElemMatch(A, Compare(ITSELF, "gt", 1, "1"))),
        ('{"a":{"$elemMatch":{"id":1}}}',
         ElemMatch(A, And((Type(ITSELF, frozenset({"object"})), Eq(("id",), 1, "1"))))),
        ('{"a":{"$regex":"x.y"}}', Text(A, "regex", "x.y")),
        ('{"a":{"$regex":"x","$options":"i"}}', Text(A, "regex", "(?i)x")),
        ('{"a":{"$regex":"x\\\\.y"}}', Text(A, "contains", "x.y")),
        ('{"a":{"$regex":"^x"}}', Text(A, "prefix", "x")),
        ('{"a":{"$regex":"x$"}}', Text(A, "suffix", "x")),
        ('{"a":{"$regex":"^1$"}}', Eq(A, "1", '"1"')),
        ('{"_created":{"$gte":"1970-01-01T00:00:01.5Z"}}', Compare(("_created",), "gte", 1.5, "1.5")),
        ('{"_modified":"1970-01-01T01:00:01+01:00"}', Eq(("_modified",), 1, "1")),
    ],
)  # fmt: skip
def test_an_operator_becomes_a_node(text: str, node: Node) -> None:
    assert filters.parse(text) == node


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a":{"$gt":null}}', "/a/$gt"), ('{"a":{"$gt":[1]}}', "/a/$gt"), ('{"a":{"$lt":{}}}', "/a/$lt"),
        ('{"a":{"$in":1}}', "/a/$in"), ('{"a":{"$in":[{"$gt":1}]}}', "/a/$in/0/$gt"),
        ('{"a":{"$nin":' + strict.dumps(list(range(1001))) + "}}", "/a/$nin"),
        ('{"a":{"$exists":1}}', "/a/$exists"), ('{"a":{"$type":"int"}}', "/a/$type"),
        ('{"a":{"$type":[]}}', "/a/$type"),
        ('{"a":{"$type":[[]]}}', "/a/$type"), ('{"a":{"$all":1}}', "/a/$all"),
        ('{"a":{"$all":[{"$elemMatch":{}}]}}', "/a/$all/0/$elemMatch"),
        ('{"a":{"$size":-1}}', "/a/$size"), ('{"a":{"$size":1.5}}', "/a/$size"),
        ('{"a":{"$size":true}}', "/a/$size"),
        ('{"a":{"$mod":[0,1]}}', "/a/$mod/0"), ('{"a":{"$mod":[1]}}', "/a/$mod"),
        ('{"a":{"$mod":[1,true]}}', "/a/$mod"),
        ('{"a":{"$prefix":1}}', "/a/$prefix"), ('{"a":{"$contains":"' + "x" * 1001 + '"}}', "/a/$contains"),
        ('{"a":{"$not":1}}', "/a/$not"), ('{"a":{"$not":{}}}', "/a/$not"),
        ('{"a":{"$not":{"b":1}}}', "/a/$not"),
        ('{"a":{"$not":{"$where":1}}}', "/a/$not/$where"), ('{"$not":{"a":1}}', "/$not"),
        ('{"$or":1}', "/$or"),
        ('{"$or":[{"a":{"$gt":null}}]}', "/$or/0/a/$gt"), ('{"a":{"$elemMatch":1}}', "/a/$elemMatch"),
        ('{"a":{"$elemMatch":{}}}', "/a/$elemMatch"),
        ('{"a":{"$elemMatch":{"b":{"$gt":null}}}}', "/a/$elemMatch/b/$gt"),
        ('{"a":{"$elemMatch":{"$where":1}}}', "/a/$elemMatch/$where"),
        ('{"a":{"$options":"i"}}', "/a/$options"),
        ('{"a":{"$regex":1}}', "/a/$regex"), ('{"a":{"$regex":"(","$options":""}}', "/a/$regex"),
        ('{"a":{"$regex":"x","$options":"g"}}', "/a/$regex"), ('{"a":{"$regex":"(?=a)b"}}', "/a/$regex"),
        ('{"a":{"$regex":"(a)\\\\1"}}', "/a/$regex"), ('{"a":{"$regex":".' + "x" * 1000 + '"}}', "/a/$regex"),
        ('{"a":{"$regex":"((a{1,100}){1,100}){1,100}"}}', "/a/$regex"),
        ('{"_created":1}', "/_created"), ('{"_created":null}', "/_created"),
        ('{"_created":{"$gt":"soon"}}', "/_created/$gt"),
        ('{"_created":{"$exists":true}}', "/_created/$exists"), ('{"_created.x":1}', "/_created.x"),
        ('{"_created":{"$in":["2020-01-01T00:00:00Z",1]}}', "/_created/$in/1"), ('{"_other":1}', "/_other"),
    ],
)  # fmt: skip
def test_what_an_operator_does_not_take_is_pointed_at(text: str, pointer: str) -> None:
    with pytest.raises(BadRequest) as caught:
        filters.parse(text)
    assert [error["pointer"] for error in caught.value.extra["errors"]] == [pointer]


def test_whoever_filters_on_a_field_reads_it() -> None:
    text = """{"a":1,"$or":[{"b.c":{"$gt":1}},{"$nor":[{"d":{"$elemMatch":{"e":1,"f.g":2}}}]}],
               "h":{"$not":{"$elemMatch":{"$gt":1}}},"_created":{"$gt":"2020-01-01T00:00:00Z"}}"""
    assert {".".join(path) for path in fields(filters.parse(text))} == {
        "a", "b.c", "d", "d.e", "d.f.g", "h", "_created",
    }  # fmt: skip


def test_each_node_has_a_text_of_its_own() -> None:
    operators = [
        '{"$gt":1}', '{"$gte":1}', '{"$lt":1}', '{"$lte":1}', "1", '{"$ne":1}', '{"$in":[1,2]}',
        '{"$in":[2,1]}',
        '{"$exists":true}', '{"$type":"number"}', '{"$type":["number","null"]}', '{"$size":1}',
        '{"$mod":[1,2]}',
        '{"$mod":[2,1]}', '{"$prefix":"1"}', '{"$contains":"1"}', '{"$regex":"1$"}', '{"$regex":"[1]"}',
        '{"$elemMatch":{"$gt":1}}', '{"$elemMatch":{"a":{"$gt":1}}}', '{"$in":[]}', '{"$gt":"1"}',
        '{"$gt":true}',
    ]  # fmt: skip
    nodes = [filters.parse(f'{{"a":{operator}}}') for operator in operators]
    nodes += [And((ONE, TWO)), Or((ONE, TWO)), Not(And((ONE, TWO)))]
    assert len({canonical(node) for node in nodes}) == len(nodes)


def test_the_conjuncts_of_a_filter_are_what_must_all_match() -> None:
    assert list(conjuncts(And((ONE, And((TWO, Or((ONE,)))))))) == [ONE, TWO, Or((ONE,))]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", (False, "", False)), ("a", (False, "a", False)), ("^a$", (True, "a", True)),
        (r"\^\$", (False, "^$", False)),
        (r"a\-b\/", (False, "a-b/", False)), ("é ü", (False, "é ü", False)), ("a.b", None), ("a|b", None),
        ("a*", None),
        ("[a]", None), ("(a)", None), (r"\d", None), (r"\Qa", None), ("a^", None), ("a$b", None),
        ("a\\", None),
    ],
)  # fmt: skip
def test_a_literal_pattern_is_known_for_one(pattern: str, found: Any) -> None:
    assert regex.literal(pattern) == found


@pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")
def test_a_pattern_that_explodes_elsewhere_is_matched_at_once() -> None:
    node = filters.parse('{"a":{"$regex":"^(a+)+$"}}')
    assert not matcher.matches(node, "x", {"a": "a" * 100_000 + "b"})
    assert matcher.matches(node, "x", {"a": "a" * 100_000})


@pytest.mark.parametrize(
    ("value", "divisor", "remainder", "holds"),
    [
        (7, 3, 1, True), (-7, 3, -1, True), (-7, 3, 2, False), (7, -3, 1, True), (7.9, 3, 1, True),
        (-7.9, 3, -1, True),
        (1e19, 3, 0, False), (1e300, 1, 0, False), (-(2**63), -1, 0, True), ("7", 3, 1, False),
        (True, 1, 0, False),
        (0.5, 1, 0, True),
    ],
)  # fmt: skip
def test_a_remainder_is_of_the_number_cut_towards_zero(
    value: Any, divisor: int, remainder: int, holds: bool
) -> None:
    assert matcher.matches(Mod(A, divisor, remainder), "x", {"a": value}) is holds


def test_an_element_is_looked_at_by_itself() -> None:
    node = filters.parse('{"a":{"$elemMatch":{"$gt":1,"$lt":3}}}')
    assert matcher.matches(node, "x", {"a": [0, 2]})
    assert not matcher.matches(node, "x", {"a": [0, 4]}) and not matcher.matches(node, "x", {"a": [[2]]})
    assert not matcher.matches(node, "x", {"a": 2})
    assert matcher.matches(filters.parse('{"a":{"$gt":1,"$lt":3}}'), "x", {"a": [0, 4]})


def test_names_that_mean_something_at_the_top_are_names_in_an_element() -> None:
    assert parse_path("_created.x", inner=True) == ("_created", "x")
    node = filters.parse('{"a":{"$elemMatch":{"_x":1,"id.y":2}}}')
    assert matcher.matches(node, "x", {"a": [{"_x": 1, "id": {"y": 2}}]})
