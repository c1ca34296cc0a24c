"""The header of the PROXY protocol is read by its specification, and nothing else is taken for one."""

from __future__ import annotations

import socket
import struct

import pytest

from gateway.core.http.proxy_header import LIMIT, UNKNOWN, NoProxyHeader, ProxyHeader, read

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IPV4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 51000, 443)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 51000, 443)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.7") * 2 + struct.pack("!HH", 1, 2)
AUTHORITY = b"\x02\x00\x0bexample.com"
SSL, PLAIN = b"\x20\x00\x05\x01\x00\x00\x00\x00", b"\x20\x00\x05\x06\x00\x00\x00\x00"


def v2(command: int, kind: int, content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return SIGNATURE + bytes([command, kind]) + struct.pack("!H", size) + content


GOOD = [
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n", "203.0.113.7"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2001:DB8::7 ::1 0 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7"),
    (b"PROXY UNKNOWN\r\n", UNKNOWN),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", UNKNOWN),
    (v2(0x21, 0x11, IPV4), "203.0.113.7"),
    (v2(0x21, 0x21, IPV6), "2001:db8::7"),
    (v2(0x21, 0x21, MAPPED), "203.0.113.7"),
    (v2(0x21, 0x11, IPV4 + AUTHORITY + PLAIN), "203.0.113.7"),
    (v2(0x21, 0x31, b"/run/client".ljust(108, b"\0") * 2), UNKNOWN),
    (v2(0x21, 0x00, b""), UNKNOWN),
    (v2(0x21, 0x00, AUTHORITY), UNKNOWN),
    (v2(0x21, 0x10, IPV4), UNKNOWN),
    (v2(0x20, 0x00, b""), ""),
    (v2(0x20, 0x11, IPV4 + AUTHORITY), ""),  # a load balancer's own check, with addresses that mean nothing
    (v2(0x20, 0xFF, b"x" * 7), ""),
    (v2(0x21, 0x11, IPV4 + b"\x04" + struct.pack("!H", LIMIT - 31) + b"\0" * (LIMIT - 31)), "203.0.113.7"),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_a_header_names_the_client_and_ends_where_it_ends(header: bytes, client: str) -> None:
    assert read(header) == read(header + b"GET / HTTP/1.1\r\n\r\n") == ProxyHeader(len(header), client)
    for size in (1, 5, 6, 7, 12, 13, 15, 16, len(header) - 1):
        if size < len(header):
            assert read(header[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 a.example 1.2.3.4 1 1\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN x\rGET / HTTP/1.1\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n",
        v2(0x11, 0x11, IPV4),  # another version
        v2(0x22, 0x11, IPV4),  # another command
        v2(0x21, 0x12, IPV4),  # datagrams
        v2(0x21, 0x41, IPV4),  # another family
        v2(0x21, 0x11, b""),  # no addresses at all
        v2(0x21, 0x12, b""),
        v2(0x21, 0x11, IPV4[:11]),
        v2(0x21, 0x21, IPV4),
        v2(0x21, 0x31, IPV6),
        v2(0x21, 0x11, IPV4 + b"x"),  # more behind the addresses, and cut off
        v2(0x21, 0x11, IPV4 + AUTHORITY[:-1]),
        v2(0x21, 0x11, b"", LIMIT),
        v2(0x20, 0x00, b"", 0xFFFF),
    ],
)
def test_what_is_no_such_header_is_refused_and_never_a_request(data: bytes) -> None:
    with pytest.raises(NoProxyHeader):
        read(data)


def test_all_that_came_of_a_header_belongs_to_it_so_that_nothing_behind_is_taken() -> None:
    for header, _ in GOOD:
        behind = header + b"X" * 5
        for size in range(1, len(behind) + 1) if len(header) < 300 else ():
            found = read(behind[:size])
            assert (found is None) == (size < len(header))


def test_that_the_client_speaks_tls_is_known_by_what_stands_behind_the_addresses() -> None:
    for content, secure in ((AUTHORITY + SSL, True), (SSL + AUTHORITY, True), (PLAIN, False), (b"", False)):
        found = read(v2(0x21, 0x11, IPV4 + content))
        assert found is not None and found.secure is secure
    found = read(v2(0x20, 0x11, IPV4 + SSL))
    assert found is not None and not found.secure
