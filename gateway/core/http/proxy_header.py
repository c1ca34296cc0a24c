"""The header of the PROXY protocol, versions 1 and 2: who the client of a proxy is, before all else.

By the specification of HAProxy (proxy-protocol.txt). What does not follow it to the letter is refused: the
bytes behind would otherwise be read as a request.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

LIMIT = 4096  # bytes of a header, with what a proxy adds behind the addresses
# The proxy does not know its client's address. No address of a client is equal to it.
UNKNOWN = "0.0.0.0"  # noqa: S104 - it says that there is none
_V1, _V1_LIMIT = b"PROXY ", 107
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_START = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_SIZES = {0: 0, 1: 12, 2: 36, 3: 216}  # bytes of both addresses: of none, IPv4, IPv6, unix sockets
_STREAM, _UNSPECIFIED = 1, 0
_SSL, _CLIENT_SSL = 0x20, 1
_v1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r]*)?"
    rb"|TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n"
).fullmatch


class NoProxyHeader(ValueError):
    """The connection does not begin with a header that can be read. Its text says why."""


class ProxyHeader(NamedTuple):
    """size: its bytes. client: the address; UNKNOWN when the proxy does not know it, "" when the connection
    is the proxy's own. secure: the client speaks TLS with the proxy, which says so in version 2."""

    size: int
    client: str
    secure: bool = False


def read(data: bytes) -> ProxyHeader | None:
    """The header at the start of what came; None while more of it has to come. All of the data belongs to the
    header then. Raises NoProxyHeader."""
    if data[:12] == _V2[: len(data)]:
        return _read_v2(data)
    if data[:6] == _V1[: len(data)]:
        return _read_v1(data)
    raise NoProxyHeader("it does not begin with the header of the PROXY protocol")


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:_V1_LIMIT].partition(b"\n")
    if not end:
        if len(data) >= _V1_LIMIT:
            raise NoProxyHeader("its header (version 1) is too long")
        return None
    found = _v1(line + end)
    if found is None:
        raise NoProxyHeader("its header (version 1) cannot be read")
    if found[1] is None:
        return ProxyHeader(len(line) + 1, UNKNOWN)
    kind = IPv4Address if found[1] == b"4" else IPv6Address
    try:
        client, _ = kind(found[2].decode()), kind(found[3].decode())
    except ValueError:
        raise NoProxyHeader("its header (version 1) has an address that is none") from None
    if int(found[4]) > 65535 or int(found[5]) > 65535:
        raise NoProxyHeader("its header (version 1) has a port that is none")
    return ProxyHeader(len(line) + 1, _text(client))


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_START.size:
        return None
    _, command, kind, length = _V2_START.unpack_from(data)
    family, transport = kind >> 4, kind & 15
    size = _V2_START.size + length
    if command not in (_LOCAL, _PROXY):
        raise NoProxyHeader("its header (version 2) has an unknown version or command")
    if size > LIMIT:
        raise NoProxyHeader(f"its header (version 2) has more than {LIMIT} bytes")
    if command == _PROXY:
        if family not in _SIZES or transport not in (_STREAM, _UNSPECIFIED):
            raise NoProxyHeader("its header (version 2) is of no stream of a known family")
        if length < _SIZES[family]:
            raise NoProxyHeader("its header (version 2) is too short for its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL:  # whatever addresses it has mean nothing
        return ProxyHeader(size, "")
    start = _V2_START.size
    secure = _is_secure(data[start + _SIZES[family] : size])
    if family == 1 and transport:
        return ProxyHeader(size, str(IPv4Address(data[start : start + 4])), secure)
    if family == 2 and transport:
        return ProxyHeader(size, _text(IPv6Address(data[start : start + 16])), secure)
    return ProxyHeader(size, UNKNOWN, secure)


def _is_secure(more: bytes) -> bool:
    """Whether what stands behind the addresses says that the client speaks TLS. Raises NoProxyHeader."""
    secure = False
    while more:
        if len(more) < 3 or len(more) < 3 + (length := int.from_bytes(more[1:3], "big")):
            raise NoProxyHeader("its header (version 2) has a field that is cut off")
        if more[0] == _SSL and length:
            secure = bool(more[3] & _CLIENT_SSL)
        more = more[3 + length :]
    return secure


def _text(address: IPv4Address | IPv6Address) -> str:
    """As peers are named: IPv4 as such where it is written as IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
