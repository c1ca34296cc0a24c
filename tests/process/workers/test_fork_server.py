"""What a fork server hands on to the workers that it makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

from gateway.process.workers.fork_server import MESSAGE

PROGRAM = """\
import os, socket, sys
from gateway.process.workers.fork_server import ForkServer
sock = socket.socket(fileno=int(sys.argv[1]))
ForkServer(sock, lambda order, descriptors: sum(map(os.get_inheritable, descriptors))).run()
"""


def test_what_a_worker_executes_inherits_none_of_its_descriptors() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    given = os.memfd_create("given")
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        ) as server,
    ):
        theirs.close()
        order = {"worker": "0.1", "patience": 1.0}
        socket.send_fds(ours, [json.dumps(order).encode()], [given, given])
        heard: dict[str, Any] = {}
        while "ended" not in heard:
            heard |= json.loads(ours.recv(MESSAGE))
        ours.close()
        assert heard["code"] == 0
        assert server.wait(60) == 0
    os.close(given)
