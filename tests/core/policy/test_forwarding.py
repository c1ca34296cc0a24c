"""X-Forwarded-*: whose word counts, and what the backend is told."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.core.model import TrustedProxies
from gateway.core.policy import forwarding
from gateway.core.routing.compile import compile_data

PROXIES = TrustedProxies((ip_network("10.0.0.0/8"), ip_network("fd00::/8")), unix=True)
FORGED = [
    ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil"),
    ("x-forwarded-port", "444"), ("x-forwarded-prefix", "/evil"),
]  # fmt: skip


def told(
    *said: tuple[str, str], peer: str = "10.0.0.9", host: str = "h:8080", prefix: str = "/cat"
) -> dict[str, str]:
    """What the backend is told, by the end of the name."""
    pairs = forwarding.pairs(peer, said, PROXIES, scheme="http", host=host, prefix=prefix)
    assert len(dict(pairs)) == len(pairs)
    return {name.removeprefix("X-Forwarded-"): value for name, value in pairs}


def test_without_a_word_of_a_proxy_the_request_speaks_for_itself() -> None:
    assert told(peer="1.2.3.4") == {
        "For": "1.2.3.4", "Proto": "http", "Host": "h:8080", "Port": "8080", "Prefix": "/cat",
    }  # fmt: skip


def test_a_trusted_chain_is_continued() -> None:
    assert told(*FORGED) == {
        "For": "6.6.6.6, 10.0.0.9", "Proto": "https", "Host": "evil", "Port": "444", "Prefix": "/evil/cat",
    }  # fmt: skip


def test_without_a_prefix_and_without_a_host_none_is_said() -> None:
    assert told(prefix="", host="") == {"For": "10.0.0.9", "Proto": "http", "Port": "80"}


@pytest.mark.parametrize(
    ("said", "host", "port"),
    [
        ([], "h:8080", "8080"),
        ([], "h", "80"),
        ([], "h:", "80"),
        ([], "[2001:db8::1]:8443", "8443"),
        ([], "[2001:db8::1]", "80"),
        ([("x-forwarded-proto", "https")], "h", "443"),
        ([("x-forwarded-proto", "https")], "h:8080", "8080"),
        ([("x-forwarded-proto", "https"), ("x-forwarded-host", "api.example")], "h:8080", "443"),
        ([("x-forwarded-proto", "https"), ("x-forwarded-host", "api.example:8443")], "h", "8443"),
        ([("x-forwarded-host", "[2001:db8::2]:81")], "h:8080", "81"),
        ([("x-forwarded-host", "[2001:db8::2]")], "h:8080", "80"),
        ([("x-forwarded-host", "api.example:8443"), ("x-forwarded-port", "443")], "h:8080", "443"),
        ([("x-forwarded-port", "443, 8080")], "h:8080", "443"),
        ([("x-forwarded-port", "0")], "h:8080", "8080"),
        ([("x-forwarded-port", "65536")], "h:8080", "8080"),
        ([("x-forwarded-port", "123456")], "h:8080", "8080"),
        ([("x-forwarded-port", "-1")], "h:8080", "8080"),
        ([("x-forwarded-port", "\u0664\u0664")], "h:8080", "8080"),
    ],
)
def test_the_port_is_that_of_the_public_host_or_the_schemes(
    said: list[tuple[str, str]], host: str, port: str
) -> None:
    assert told(*said, host=host)["Port"] == port


@pytest.mark.parametrize(
    ("values", "proto"),
    [
        (["https, http"], "https"),
        (["https,http,http"], "https"),
        (["https", "http"], "https"),
        (["http, https"], "http"),
        (["HTTPS"], "https"),
        ([" , https"], "https"),
        (["wss"], "https"),
        (["ws"], "http"),
        (["gopher"], "http"),
        (["gopher, https"], "http"),
        (["https;http"], "http"),
        ([""], "http"),
    ],
)
def test_of_a_list_of_schemes_the_first_counts(values: list[str], proto: str) -> None:
    assert told(*[("x-forwarded-proto", value) for value in values])["Proto"] == proto


@pytest.mark.parametrize(
    ("values", "host"),
    [
        (["api.example, inner.example"], "api.example"),
        (["api.example", "inner.example"], "api.example"),
        (["api.example:8443, inner"], "api.example:8443"),
        (["[2001:db8::2]:81, inner"], "[2001:db8::2]:81"),
        (["api.example:"], "api.example"),
        (["a/b"], "h:8080"),
        (["a b"], "h:8080"),
        (["a:99999"], "h:8080"),
        (["user@host"], "h:8080"),
        (["2001:db8::2"], "h:8080"),
        (["", ","], "h:8080"),
    ],
)
def test_of_a_list_of_hosts_the_first_counts_and_junk_is_taken_for_unsaid(
    values: list[str], host: str
) -> None:
    assert told(*[("x-forwarded-host", value) for value in values])["Host"] == host


@pytest.mark.parametrize(
    ("values", "prefix"),
    [
        (["/a"], "/a/cat"),
        (["/a/"], "/a/cat"),
        (["/"], "/cat"),
        (["/a/b, /c"], "/a/b/c/cat"),
        (["/a", "/b"], "/a/b/cat"),
        (["//evil.example"], "/cat"),
        (["/a//b"], "/cat"),
        (["/a/../b"], "/cat"),
        (["/./a"], "/cat"),
        (["/a/.."], "/cat"),
        (["/..a/b.c"], "/..a/b.c/cat"),
        (["a"], "/cat"),
        (["/a b"], "/cat"),
        (["/a?b"], "/cat"),
        (["/a\\b"], "/cat"),
        (["/%2e%2e"], "/cat"),
        (["/it's/caf%C3%A9"], "/it's/caf%C3%A9/cat"),
        (["/a%2Fb"], "/cat"),
        (["/a%5cb"], "/cat"),
        (["/a%0d%0a"], "/cat"),
        (["/a%zz"], "/cat"),
        (["/a%"], "/cat"),
        (["/a", "http://evil"], "/cat"),
    ],
)
def test_prefixes_are_joined_and_junk_is_taken_for_unsaid(values: list[str], prefix: str) -> None:
    assert told(*[("x-forwarded-prefix", value) for value in values])["Prefix"] == prefix


@pytest.mark.parametrize(
    ("peer", "chains", "expected"),
    [
        ("10.0.0.9", ["203.0.113.9"], "203.0.113.9, 10.0.0.9"),
        ("10.0.0.9", ["203.0.113.9, 10.0.0.2"], "203.0.113.9, 10.0.0.2, 10.0.0.9"),
        ("10.0.0.9", ["1.1.1.1, 203.0.113.9", "10.0.0.2"], "203.0.113.9, 10.0.0.2, 10.0.0.9"),
        ("10.0.0.9", ["203.0.113.9,"], "203.0.113.9, 10.0.0.9"),
        ("10.0.0.9", [", ,203.0.113.9, \t,", "", " , 10.0.0.2,,"], "203.0.113.9, 10.0.0.2, 10.0.0.9"),
        ("10.0.0.9", [",", ""], "10.0.0.9"),
        ("10.0.0.9", ["1.1.1.1, junk,"], "10.0.0.9"),
        ("10.0.0.9", ["1.1.1.1, junk"], "10.0.0.9"),
        ("10.0.0.9", ["203.0.113.9:4711"], "203.0.113.9, 10.0.0.9"),
        ("10.0.0.9", ["[2001:db8::1]:80"], "2001:db8::1, 10.0.0.9"),
        ("10.0.0.9", ["::ffff:203.0.113.9"], "203.0.113.9, 10.0.0.9"),
        ("::ffff:10.0.0.9", [], "10.0.0.9"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("", ["203.0.113.9"], "203.0.113.9, unknown"),
        ("", [], "unknown"),
    ],
)
def test_the_first_of_the_chain_is_the_client_and_never_its_own_word(
    peer: str, chains: list[str], expected: str
) -> None:
    said = [("x-forwarded-for", chain) for chain in chains]
    assert told(*said, peer=peer)["For"] == expected


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("10.1.2.3", True), ("11.0.0.1", False), ("fd00::1", True), ("fd00::1%eth0", True), ("fe80::1", False),
     ("::ffff:10.1.2.3", True), ("::ffff:11.0.0.1", False), ("", True)],
)  # fmt: skip
def test_forwarding_headers_count_from_trusted_peers_alone(peer: str, trusted: bool) -> None:
    assert forwarding.is_trusted(peer, PROXIES) is trusted
    assert forwarding.is_trusted(peer, TrustedProxies()) is False


@pytest.mark.parametrize(
    ("written", "peer", "trusted"),
    [("::ffff:127.0.0.0/104", "127.0.0.1", True), ("::ffff:127.0.0.0/104", "::ffff:127.9.9.9", True),
     ("::ffff:7f00:0/104", "127.0.0.1", True), ("::ffff:127.0.0.0/104", "128.0.0.1", False),
     ("::ffff:10.1.2.3", "10.1.2.3", True), ("::ffff:10.1.2.3", "10.1.2.4", False),
     ("::ffff:0:0/96", "203.0.113.9", True), ("::ffff:0:0/96", "fd00::1", False),
     ("10.0.0.0/8", "::ffff:10.0.0.1", True), ("::1", "::1", True), ("::1", "0.0.0.1", False)],
)  # fmt: skip
def test_a_network_counts_however_it_is_written(written: str, peer: str, trusted: bool) -> None:
    made = compile_data({"version": 1, "trusted_proxies": [written]}, lambda backend: None, "/sockets")
    assert forwarding.is_trusted(peer, made.trusted) is trusted


def test_what_is_known_of_addresses_is_bounded_and_stays_right() -> None:
    trusted = TrustedProxies((ip_network("10.0.0.0/8"),))
    for number in range(10_000):
        address = f"{10 + number % 2}.{number >> 8}.{number & 255}.1"
        assert forwarding.is_trusted(address, trusted) is (number % 2 == 0)
        assert forwarding.is_trusted("10.9.9.9", trusted)
    assert len(trusted.known) <= 4096
    assert trusted == TrustedProxies((ip_network("10.0.0.0/8"),))
