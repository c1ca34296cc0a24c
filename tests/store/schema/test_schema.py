"""Which JSON Schemas are accepted, and that checking with an accepted one is bounded."""

import json
import time
from typing import Any

import pytest

from gateway.core.errors import SchemaViolation, Unprocessable
from gateway.store.model import collection
from gateway.store.schema import checks, reading, validate

PATTERN = "/patternProperties/\\p{L}{20}4"
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def refused(value: Any) -> list[str]:
    return [pointer for pointer, _ in validate.problems(value)]


def doubling(levels: int) -> dict[str, Any]:
    """Each definition asks for the next one twice."""
    definitions: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {}}}


def chain(length: int) -> dict[str, Any]:
    """Definitions, each of which asks for the next one of what is inside."""
    links = {str(n): {"items": {"$ref": f"#/$defs/{n + 1}"}} for n in range(length)}
    return {**links, str(length): {}}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "object", "properties": {"a": {"type": "string", "format": "email"}}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "object"}}},
        {"properties": {"$ref": {"type": "string"}, "const": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}},
        {"properties": {"$id": {"type": "string"}, "$anchor": {}}},
        {"properties": {"a": {"const": {"$ref": "http://data"}}, "b": {"enum": [{"$id": "x"}]}}},
        {"$schema": DRAFT_7, "definitions": {"a": {}}, "items": {"$ref": "#/definitions/a"}},
        {"properties": {"a": {"pattern": "^(a+)+$"}}, "patternProperties": {"^x": {}}},
        {"$id": "https://example.com/order.json", "$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"$schema": DRAFT_7[:-1], "definitions": {"a": {}}, "items": {"$ref": "#/definitions/a"}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema#"},
        {"$ref": "#/%24defs/a%20b%7E1c", "$defs": {"a b/c": {"type": "object"}}},
        {"properties": {"id": {"type": "string"}, "$schema": {"type": "string"}}},
        {"id": "an unknown keyword", "x-kept": {"$id": "http://x/y"}},
        {"properties": {f"p{n}": {"pattern": f"^[a-z]+{n}$"} for n in range(300)}},
        doubling(3),
    ],
)  # fmt: skip
def test_a_schema_that_stays_at_home_is_accepted(value: Any) -> None:
    assert validate.problems(value) == []


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (True, ""),
        ([], ""),
        ({"type": "nothing"}, "/type"),
        ({"properties": 1}, "/properties"),
        ({"$schema": "http://127.0.0.1:1/x"}, "/$schema"),
        ({"$schema": 1}, "/$schema"),
        ({"$ref": "http://127.0.0.1:1/x"}, "/$ref"),
        ({"$ref": "file:///etc/passwd"}, "/$ref"),
        ({"$ref": "other.json#/a"}, "/$ref"),
        ({"$ref": 1}, "/$ref"),
        ({"$ref": "#"}, "/$ref"),
        ({"$ref": "#/$defs/none"}, "/$ref"),
        ({"properties": {"a": {"$id": "http://x/y"}}}, "/properties/a/$id"),
        ({"items": {"$dynamicRef": "#a"}}, "/items/$dynamicRef"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}}, "/$defs/a/$ref"),
        ({"$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}}, "/$defs/a/properties/b/$ref"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "/$defs/a/$ref"),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "/properties/a/pattern"),
        ({"properties": {"a": {"pattern": "(a)\\1"}}}, "/properties/a/pattern"),
        ({"patternProperties": {"(": {}}}, "/patternProperties/("),
        ({"$id": 1}, "/$id"),
        ({"$id": "http://x/y#z"}, "/$id"),
        ({"$ref": "#/%24defs/%FF", "$defs": {}}, "/$ref"),
        ({"$defs": {"a": {"items": {"$ref": "#/%24defs/a"}}}}, "/$defs/a/items/$ref"),
        ({"$defs": {"a": {"$schema": DRAFT_4, "id": "http://x/y"}}}, "/$defs/a/$schema"),
        ({"properties": {"a": {"$anchor": "here"}}}, "/properties/a/$anchor"),
        ({"$anchor": "here", "items": {"$ref": "#here"}}, "/$anchor"),
        ({"$ref": "#/const", "const": {"$id": "http://x/y"}}, "/const/$id"),
        ({"$ref": "#/$defs/0", "$defs": chain(300)}, f"/$defs/{(reading.MAX_LEVELS + 1) // 2}"),
        ({"allOf": [{"pattern": f"\\p{{L}}{{20}}{n}"} for n in range(400)]}, "/allOf/4/pattern"),
        ({"patternProperties": {f"\\p{{L}}{{20}}{n}": {} for n in range(9)}}, PATTERN),
    ],
)
def test_a_schema_that_is_not_accepted_is_pointed_at(value: Any, pointer: str) -> None:
    assert refused(value) == [pointer]


def test_a_schema_that_grows_without_bound_is_refused_at_once() -> None:
    begin = time.process_time()
    assert refused(doubling(60)) and refused({"anyOf": [{}] * (validate.MAX_SIZE + 1)})
    assert time.process_time() - begin < 5


