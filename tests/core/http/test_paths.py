"""One canonical form of a path."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.http.request_target import canonical_path, decode_segment, refuse_encoded_slash, unreachable

PIECES = st.sampled_from(
    ["/", ".", "..", "a", "B", "%2F", "%2f", "%2e", "%2E", "%41", "%7e", "%25", "%00", "%0a", "%5C",
     "%", "%zz", "%c3%a9", "%ff", "%20", " ", "é", "\\", "\x00", "\n", "\x7f", ";", "=", "~", "'", '"', "<",
     "^", "|", "`", "?"]
)  # fmt: skip
PATHS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=30)).map(
    lambda tail: "/" + tail
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("/%61%7E%2D", "/a~-"),
        ("/a%2fb", "/a%2Fb"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a b", "/a%20b"),
        ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
        ("/a%3Ab:c", "/a%3Ab:c"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/...", "/..."),
        ("/.a/..b", "/.a/..b"),
        ("/a%2F..b%2f...", "/a%2F..b%2F..."),
        ("/a%2F%2Fb%2F", "/a%2F%2Fb%2F"),
        ("/..%252Fa", "/..%252Fa"),
        ("/%01", "/%01"),
        ("/a;v=1,2!$&'()*+@", "/a;v=1,2!$&'()*+@"),
    ],
)
def test_canonical_form(path: str, expected: str) -> None:
    assert canonical_path(path) == expected


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "start with a slash"),
        ("a", "start with a slash"),
        ("//", "two slashes"),
        ("//a", "two slashes"),
        ("/a//b", "two slashes"),
        ("/a//", "two slashes"),
        ("/.", "dot segment"),
        ("/..", "dot segment"),
        ("/a/../b", "dot segment"),
        ("/a/./b", "dot segment"),
        ("/a/..", "dot segment"),
        ("/%2e%2E/b", "dot segment"),
        ("/.%2e", "dot segment"),
        ("/x/..%2Fadmin", "dot segment"),
        ("/x/..%2fadmin", "dot segment"),
        ("/x/%2e%2E%2fadmin", "dot segment"),
        ("/x%2F..", "dot segment"),
        ("/x%2F../y", "dot segment"),
        ("/x%2F.%2Fy", "dot segment"),
        ("/%2F..%2F", "dot segment"),
        ("/a%00b", "encoded NUL"),
        ("/a%0ab", "encoded NUL"),
        ("/a%0Db", "encoded NUL"),
        ("/a%5cb", "encoded NUL"),
        ("/a\\b", "must be percent-encoded"),
        ("/a\x00b", "must be percent-encoded"),
        ("/a\nb", "must be percent-encoded"),
        ("/a\tb", "must be percent-encoded"),
        ("/a\x7fb", "must be percent-encoded"),
        ("/é", "must be percent-encoded"),
        ("/\udcff", "must be percent-encoded"),
        ("/%", "two hex digits"),
        ("/%4", "two hex digits"),
        ("/%zz", "two hex digits"),
        ("/%é1", "two hex digits"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(path: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        canonical_path(path)
    assert caught.value.close


@given(PATHS)
def test_canonical_is_idempotent_and_leaves_nothing_to_interpret(path: str) -> None:
    try:
        result = canonical_path(path)
    except BadRequest:
        return
    assert canonical_path(result) == result
    assert re.fullmatch(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-F]{2})+", result)
    assert "//" not in result
    assert not {b".", b".."} & set(unquote_to_bytes(result).split(b"/"))
    assert not {b"\0"[0], 10, 13, ord("\\")} & set(unquote_to_bytes(result))


@given(PATHS)
def test_canonical_means_the_same_bytes_and_the_same_segments(path: str) -> None:
    try:
        result = canonical_path(path)
    except BadRequest:
        return
    assert unquote_to_bytes(result) == unquote_to_bytes(path)
    assert result.count("/") == path.count("/")


@pytest.mark.parametrize("path", ["/admin%2Fusers", "/admin%2fusers", "/%2F", "/a/b%2F"])
def test_an_encoded_slash_is_refused_where_the_route_does_not_pass_it(path: str) -> None:
    with pytest.raises(BadRequest, match="encoded slash") as caught:
        refuse_encoded_slash(canonical_path(path))
    assert caught.value.close


@pytest.mark.parametrize("path", ["/admin/users", "/a%252Fb", "/2F"])
def test_what_holds_no_encoded_slash_is_not_refused(path: str) -> None:
    refuse_encoded_slash(canonical_path(path))


def test_decode_gives_text_and_refuses_other_bytes() -> None:
    assert decode_segment("plain") == "plain"
    assert decode_segment("%C3%A9%2F") == "é/"
    with pytest.raises(BadRequest, match="UTF-8"):
        decode_segment("%FF")


PARTS = st.sampled_from(
    [".", "..", "/", "a", "%", "%2F", "\\", "\n", "\r", "\0", " ", "é", "?", "#", "\t"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8), st.lists(PARTS).map("".join)
)


@given(TEXTS)
def test_a_text_is_reachable_when_a_path_holds_it_as_a_segment(text: str) -> None:
    path = f"/c/{quote(text, safe='')}"
    try:
        segments = canonical_path(path).split("/")
    except BadRequest:
        assert unreachable(text)
        return
    assert bool(unreachable(text)) == (text == "")
    assert len(segments) == 3 and decode_segment(segments[2]) == text
