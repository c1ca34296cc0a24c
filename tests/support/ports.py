"""Ports of the kernel's choice that stay the test's own until its process ends."""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, for a server that is started later or never.

    It stays bound, without listening: the kernel gives it to nobody else, whatever runs beside, and refuses
    connections to it. A server may listen on it all the same, since both have SO_REUSEADDR, as servers do.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    _held.append(sock)
    return int(sock.getsockname()[1])
