"""Whose address a request comes from, when a limit is to be kept for each client."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from gateway.core.headers import is_trusted
from gateway.core.model import TrustedProxies

_SITE = 64  # bits: an IPv6 client has a network of them to choose its address from


def client_key(peer: str, forwarded: Iterable[tuple[str, str]], trusted: TrustedProxies) -> str:
    """The client's address as a limit counts it: IPv4 whole, IPv6 by its /64.

    peer: "" for a unix socket. forwarded: the request's X-Forwarded-* by lower-case name. X-Forwarded-For
    counts only from a trusted peer, and of it the rightmost address that is not a trusted proxy's: all to
    the left of it is the client's own word. An entry that is no address ends the search at the proxy that
    passed it on. `Forwarded` (RFC 7239) is not read: a proxy that writes one of the two passes the other on
    as the client sent it.
    """
    if not is_trusted(peer, trusted):
        return _group(peer)
    chain = [part for name, value in forwarded if name == "x-forwarded-for" for part in value.split(",")]
    address = peer
    while chain and is_trusted(address, trusted):
        before = _address(chain.pop())
        if not before:
            break
        address = before
    return _group(address)


def _address(text: str) -> str:
    """One entry of X-Forwarded-For without a port (some proxies write it); "" when it is no address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return ""


def _group(address: str) -> str:
    if not address:
        return "unix"
    parsed = ip_address(address.partition("%")[0])
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _SITE << _SITE)}/{_SITE}"
