"""The socket of one client's connection: when it is read from, and whether the client takes what is
written."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from gateway.edge.reading import HeldReading

# Why nothing is read at the moment; any of them is enough.
BODY, AHEAD, TURN = 1, 2, 4


class ClientTransport(HeldReading):
    """What a protocol does about its transport, for who builds on this. transport: None once it is gone.
    peer: the client's address, "" of a unix socket. writing_paused: what was written waits for the client."""

    __slots__ = ("peer", "writing_paused")

    def __init__(self) -> None:
        super().__init__()
        self.peer = ""
        self.writing_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple) and name:
            self.peer = str(name[0]).removeprefix("::ffff:")
            # A client that vanished without a word is noticed by the kernel.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
