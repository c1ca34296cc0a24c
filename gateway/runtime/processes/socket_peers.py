"""Which connections are still held by a server on this host, though their client is gone: sock_diag(7).

A thread of a server has its connection open for as long as it works on the request. So this tells when the
requests of a client that was killed are over. On TCP not for all: where the client had not read all of a
response, the kernel resets the connection and forgets it, whatever the thread does.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

_SOCK_DIAG = 4  # of netlink
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_SHOW = 1 | 4 | 16  # UDIAG_SHOW_NAME, _PEER, _RQLEN
_NAME, _PEER, _QUEUE = 0, 2, 4  # attributes: UNIX_DIAG_NAME, _PEER, _RQLEN
_CONNECTED, _LISTENING = 1, 10  # states: TCP_ESTABLISHED, TCP_LISTEN
_REQUEST = struct.Struct("=IHHIIBBHIIIII")
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BODY = 16  # bytes of unix_diag_msg
_CLOSE_WAIT = 8  # state of TCP: the client has closed its side, the server not yet
_INET_REQUEST = struct.Struct("=IHHIIBBBBI48x")
_INET_PORT = struct.Struct("!H")  # the server's, behind the first four bytes of inet_diag_msg


def abandoned(paths: set[str]) -> dict[str, int]:
    """How many connections to these sockets have no client any more and are not closed by the server, at
    most: what it has not accepted yet counts. A socket that nobody listens on here (in another network
    namespace, say) is not there. Raises OSError where the kernel does not tell."""
    found: dict[str, int] = {}
    listening: set[str] = set()
    request = socket.AF_UNIX, 0, 0, 1 << _CONNECTED | 1 << _LISTENING, 0, _SHOW, 0, 0
    for one in _dump(_REQUEST.pack(_REQUEST.size, _BY_FAMILY, _DUMP, 1, 0, *request)):
        listens = one[2] == _LISTENING
        name, peer, queue = _read(one[_BODY:])
        if name in paths:
            if listens:
                listening.add(name)
            found[name] = found.get(name, 0) + (queue if listens else not peer)
    return {path: found.get(path, 0) for path in listening}


def abandoned_tcp(ports: set[int]) -> dict[int, int]:
    """The same for servers that listen on these TCP ports of this host."""
    found: dict[int, int] = {}
    listening: set[int] = set()
    states = 1 << _CLOSE_WAIT | 1 << _LISTENING
    for family in (socket.AF_INET, socket.AF_INET6):
        request = family, socket.IPPROTO_TCP, 0, 0, states
        for one in _dump(_INET_REQUEST.pack(_INET_REQUEST.size, _BY_FAMILY, _DUMP, 1, 0, *request)):
            (port,) = _INET_PORT.unpack_from(one, 4)
            if port in ports:
                if one[1] == _LISTENING:
                    listening.add(port)
                else:
                    found[port] = found.get(port, 0) + 1
    return {port: found.get(port, 0) for port in listening}


def _dump(request: bytes) -> Iterator[memoryview]:
    """What the kernel tells, socket by socket."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.settimeout(1.0)
        netlink.send(request)
        while True:
            answer = memoryview(netlink.recv(1 << 16))
            while len(answer) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(answer)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("the kernel does not tell of its sockets")
                yield answer[_HEADER.size : length]
                answer = answer[(length + 3) & ~3 :]


def _read(attributes: memoryview) -> tuple[str, int, int]:
    """The path of a socket, the number of its peer (0 where that is gone), and how many connections wait to
    be accepted where it listens."""
    name, peer, queue = "", 0, 0
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        value = attributes[_ATTRIBUTE.size : max(length, _ATTRIBUTE.size)]
        if kind == _NAME:
            name = bytes(value).rstrip(b"\0").decode(errors="surrogateescape")
        elif kind == _PEER:
            (peer,) = struct.unpack_from("=I", value)
        elif kind == _QUEUE:
            (queue,) = struct.unpack_from("=I", value)
        attributes = attributes[max((length + 3) & ~3, _ATTRIBUTE.size) :]
    return name, peer, queue
