"""Whose address a request comes from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.core.model import TrustedProxies
from gateway.core.policy.forwarding import client_key

PROXIES = TrustedProxies((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))


def key(peer: str, *chains: str, trusted: TrustedProxies = PROXIES) -> str:
    return client_key(peer, [("x-forwarded-for", chain) for chain in chains], trusted)


@pytest.mark.parametrize(
    ("peer", "chains", "expected"),
    [
        pytest.param("198.51.100.7", ["203.0.113.9"], "198.51.100.7", id="an untrusted peer's word"),
        pytest.param("10.0.0.1", ["203.0.113.9"], "203.0.113.9", id="a trusted proxy's client"),
        pytest.param("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9", id="left of it: the client's word"),
        pytest.param("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9", id="past a second trusted proxy"),
        pytest.param("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9", id="repeats are one list"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="nobody but trusted ones"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a proxy that says nothing"),
        pytest.param("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1", id="unknown ends the search"),
        pytest.param("10.0.0.1", ["203.0.113.9,"], "203.0.113.9", id="an empty entry is none"),
        pytest.param("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9", id="with a port"),
        pytest.param("10.0.0.1", ["[2001:db8:1:2:3::4]:80"], "2001:db8:1:2::/64", id="IPv6 with a port"),
        pytest.param("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64", id="IPv6 by its /64"),
        pytest.param("fe80::1%eth0", [], "fe80::/64", id="a zone"),
        pytest.param("::ffff:192.0.2.1", [], "192.0.2.1", id="IPv4 inside IPv6"),
        pytest.param("", ["203.0.113.9"], "unix", id="a unix socket that is not trusted"),
    ],
)
def test_the_clients_address(peer: str, chains: list[str], expected: str) -> None:
    assert key(peer, *chains) == expected


def test_a_unix_socket_that_is_trusted() -> None:
    assert key("", "203.0.113.9", trusted=TrustedProxies(unix=True)) == "203.0.113.9"


def test_other_forwarding_headers_say_nothing_of_the_address() -> None:
    assert client_key("10.0.0.1", [("x-forwarded-host", "203.0.113.9")], PROXIES) == "10.0.0.1"
