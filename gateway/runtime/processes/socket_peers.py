"""Which connections to a unix socket are still held by the server, though their client is gone: sock_diag(7).

A thread of a server has its connection open for as long as it works on the request. So this tells when the
requests of a client that was killed are over, where the server is on the same host.
"""

from __future__ import annotations

import socket
import struct

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


def abandoned(paths: set[str]) -> dict[str, int]:
    """How many connections to these sockets have no client any more and are not closed by the server, at
    most: what it has not accepted yet counts. A socket that nobody listens on here (in another network
    namespace, say) is not there. Raises OSError where the kernel does not tell."""
    found: dict[str, int] = {}
    listening: set[str] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.settimeout(1.0)
        request = socket.AF_UNIX, 0, 0, 1 << _CONNECTED | 1 << _LISTENING, 0, _SHOW, 0, 0
        netlink.send(_REQUEST.pack(_REQUEST.size, _BY_FAMILY, _DUMP, 1, 0, *request))
        while True:
            answer = memoryview(netlink.recv(1 << 16))
            while len(answer) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(answer)
                if kind == _DONE:
                    return {path: found.get(path, 0) for path in listening}
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("the kernel does not tell of unix sockets")
                listens = answer[_HEADER.size + 2] == _LISTENING
                name, peer, queue = _read(answer[_HEADER.size + _BODY : length])
                if name in paths:
                    if listens:
                        listening.add(name)
                    found[name] = found.get(name, 0) + (queue if listens else not peer)
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
