"""What a check costs is known before it begins; what may be costly is checked by a worker process."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import SchemaTooCostly, SchemaViolation, Unprocessable
from gateway.runtime.processes.pool import Limits, ProcessPool
from gateway.store.model import collection
from gateway.store.schema import checks as schema_checks
from gateway.store.schema import reading, validate
from gateway.store.schema.checks import Checks, Postponed, with_schemas
from gateway.store.schema.validate import Schema

MIB = 1024 * 1024


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(2)
    yield pool
    await pool.close()


def text_of(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


async def checked(pool: ProcessPool, value: dict[str, Any], *documents: dict[str, Any]) -> int:
    """Check documents as one operation of a store does; how many attempts that took."""
    asked, checks, attempts = Schema(value), Checks(), 0
    while not attempts or checks.postponed:
        if attempts:
            await checks.settle(pool, "acme")
        attempts += 1
        for data in documents:
            with suppress(Postponed):  # as a bulk does
                checks.check(asked, data, text_of(data))
    return attempts


def items(inner: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"a": {"items": inner}}}


ALTERNATIVES = items({"anyOf": [{"const": n} for n in range(1500)]})
EVERY_SECOND = "".join("ab"[n * n % 7 % 2] for n in range(20_000))
COSTLY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alternatives": (ALTERNATIVES, {"a": [1499] * 1000}),
    "a mixed enum": (items({"enum": [None, *(n + 0.5 for n in range(1000))]}), {"a": [999.5] * 100}),
    "an enum of numbers, and other numbers": (items({"enum": [0.5, *range(1000)]}), {"a": [0.5] * 3000}),
    "an enum of objects": (items({"enum": [{"a": [n]} for n in range(300)]}), {"a": [{"a": [299]}] * 500}),
    "unique integers that share a double": (
        {"properties": {"a": {"uniqueItems": True}}},
        {"a": [2**62 + n for n in range(3000)]},
    ),
    "unique values that differ in the end": (
        {"properties": {"a": {"uniqueItems": True}}},
        {"a": [[[0] * 100, 2**62 + n] for n in range(200)]},
    ),
    "a pattern with a state for each byte": (items({"pattern": "[ab]*a[ab]{200}c?"}), {"a": [EVERY_SECOND]}),
    "many patterns of names": (
        {"properties": {"a": {"patternProperties": {f"[xyz]+{n}$": {} for n in range(100)}}}},
        {"a": {f"x{n}": 1 for n in range(1000)}},
    ),
    "contains": (
        {"properties": {"a": {"allOf": [{"contains": {"const": -n}} for n in range(1, 50)]}}},
        {"a": list(range(-50, 3000))},
    ),
    "conditions": (
        items({"allOf": [{"if": {"const": n}, "then": {"type": "integer"}} for n in range(100)]}),
        {"a": list(range(1000))},
    ),
    "multiples": (items({"multipleOf": 1e-300}), {"a": [1.7e300] * 3000}),
    "unevaluated": (
        {
            "properties": {
                "a": {
                    "anyOf": [{"properties": {f"k{n}": {}}, "required": ["z"]} for n in range(50)] + [True],
                    "unevaluatedProperties": True,
                }
            }
        },
        {"a": {f"k{n}": n for n in range(1000)}},
    ),
}


@pytest.mark.parametrize(("value", "data"), COSTLY.values(), ids=COSTLY.keys())
def test_what_may_be_costly_is_not_checked_here_and_the_bound_holds(
    value: dict[str, Any], data: dict[str, Any]
) -> None:
    asked, size = Schema(value), len(text_of(data))
    assert validate.problems(value) == []
    assert asked.check_now(data, size) == (False, 0.0)
    bound = validate.all_costs(asked).of(data, size, float("inf"))
    validator = asked.validator()
    validator.is_valid({"a": []})
    took = min(_seconds(validator, data) for _ in range(3))
    assert took * 1e9 <= 4 * bound


def _seconds(validator: validate.Validator, data: Any) -> float:
    begin = time.process_time()
    validator.is_valid(data)
    return time.process_time() - begin


def test_what_is_cheap_is_checked_here() -> None:
    address = {
        "type": "object",
        "properties": {"city": {"type": "string", "minLength": 1}},
        "required": ["city"],
    }
    value = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Z][a-z]+$"},
            "mail": {"type": "string", "format": "email"},
            "land": {"enum": [f"land {n}" for n in range(250)]},
            "home": {"$ref": "#/$defs/address"},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        },
        "required": ["name", "mail"],
        "$defs": {"address": address},
    }
    data = {"name": "Ada", "mail": "a@b.org", "land": "land 7", "home": {"city": "x"}, "tags": ["a", "b"]}
    done, cost = Schema(value).check_now(data, len(text_of(data)))
    assert done
    assert cost < validate.INLINE
    large = {**data, "other": {f"k{n}": {"text": "x" * 50} for n in range(500)}}
    assert Schema(value).check_now(large, len(text_of(large)))[0]


async def test_a_costly_check_has_the_same_verdict_from_a_worker(pool: ProcessPool) -> None:
    assert await checked(pool, ALTERNATIVES, {"a": [1499] * 100}) == 2
    with pytest.raises(SchemaViolation) as caught:
        await checked(pool, ALTERNATIVES, {"a": [1] * 99 + [-1]})
    assert caught.value.extra["errors"][0]["pointer"] == "/a/99"


async def test_many_documents_are_checked_together_and_each_has_its_own_verdict(pool: ProcessPool) -> None:
    documents = [{"a": [n] * 50} for n in range(100)]
    assert await checked(pool, ALTERNATIVES, *documents) == 2
    with pytest.raises(SchemaViolation):
        await checked(pool, ALTERNATIVES, *documents, {"a": [-1] * 50})


async def test_many_cheap_checks_of_one_operation_become_one_of_a_worker(pool: ProcessPool) -> None:
    value = items({"anyOf": [{"const": n} for n in range(100)]})
    documents = [{"a": [n % 100]} for n in range(1000)]
    assert await checked(pool, value, documents[0]) == 1
    assert await checked(pool, value, *documents) > 1


async def test_a_check_beyond_the_limits_of_time_is_refused(pool: ProcessPool) -> None:
    value = items({"enum": [None, *(n + 0.5 for n in range(2000))]})
    with pytest.raises(SchemaTooCostly):
        await checked(pool, value, {"a": [1999.5] * 20_000})
    assert await checked(pool, value, {"a": [1.5]}) == 2


async def test_an_error_that_is_beyond_the_limits_of_memory_is_a_violation_all_the_same(
    pool: ProcessPool,
) -> None:
    value = {"anyOf": [{"required": [f"k{n}"]} for n in range(1500)]}
    with pytest.raises(SchemaViolation) as caught:
        await checked(pool, value, {"a": list(range(100_000))})
    assert [error["pointer"] for error in caught.value.extra["errors"]] == [""]


async def test_a_schema_that_takes_long_to_compile_is_read_and_asked_in_a_worker(pool: ProcessPool) -> None:
    value = items({"anyOf": [{"pattern": f"^\\p{{L}}{{20}}{n}$"} for n in range(4)]})

    async def attempt() -> collection.CollectionSettings:
        return collection.from_data({"schema": value}, apart=True)

    assert (await with_schemas(pool, "acme", attempt)).schema == value
    assert Schema(value).costs is None
    assert await checked(pool, value, {"a": ["ä" * 20 + "1"]}) == 2
    costs = Schema(value).costs
    assert costs is not None
    assert not costs.inline
    assert costs.size > 2 * MIB
    with pytest.raises(SchemaViolation):
        await checked(pool, value, {"a": ["ä" * 20 + "7"]})


@pytest.mark.parametrize(
    "patterns",
    [
        [rf"(?i)\pL{n}" for n in range(100)],
        [f"^a{n}$" for n in range(reading.QUICK_PATTERNS + 1)],
        [r"\w"],
        [r"\d{4}-\d{2}"],
        ["(?i)[!-\U0010ffff]"],
        ["." * 60],
    ],
)
async def test_many_or_large_patterns_of_a_schema_are_compiled_in_a_worker_and_once(
    pool: ProcessPool, patterns: list[str]
) -> None:
    """However short its text is; what was found wrong is remembered too."""
    value = {"properties": {f"{n}": {"pattern": pattern} for n, pattern in enumerate([*patterns, "("])}}
    with pytest.raises(validate.Unread):
        validate.problems_now(value)

    async def attempt() -> collection.CollectionSettings:
        return collection.from_data({"schema": value}, apart=True)

    with pytest.raises(Unprocessable):
        await with_schemas(pool, "acme", attempt)
    assert validate.problems_now(value)


def test_the_costs_of_many_or_large_patterns_are_not_found_at_once() -> None:
    """A document is checked in a worker process then, which finds them."""
    assert Schema({"properties": {f"{n}": {"pattern": f"^c{n}$"} for n in range(9)}}).costs is None
    assert Schema({"pattern": r"^c\d{9}$"}).costs is None
    costs = Schema({"properties": {f"{n}": {"pattern": f"^c{n}$"} for n in range(8)}}).costs
    assert costs is not None and costs.inline


def test_a_schema_of_many_patterns_is_never_compiled_at_once() -> None:
    assert not validate.all_costs(Schema({"allOf": [{"pattern": f"^m{n}$"} for n in range(100)]})).inline


async def test_a_schema_that_is_refused_in_a_worker_is_pointed_at(pool: ProcessPool) -> None:
    value = {"allOf": [{"pattern": f"\\p{{L}}{{20}}{n}"} for n in range(400)]}

    async def attempt() -> collection.CollectionSettings:
        return collection.from_data({"schema": value}, apart=True)

    with pytest.raises(Unprocessable) as caught:
        await with_schemas(pool, "acme", attempt)
    assert caught.value.extra["errors"][0]["pointer"] == "/schema/allOf/4/pattern"


def test_compiled_schemas_are_let_go_when_they_are_too_many_and_compiled_again() -> None:
    known = validate._SchemaCache()
    made = [Schema({"properties": {f"p{n}": {"pattern": f"^\\d{{5}}{n}"}}}) for n in range(2)]
    first, validator = known.compiled(made[0])
    first.size = known._size = validate.MAX_COMPILED
    first.used = False
    known.compiled(made[1])
    assert first.validator is None
    assert validator.is_valid({})
    again, _ = known.compiled(made[0])
    assert again is not first
    assert known._size < validate.MAX_COMPILED


# --- schemas and documents of all kinds ---

_plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(2**62, 2**62 + 9),
    st.floats(-9, 9, width=16),
    st.sampled_from(["", "a", "ab", "é" * 9, "a@b.org", "2020-01-01"]),
)
_values = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=30,
)
_leaves = st.one_of(
    st.just({}),
    st.booleans(),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "array", "object", "null"])}
    ),
    st.fixed_dictionaries({"enum": st.lists(_plain, min_size=1, max_size=6)}),
    st.fixed_dictionaries({"const": _values}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["^a+$", "[ab]*a[ab]{9}c", "\\p{L}{2}", "\\d"])}),
    st.fixed_dictionaries({"format": st.sampled_from(["date", "email", "uri", "uuid", "regex"])}),
    st.fixed_dictionaries({"uniqueItems": st.booleans(), "minItems": st.integers(0, 3)}),
    st.fixed_dictionaries({"minimum": st.floats(-5, 5), "multipleOf": st.sampled_from([1, 0.5, 0.01])}),
    st.fixed_dictionaries({"required": st.lists(st.sampled_from("abc"), unique=True)}),
    st.fixed_dictionaries({"$ref": st.sampled_from(["#/$defs/a", "#/%24defs/b", "#/$defs/a/items"])}),
)


def _applied(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    many = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    return st.one_of(
        *(st.fixed_dictionaries({name: many}) for name in ("allOf", "anyOf", "oneOf", "prefixItems")),
        *(
            st.fixed_dictionaries({name: named})
            for name in ("properties", "patternProperties", "dependentSchemas")
        ),
        *(
            st.fixed_dictionaries({name: inner})
            for name in ("not", "items", "contains", "additionalProperties", "propertyNames")
        ),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
        st.fixed_dictionaries({"anyOf": many, "unevaluatedItems": inner, "unevaluatedProperties": inner}),
    )


_schemas = st.recursive(_leaves, _applied, max_leaves=12)
_whole = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.sampled_from("abc"), _schemas, min_size=1, max_size=3)},
    optional={"$defs": st.fixed_dictionaries({"a": _schemas, "b": _schemas}), "$id": st.just("https://x/y")},
)
_documents = st.dictionaries(st.sampled_from("abcd"), _values, max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(_whole, _documents)
def test_the_canonical_form_means_what_was_written_and_its_bound_holds(
    value: dict[str, Any], data: dict[str, Any]
) -> None:
    if validate.problems(value):
        return
    asked, size = Schema(value), len(text_of(data).encode())
    kind = jsonschema_rs.Draft202012Validator
    said = kind(
        {name: part for name, part in value.items() if name != "$id"}, offline=True, validate_formats=True
    ).is_valid(data)
    validator = asked.validator()
    assert validator.is_valid(data) == said
    bound = validate.all_costs(asked).of(data, size, float("inf"))
    took = min(_seconds(validator, data) for _ in range(3))
    assert took * 1e9 <= 4 * bound + 1e6
    try:
        done, _ = asked.check_now(data, size)
    except SchemaViolation:
        assert not said
    else:
        assert said or not done


async def test_a_worker_and_this_process_find_the_same(pool: ProcessPool) -> None:
    examples = [
        ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": [1, "x", 2]}),
        ({"required": ["a"], "properties": {"b": {"const": 2**62 + 1}}}, {"b": 2**62}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1.0, 2**62, 2**62 + 1]}),
        ({"properties": {"é": {"maxLength": 2}}}, {"é": "äöü"}),
        ({"properties": {"a": {"$ref": "#/%24defs/n"}}, "$defs": {"n": {"type": "null"}}}, {"a": None}),
    ]
    for value, data in examples:
        asked = Schema(value)
        here = schema_checks.violations(asked, validate.all_costs(asked), data, len(text_of(data)))
        document = text_of(data).encode()
        there, costs, _ = await pool.run("a", schema_checks.check_texts, asked.text, (document,))
        assert there == [here]
        assert costs == asked.costs


def test_what_is_read_of_a_reference_is_what_the_validator_follows() -> None:
    value = {"properties": {"a": {"$ref": "#/%24defs/x%7E1y"}}, "$defs": {"x/y": {"type": "string"}}}
    form = reading.read(value).form
    assert form["properties"]["a"]["$ref"].startswith("#/$defs/r")
    validator = Schema(value).validator()
    assert validator.is_valid({"a": "x"})
    assert not validator.is_valid({"a": 1})


async def test_what_the_workers_worked_is_charged_to_an_operation_and_not_that_they_waited() -> None:
    class Pool:
        """Each of whose jobs takes so much of a processor, however long that takes."""

        limits = Limits()
        used = 0.0
        jobs = 0

        async def run(self, tenant: str, function: Any, text: str, documents: Any) -> Any:
            self.jobs += 1
            return [()] * len(documents), validate.all_costs(Schema(json.loads(text))), self.used

    async def done(pool: Pool) -> int:
        checks = Checks()
        checks.left = 0
        for number in range(8):
            with suppress(Postponed):
                checks.check(Schema({"maxProperties": number}), {}, "{}")
        await checks.settle(cast(ProcessPool, pool), "a")
        return pool.jobs

    waits, works = Pool(), Pool()
    works.used = schema_checks._SECONDS * 0.4
    assert (await done(waits), await done(works)) == (8, 3)
