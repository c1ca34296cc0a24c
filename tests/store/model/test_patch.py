"""JSON Patch (RFC 6902) over documents, and projections."""

import copy
from typing import Any

import pytest

from gateway.core.errors import BadRequest, BodyTooLarge, PatchConflict, Unprocessable
from gateway.store.json.strict import dumps
from gateway.store.model import patch as patches
from gateway.store.model import projection


def patched(data: dict[str, Any], *operations: Any) -> dict[str, Any]:
    before = copy.deepcopy(data)
    patch = patches.parse_json_patch(dumps(list(operations)).encode())
    try:
        return patches.apply(patch, data)
    finally:
        assert data == before


def op(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **({"from": more.pop("source")} if "source" in more else {}), **more}


# The examples of RFC 6902 appendix A, and the corners of RFC 6901.
@pytest.mark.parametrize(
    ("data", "operation", "result"),
    [
        ({"foo": "bar"}, op("add", "/baz", value="qux"), {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, op("add", "/foo/1", value="qux"), {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, op("remove", "/baz"), {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, op("remove", "/foo/1"), {"foo": ["bar", "baz"]}),
        ({"a": 1, "b": 2}, op("replace", "/a", value={}), {"a": {}, "b": 2}),
        ({"a": {"b": 1}, "c": {}}, op("move", "/c/d", source="/a/b"), {"a": {}, "c": {"d": 1}}),
        ({"foo": ["a", "b", "c"]}, op("move", "/foo/2", source="/foo/0"), {"foo": ["b", "c", "a"]}),
        ({"foo": [1, {"a": 2}]}, op("test", "/foo/1", value={"a": 2.0}), {"foo": [1, {"a": 2}]}),
        ({"a": {"x": 1, "y": 2}}, op("test", "/a", value={"y": 2, "x": 1}), {"a": {"x": 1, "y": 2}}),
        ({"foo": ["bar"]}, op("add", "/foo/-", value=["x"]), {"foo": ["bar", ["x"]]}),
        ({"foo": []}, op("add", "/foo/0", value=1), {"foo": [1]}),
        ({"a/b": {"m~n": 1}}, op("replace", "/a~1b/m~0n", value=2), {"a/b": {"m~n": 2}}),
        ({"": {"": 1}}, op("remove", "//"), {"": {}}),
        ({"a": 1}, op("replace", "", value={"b": 2}), {"b": 2}),
        ({"a": 1}, op("test", "", value={"a": 1}), {"a": 1}),
        ({"a": [1]}, op("copy", "/b", source="/a"), {"a": [1], "b": [1]}),
        ({"a": None}, op("test", "/a", value=None), {"a": None}),
        ({"a": {"b": 1}}, op("move", "/a", source="/a"), {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_operations(data: dict[str, Any], operation: Any, result: dict[str, Any]) -> None:
    found = patched(data, operation)
    assert found == result and list(found) == list(result)


@pytest.mark.parametrize(
    ("data", "operation"),
    [
        ({}, op("remove", "/a")),
        ({}, op("replace", "/a", value=1)),
        ({}, op("add", "/a/b", value=1)),
        ({"a": "text"}, op("add", "/a/b", value=1)),
        ({"a": [1]}, op("add", "/a/2", value=1)),
        ({"a": [1]}, op("remove", "/a/1")),
        ({"a": [1]}, op("remove", "/a/-")),
        ({"a": [1]}, op("remove", "/a/00")),
        ({"a": [1]}, op("remove", "/a/-1")),
        ({"a": [1]}, op("replace", "/a/²", value=1)),
        ({"a": [1]}, op("copy", "/b", source="/a/99999999999")),
        ({"a": 1}, op("test", "/a", value=True)),
        ({"a": 1}, op("test", "/b", value=None)),
        ({"a": 1}, op("move", "/b", source="/c")),
    ],
)
def test_what_does_not_fit_the_document_is_a_conflict(data: dict[str, Any], operation: Any) -> None:
    with pytest.raises(PatchConflict):
        patched(data, operation)


@pytest.mark.parametrize(
    ("operations", "pointer"),
    [
        ({}, ""), ([1], "/0"), ([{}], "/0/op"), ([op("spam", "/a")], "/0/op"),
        ([{"op": [], "path": ""}], "/0/op"), ([{"op": "remove"}], "/0/path"),
        ([op("remove", "a")], "/0/path"), ([op("remove", "/a~2")], "/0/path"),
        ([op("remove", "/a~")], "/0/path"), ([op("add", "/a")], "/0/value"), ([op("move", "/a")], "/0/from"),
        ([op("move", "/a/b", source="/a")], "/0/from"), ([op("move", "/a", source="/id")], "/0/path"),
        ([op("replace", "/id", value="x")], "/0/path"), ([op("remove", "/a" * 65)], "/0/path"),
        ([op("remove", "/a")] * 1001, ""),
    ],
)  # fmt: skip
def test_what_is_no_patch_is_pointed_at(operations: Any, pointer: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        patches.parse_json_patch(dumps(operations).encode())
    assert [error["pointer"] for error in caught.value.extra["errors"]] == [pointer]


@pytest.mark.parametrize(
    "operation",
    [
        op("add", "/$a", value=1), op("add", "/a.b", value=1), op("add", "/_x", value=1),
        op("add", "/a", value={"$b": 1}),
        op("replace", "", value=[]), op("replace", "", value={"id": "other"}), op("remove", ""),
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_a_document_is_refused(operation: Any) -> None:
    with pytest.raises(Unprocessable):
        patched({"a": 1}, operation)


def test_a_patch_that_is_not_json_is_refused() -> None:
    with pytest.raises(BadRequest):
        patches.parse_json_patch(b"[")
    with pytest.raises(Unprocessable):
        patches.parse_json_patch(b'[{"op":"add","path":"/a","value":1e999}]')


def test_copies_cannot_double_a_document_without_end() -> None:
    doubling = [op("copy", "/a/-", source="/a")] * 60
    with pytest.raises((BodyTooLarge, Unprocessable)):
        patched({"a": ["x" * 100]}, *doubling)
    flat = [op("copy", f"/b{n}", source="/a") for n in range(1000)]
    with pytest.raises(BodyTooLarge):
        patched({"a": "x" * 100_000}, *flat)


def test_a_patch_cannot_nest_deeper_than_a_document_may_be() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    with pytest.raises(Unprocessable):
        patched({"a": deep, "b": {"c": {"d": {"e": {}}}}}, op("copy", "/b/c/d/e/f", source="/a"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a", {"a": {"b": 1, "c": [{"d": 1, "e": 2}, 5]}}),
        ("a.b", {"a": {"b": 1}}),
        ("a.c.d,f", {"a": {"c": [{"d": 1}]}, "f": None}),
        ("a.b,a", {"a": {"b": 1, "c": [{"d": 1, "e": 2}, 5]}}),
        ("f.x", {}),
        ("id,_created", {}),
        ("-a", {"f": None}),
        ("-a.c.d,-none", {"a": {"b": 1, "c": [{"e": 2}, 5]}, "f": None}),
        ("-a.b.x", {"a": {"b": 1, "c": [{"d": 1, "e": 2}, 5]}, "f": None}),
        ("-a.c,-a.c.d", {"a": {"b": 1}, "f": None}),
    ],
)
def test_a_projection_leaves_what_it_names(text: str, left: dict[str, Any]) -> None:
    data = {"a": {"b": 1, "c": [{"d": 1, "e": 2}, 5]}, "f": None}
    assert projection.parse(text).members(data) == left


@pytest.mark.parametrize(
    "text", ["", ",", "a,-b", "-a,b", "$a", "-id", "-_created", "_other", "a..b", "a," * 50 + "a"]
)
def test_fields_that_are_not_accepted_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="fields"):
        projection.parse(text)


DOUBLING = [op("copy", f"/x{number}", source="") for number in range(20)]


@pytest.mark.parametrize(
    "operations",
    [
        DOUBLING,
        [op("copy", f"/x{number}", source="/text") for number in range(4)],
        [op("move", "/other", source="/many"), op("move", "/many", source="/other")] * 3,
    ],
)
def test_what_is_copied_and_moved_has_bounds_where_the_interpreter_must_not_be_held(
    operations: list[Any],
) -> None:
    data = {"text": "x" * 300, "many": [0] * 100}
    patch = patches.parse_json_patch(dumps(operations).encode())
    with pytest.raises(patches.BeyondBounds):
        patches.apply(patch, data, bounds=patches.Bounds(1000, 400))
    assert data == {"text": "x" * 300, "many": [0] * 100}, "nothing was changed"


def test_within_its_bounds_a_patch_makes_what_it_makes_without() -> None:
    patch = patches.parse_json_patch(dumps(DOUBLING[:5]).encode())
    data = {"a": {"b": [1, 2]}}
    assert patches.apply(patch, data, bounds=patches.Bounds(1000, 400)) == patches.apply(patch, data)
