"""What a hop may not pass on, what a client may not say, what the gateway says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.http import head, headers, response_head
from gateway.core.model import Identity, TenantId

HOP_BY_HOP = ["Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
              "TE", "Trailer", "Transfer-Encoding", "Upgrade"]  # fmt: skip
OURS = ["X-Request-ID", "X-Tenant", "X-Subject", "X-Scopes", "X-Forwarded-For", "X-Forwarded-Proto",
        "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Request-Start", "X-Request-Deadline",
        "X-Real-IP", "Forwarded", "X-Forwarded-Scheme", "X-Forwarded-SSL", "X-Forwarded-Server",
        "X-Forwarded-User",
        "X-Forwarded-Anything-New", "X-Forwarded-", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL",
        "X-Script-Name", "Proxy"]  # fmt: skip
WHO = Identity(TenantId("acme"), "alice", frozenset({"a", "b"}), 0.0, "a b")


def lines(block: bytes) -> list[tuple[str, str]]:
    found = [line.decode("latin-1").partition(": ") for line in block.split(b"\r\n") if line]
    return [(name, value) for name, _, value in found]


def read(pairs: list[tuple[bytes, bytes]]) -> head.Head:
    return head.read(b"".join(b"\r\n%b: %b" % pair for pair in pairs))


def to_backend(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What of a client's headers a backend sees."""
    raw = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in pairs]
    return lines(read(raw).block())


def to_client(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What of a backend's headers the client sees."""
    raw = "\r\n".join(["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in pairs)])
    return lines(response_head.parse(raw.encode(), "GET").lines)


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_headers_pass_neither_way(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert to_backend([(spelling, "chunked")]) == []
        assert to_client([(spelling, "chunked")]) == []


@pytest.mark.parametrize("name", OURS)
def test_what_the_gateway_says_a_client_cannot_say(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert to_backend([(spelling, "forged"), ("A", "b")]) == [("A", "b")]


@pytest.mark.parametrize("name", OURS)
def test_is_ours_knows_each_of_them(name: str) -> None:
    assert headers.is_ours(name.lower())


@pytest.mark.parametrize("name", ["X-Forwarded", "X-Forwarder", "X-Original", "X-Tenants", "Accept"])
def test_a_clients_other_headers_pass(name: str) -> None:
    assert not headers.is_ours(name.lower())
    assert to_backend([(name, "x")]) == [(name, "x")]


def test_what_connection_lists_is_removed_both_ways() -> None:
    pairs = [("Connection", "close, X-Secret"), ("connection", "x-other"), ("X-Secret", "1"), ("X-Other", ""),
             ("Kept", "3")]  # fmt: skip
    assert to_backend(pairs) == [("Kept", "3")]
    assert to_client(pairs) == [("Kept", "3")]


def test_connection_cannot_strip_the_identity_or_the_end_to_end_headers() -> None:
    listed = "X-Tenant, X-Subject, Host, Content-Type, Content-Length"
    pairs = [("Connection", listed), ("X-Tenant", "globex"), ("Content-Type", "a/b")]
    assert [*to_backend(pairs), *lines(WHO.lines)] == [
        ("Content-Type", "a/b"),
        ("X-Tenant", "acme"),
        ("X-Subject", "alice"),
        ("X-Scopes", "a b"),
    ]


def test_repeats_and_their_order_pass_both_ways() -> None:
    pairs = [("Cookie", "a"), ("X", "1"), ("cookie", "b"), ("X", "2")]
    assert to_backend(pairs) == pairs
    cookies = [("Set-Cookie", "a=1"), ("Vary", "x"), ("Set-Cookie", "b=2")]
    assert to_client(cookies) == cookies


def test_authorization_host_length_and_expectation_are_the_gateways_own_business() -> None:
    pairs = [
        ("Authorization", "Bearer x"),
        ("Host", "h"),
        ("Content-Length", "3"),
        ("Expect", "100-continue"),
    ]
    assert to_backend(pairs) == []


@pytest.mark.parametrize("name", ["X_Tenant", "x_tenant", "Content_Length", "_"])
def test_an_underscore_in_a_name_is_ambiguous(name: str) -> None:
    with pytest.raises(BadRequest):
        read([(b"A", b"b"), (name.encode(), b"x")])


@pytest.mark.parametrize("value", [b"\x80", b"a\xffb", b"\xc3\xa9\xc3"])
def test_a_value_that_is_not_utf8_is_ambiguous(value: bytes) -> None:
    with pytest.raises(BadRequest):
        read([(b"A", value)])


def test_other_text_is_not_ambiguous() -> None:
    pairs = [("A", "é\U0001f600"), ("B", "plain"), ("C", "a_b")]
    raw = [(name.encode(), value.encode()) for name, value in pairs]
    assert len(read(raw).lines) == 3


NAMES = st.sampled_from(["X-Tenant", "x-subject", "X-SCOPES", "Connection", "Host", "Cookie", "A", "Upgrade"])
PAIRS = st.lists(
    st.tuples(NAMES, st.sampled_from(["x", "X-Tenant, cookie", "close", "a,,b", ""])), max_size=8
)


@given(PAIRS)
def test_whatever_a_client_sends_the_identity_is_said_once_and_by_us(
    pairs: list[tuple[str, str]],
) -> None:
    sent = [*to_backend(pairs), *lines(WHO.lines)]
    for name, value in [("x-tenant", "acme"), ("x-subject", "alice"), ("x-scopes", "a b")]:
        assert [v for n, v in sent if n.lower() == name] == [value]
    assert not {name.lower() for name, _ in sent} & headers.HOP_BY_HOP
