"""The request target and the Host header."""

from __future__ import annotations

import pytest

from gateway.core.errors import BadRequest, MethodNotAllowed, NotImplementedByGateway
from gateway.core.http.request_target import host_of, likely, resolve


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a", ("h", "/a", "")),
        ("/a?", ("h", "/a", "")),
        ("/a?b=c?d/..//%zz", ("h", "/a", "b=c?d/..//%zz")),
        ("/%61?%61", ("h", "/a", "%61")),
        ("/a?é\U0001f600\udcff", ("h", "/a", "é\U0001f600\udcff")),
    ],
)
def test_origin_form(target: str, expected: tuple[str, str, str]) -> None:
    assert resolve("GET", target, ["h"]) == expected


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://Other.Example/x?y", "other.example", ("other.example", "/x", "y")),
        ("HTTPS://o:1/x", "O.:1", ("o", "/x", "")),
        ("http://o", "o", ("o", "/", "")),
        ("http://o?q", "o:80", ("o", "/", "q")),
        ("http://o:", "o", ("o", "/", "")),
        ("https://o:443/", "o", ("o", "/", "")),
        ("http://[::1]:80/x", "[::1]", ("[::1]", "/x", "")),
    ],
)
def test_absolute_form_that_agrees_with_host(target: str, host: str, expected: tuple[str, str, str]) -> None:
    assert resolve("GET", target, [host]) == expected


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://admin.example/x", "public.example"),
        ("http://h:81/", "h"),
        ("http://h/", "h:81"),
        ("https://h/", "h:80"),
        ("http://h/", "h:443"),
        ("http://[::1]/", "[::2]"),
        ("http://hh/", "h"),
    ],
)
def test_absolute_form_that_disagrees_with_host_is_400(target: str, host: str) -> None:
    with pytest.raises(BadRequest, match="another host") as caught:
        resolve("GET", target, [host])
    assert caught.value.close


@pytest.mark.parametrize(
    "target",
    ["", "*", "a", "?q", "ftp://h/", "http://", "http:///x", "http://user@h/", "http://h h/", "//h/x", "/a#b",
     "http://h/#b", "/a?b c", "/a?b\tc", "/a?\x00", "/a?b\x7f", "/a/../b", "http://h/../b", "h:443"],
)  # fmt: skip
def test_other_targets_are_400(target: str) -> None:
    with pytest.raises(BadRequest) as caught:
        resolve("GET", target, ["h"])
    assert caught.value.close


def test_asterisk_form_is_for_options_alone() -> None:
    assert resolve("OPTIONS", "*", ["h"]) == ("h", "*", "")


def test_connect_is_501_and_trace_405() -> None:
    with pytest.raises(NotImplementedByGateway):
        resolve("CONNECT", "h:443", ["h"])
    with pytest.raises(MethodNotAllowed) as caught:
        resolve("TRACE", "/", ["h"])
    assert "TRACE" not in caught.value.headers["Allow"]


@pytest.mark.parametrize("method", ["", "get", "G T", "GET\n", "G" * 33, "É", "1GET", "GET/"])
def test_a_malformed_method_is_400(method: str) -> None:
    with pytest.raises(BadRequest, match="method"):
        resolve(method, "/", ["h"])


@pytest.mark.parametrize("hosts", [[], ["a", "b"], ["a", "a"]])
def test_there_is_exactly_one_host(hosts: list[str]) -> None:
    with pytest.raises(BadRequest, match="exactly one Host"):
        resolve("GET", "/", hosts)
    with pytest.raises(BadRequest, match="exactly one Host"):
        resolve("GET", "http://a/", hosts)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com:", "example.com"),
        ("my_host", "my_host"),
        ("1.2.3.4:5", "1.2.3.4"),
        ("[::1]", "[::1]"),
        ("[FE80::1]:443", "[fe80::1]"),
        ("x", "x"),
    ],
)
def test_host_without_port_case_and_root_dot(authority: str, host: str) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize(
    "authority",
    [":80", "a b", "a,b", "a/b", "a@b", "a:b", "a:123456", "a:80:80", "-a", ".a", "[::1", "::1", "[x]",
     "[:::1]", "[1.2.3.4]", "[::]]",
     "[1::2::3]", "[::12345]", "[:]:80", "[1:2:3:4:5:6:7]",
     "é", "a\n", "a" * 254, "a?b", "a#b", "\udcff"],
)  # fmt: skip
def test_an_invalid_host_is_400(authority: str) -> None:
    with pytest.raises(BadRequest, match="not a valid host"):
        host_of(authority)


@pytest.mark.parametrize(
    ("given", "hosts", "found"),
    [
        ("/a/%00", ["h"], ("h", "/a/-")), ("/a//b", ["H:80"], ("h", "/a/-/b")), ("/a/", ["h"], ("h", "/a/")),
        ("/a/../b?c#d", ["h"], ("h", "/a/-/b")), ("/%61/%ff", ["h"], ("h", "/a/-")), ("/", [], ("", "/")),
        ("/a/\u00e9/%2e", ["x y"], ("", "/a/-/-")), ("a/b", ["h", "h"], ("", "/a/b")),
        ("", ["h"], ("h", "/")),
        ("/a#b/c", ["h"], ("h", "/a")), ("http://x/a/%5c", ["h"], ("h", "/a/-")),
        ("http://x", ["h"], ("h", "/")),
        ("/a%2Fb/%2F..", ["h"], ("h", "/a%2Fb/-")), ("*", ["h"], ("h", "/*")),
    ],
)  # fmt: skip
def test_of_what_is_refused_the_likely_path_is_told(
    given: str, hosts: list[str], found: tuple[str, str]
) -> None:
    assert likely(given, hosts) == found


def test_of_a_path_without_end_only_the_beginning_is_looked_at() -> None:
    _, path = likely("/a" * 100 + "/%00", ["h"])
    assert path == "/a" * 32 + "/-"
