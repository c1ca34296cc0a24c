"""Origins are told apart byte for byte, so they have one form: the one that browsers write."""

from __future__ import annotations

import pytest

from gateway.core.routing.names import serialized_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTPS://App.Example/", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://a:08080/path?x#y", "http://a:8080"),
        ("https://user:word@a.example", "https://a.example"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("http://[FE80::1]", "http://[fe80::1]"),
        ("wss://a.example", "https://a.example"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("https://a.example.", "https://a.example."),
        ("https://under_score.example", "https://under_score.example"),
    ],
)
def test_an_origin_has_the_form_that_browsers_write(text: str, origin: str) -> None:
    assert serialized_origin(text) == origin
    assert serialized_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "null", "a.example", "//a.example", "https://", "https:///x", "https://*.a.example",
        "http://a b",
        "https://a..b", "https://-a", "http://a:0", "http://a:65536", "http://a:1234567", "http://[1::2::3]",
        "http://" + "a" * 64, "http://[::1", "data:text/html", "https://a,https://b", "http://\u2028",
    ],
)  # fmt: skip
def test_what_is_none_is_none(text: str) -> None:
    assert serialized_origin(text) is None