def text_of(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def check_here(value: dict[str, Any], data: dict[str, Any]) -> list[validate.Violation]:
    """What is wrong with a document, found in this process whatever it costs."""
    asked = validate.Schema(value)
    return checks.violations(asked, validate.all_costs(asked), data, len(text_of(data)))


def test_an_explosive_pattern_is_matched_in_linear_time() -> None:
    begin = time.process_time()
    assert check_here({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "b"})
    assert time.process_time() - begin < 5


def test_a_violation_has_pointers_and_repeats_no_value() -> None:
    asked = validate.Schema(
        {"properties": {"a/b": {"items": {"type": "integer"}}, "c": {"const": 1}}, "required": ["d"]}
    )
    with pytest.raises(SchemaViolation) as caught:
        asked.check_now({"a/b": [1, "s3cr3t"], "c": "s3cr3t"}, 40)
    errors = caught.value.extra["errors"]
    assert sorted(error["pointer"] for error in errors) == ["", "/a~1b/1", "/c"]
    assert "s3cr3t" not in str(errors)


def test_of_many_violations_some_are_told_and_of_costly_ones_the_first() -> None:
    numbers = {"properties": {"a": {"items": {"type": "string"}}}}
    assert len(check_here(numbers, {"a": list(range(1000))})) == validate.MAX_ERRORS
    alternatives = {"properties": {"a": {"items": {"anyOf": [{"const": n} for n in range(500)]}}}}
    assert len(check_here(alternatives, {"a": [-1] * 1000})) == 1


def test_settings_read_back_are_the_settings() -> None:
    data = {
        "schema": {"type": "object"},
        "indexes": [
            {"name": "a", "fields": ["a.b"], "unique": False},
            {"name": "b", "fields": ["a.b", "c"], "unique": True},
        ],
        "ttl": {"field": "end", "seconds": 0},
        "require_if_match": True,
    }
    assert collection.from_data(data).data == data
    assert collection.from_data(collection.from_data({}).data) == collection.NO_SETTINGS
    assert collection.parse(b'{"ttl":{"seconds":60}}').data == {"ttl": {"seconds": 60}}


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"other": 1}, "/other"),
        ({"schema": {"type": "x"}}, "/schema/type"),
        ({"schema": 1}, "/schema"),
        ({"indexes": {}}, "/indexes"),
        ({"indexes": [{}] * 17}, "/indexes"),
        ({"indexes": [1]}, "/indexes/0"),
        ({"indexes": [{"name": "a b", "fields": ["a"]}]}, "/indexes/0/name"),
        ({"indexes": [{"name": "a", "fields": []}]}, "/indexes/0/fields"),
        ({"indexes": [{"name": "a", "fields": "a"}]}, "/indexes/0/fields"),
        ({"indexes": [{"name": "a", "fields": ["a", "b"]}]}, "/indexes/0/fields"),
        ({"indexes": [{"name": "a", "fields": ["a", "a"], "unique": True}]}, "/indexes/0/fields"),
        ({"indexes": [{"name": "a", "fields": ["$a"]}]}, "/indexes/0/fields/0"),
        ({"indexes": [{"name": "a", "fields": ["id"]}]}, "/indexes/0/fields/0"),
        ({"indexes": [{"name": "a", "fields": ["a"], "unique": 1}]}, "/indexes/0/unique"),
        ({"indexes": [{"name": "a", "fields": ["a"], "sparse": True}]}, "/indexes/0/sparse"),
        ({"indexes": [{"name": "a", "fields": ["a"]}, {"name": "a", "fields": ["b"]}]}, "/indexes/1/name"),
        ({"ttl": 5}, "/ttl"),
        ({"ttl": {}}, "/ttl/seconds"),
        ({"ttl": {"seconds": 0}}, "/ttl/seconds"),
        ({"ttl": {"seconds": True}}, "/ttl/seconds"),
        ({"ttl": {"seconds": -1, "field": "a"}}, "/ttl/seconds"),
        ({"ttl": {"seconds": 1e300}}, "/ttl/seconds"),
        ({"ttl": {"seconds": 1, "field": "a..b"}}, "/ttl/field"),
        ({"require_if_match": "yes"}, "/require_if_match"),
    ],
)
def test_settings_that_are_not_accepted_are_pointed_at(data: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        collection.from_data(data)
    assert [error["pointer"] for error in caught.value.extra["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        (100, 105.0), (0.5, 5.5), ("1970-01-01T00:01:40Z", 105.0), ("1970-01-01T01:01:40.5+01:00", 105.5),
        ("1970-01-01", None), ("soon", None), (None, None), (True, None), ([100], None), ({}, None),
        ("9999-99-99T00:00:00Z", None),
    ],
)  # fmt: skip
def test_a_ttl_on_a_field_takes_instants_and_nothing_else(value: Any, ends: float | None) -> None:
    ttl = collection.TTL(5, ("a", "b"))
    assert ttl.expires(7.0, {"a": {"b": value}}) == ends
    assert ttl.expires(7.0, {"a": [{"b": value}]}) is None and ttl.expires(7.0, {}) is None
    assert collection.TTL(5).expires(7.0, {}) == 12.0
