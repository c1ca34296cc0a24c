"""What a document may be: JSON without traps, ids, collection names, merge patches."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, Unprocessable
from gateway.store.json import strict
from gateway.store.model import document
from gateway.store.model.document import Precondition, merge_patch, new_id, parse_members


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"a":1,"a":2}', "/a"),
        (b'{"x":[{"a":1,"b":0,"a":2}]}', "/x/0/a"),
        (b'{"a":NaN}', "/a"),
        (b'{"a":[1,-Infinity]}', "/a/1"),
        (b'{"a":1e999}', "/a"),
        (b'{"a":"x\\u0000"}', "/a"),
        (b'{"a":["\\ud800"]}', "/a/0"),
        (b'{"\\ud800":1}', "/?"),
        (b'{"a\\u0000":1}', "/a\0"),
        (b'{"a":9223372036854775808}', "/a"),
        (b'{"a":-9223372036854775809}', "/a"),
        (b'{"a":' + b"9" * 5000 + b"}", ""),
        (b'{"$set":{}}', "/$set"),
        (b'{"a":{"$where":1}}', "/a/$where"),
        (b'{"a/b":{"c.d~":1}}', "/a~1b/c.d~0"),
        (b'{"_etag":"x"}', "/_etag"),
        (b'{"id":"other"}', "/id"),
        (b'{"id":null}', "/id"),
        (b"[]", ""),
        (b"null", ""),
        (b'"text"', ""),
    ],
)
def test_json_that_cannot_be_a_document_is_refused_with_a_pointer(raw: bytes, pointer: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        parse_members(raw, "own")
    assert [error["pointer"] for error in caught.value.extra["errors"]] == [pointer]
    json.dumps(caught.value.extra, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{'a':1}", b'{"a":1,}', b"\xff", b'{"a":"\xed\xa0\x80"}', b'\xef\xbb\xbf{}', b"{}{}",
     b'{"a":"\n"}', b'{"a":01}', '{"a":1}'.encode("utf-16")],
)  # fmt: skip
def test_what_is_not_json_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_members(raw, None)


def nested(depth: int, opening: str, closing: str) -> bytes:
    return (opening * depth + closing * depth).encode()


def test_nesting_is_allowed_to_its_limit_and_not_beyond() -> None:
    deepest = nested(strict.MAX_DEPTH - 1, "[", "]")
    assert parse_members(b'{"a":' + deepest + b"}", None)
    for depth in (strict.MAX_DEPTH, 500, 2_000, 1_000_000):
        for raw in (nested(depth, "[", "]"), nested(depth, '{"a":', "}").replace(b":}", b":0}")):
            with pytest.raises(Unprocessable):
                parse_members(b'{"a":' + raw + b"}", None)


def test_all_problems_come_at_once_but_not_without_end() -> None:
    raw = json.dumps({f"${n}": float("nan") for n in range(100)}).encode()
    with pytest.raises(Unprocessable) as caught:
        parse_members(raw, None)
    assert len(caught.value.extra["errors"]) == strict.MAX_PROBLEMS


def test_an_integer_has_one_form() -> None:
    assert strict.dumps(parse_members(b'{"a":[1.0,1e2,-0.0,1e18,2.5]}', None)) == (
        '{"a":[1,100,0,1000000000000000000,2.5]}'
    )


def test_the_id_in_a_body_must_be_the_documents_own_and_is_not_a_member() -> None:
    assert parse_members(b'{"id":"own","a":{"id":5,"_x":1}}', "own") == {"a": {"id": 5, "_x": 1}}
    with pytest.raises(Unprocessable):
        parse_members(b'{"id":"own"}', None)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text("abcé\U0001f600/~_ ", max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(plain)
def test_everything_else_is_kept_exactly(value: Any) -> None:
    assert parse_members(json.dumps({"a": value}).encode(), None) == {"a": value}


# RFC 7396, appendix A, all of it.
@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_merge_patch_does_as_its_rfc_shows(original: str, patch: str, result: str) -> None:
    before = json.loads(original)
    assert merge_patch(before, json.loads(patch)) == json.loads(result)
    assert before == json.loads(original)


@pytest.mark.parametrize("name", ["", "a" * 201, "é" * 101, "a\nb", "a\0", "\x7f", "\x85", "\ud800"])
def test_an_id_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        document.check_id(name)


@pytest.mark.parametrize("name", ["a", "é" * 100, "a b", "a/b", '{"$ne":1}', "...", "\U0001f600"])
def test_every_other_text_is_an_id(name: str) -> None:
    document.check_id(name)


@pytest.mark.parametrize("name", ["", "a" * 65, "a.b", "a b", "$a", "é", "a\n", "a/b"])
def test_a_collection_has_a_plain_name(name: str) -> None:
    document.check_collection("Orders_2-x")
    with pytest.raises(BadRequest):
        document.check_collection(name)


def test_a_new_id_is_a_uuid7_of_now() -> None:
    made = uuid.UUID(new_id())
    assert made.version == 7 and made.variant == uuid.RFC_4122


def test_if_match_is_asked_before_if_none_match() -> None:
    both = Precondition(match=frozenset({'"a"'}), none_match=frozenset({'"a"'}))
    with pytest.raises(Exception, match="If-None-Match"):
        both.require('"a"')
    with pytest.raises(Exception, match="If-Match"):
        both.require('"b"')
    Precondition(none_match=frozenset({"*"})).require(None)
