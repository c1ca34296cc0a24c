"""Who holds a port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.process.listeners import Listen
from gateway.edge.client.sockets import ListenError, bind, close, listen
from gateway.runtime.os_errors import port_holder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/net/tcp")

LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


def test_another_process_is_named_by_its_program_and_pid_and_not_by_its_arguments() -> None:
    command = [sys.executable, "-c", LISTEN, "--password=secret"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with pytest.raises(ListenError) as caught:
            bind(Listen("127.0.0.1", port), "[gateway] listen in x.conf")
        process.terminate()
    assert f"(pid {process.pid}); stop it, or choose another port ([gateway] listen in x.conf)" in str(
        caught.value
    )
    assert "secret" not in str(caught.value)


def test_two_that_have_bound_a_port_before_either_listened_are_told_apart() -> None:
    """Both binds succeed, and uvloop says nothing of the second listen that fails."""
    one = bind(Listen("127.0.0.1"))
    other = bind(one.bound)
    listen(one, "")
    with pytest.raises(ListenError, match=r"the port is in use by this gateway itself.*\[admin\] listen"):
        listen(other, "[admin] listen")
    close(one)
    close(other)


def test_a_port_of_our_own_is_named_as_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert port_holder(server.getsockname()[1]) == "this gateway itself"


def test_nobody_holds_a_free_port() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert port_holder(sock.getsockname()[1]) == ""


def test_without_proc_nobody_can_tell(tmp_path: Path) -> None:
    assert port_holder(80, tmp_path) == ""


def test_a_process_that_hides_its_descriptors_is_named_by_its_user(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    fields = f"0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {os.getuid()} 0 4242"
    (tmp_path / "net" / "tcp").write_text(f"head\n  {fields} 1\n")
    assert port_holder(0x1F90, tmp_path).startswith("a process of the user ")
