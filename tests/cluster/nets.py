"""Network namespaces without names: each lives as long as a process that sleeps in it, and that dies with its
parent. So nothing is left behind, however the test ends."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _CLONE_NEWNET = 1, 0x40000000


def missing() -> str:
    """Why it cannot be done here; "" when it can."""
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"there is no {program} (Debian: iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces take root"
    links = "ip link add veth0 type veth peer name veth1 && ip link add bridge0 type bridge"
    tried = subprocess.run(
        ["unshare", "-n", "sh", "-c", links],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f"network namespaces are not allowed here ({tried.stderr.strip().splitlines()[-1:]})"
    return ""


def start(command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    """A process that dies with this one."""
    return subprocess.Popen(command, preexec_fn=_die_with_parent, **more)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Namespace:
    """One network namespace."""

    def __init__(self) -> None:
        before = os.stat("/proc/self/ns/net").st_ino
        self._sleeper = start(["unshare", "-n", "sleep", "infinity"])
        while Path(f"/proc/{self._sleeper.pid}/ns/net").stat().st_ino == before:
            if self._sleeper.poll() is not None:
                raise RuntimeError("a network namespace could not be made")
            os.sched_yield()
        self.ip("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """Of a process in it."""
        return self._sleeper.pid

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs one in it."""
        return ["nsenter", "-t", str(self.pid), "-n", "--", *command]

    def ip(self, *arguments: str) -> None:
        """What ip(8) does in it."""
        subprocess.run(self.inside(["ip", *arguments]), check=True)

    def enter(self) -> None:
        """Sockets that this thread, and what it starts, opens from now on are in it."""
        descriptor = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        if _LIBC.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)

    def close(self) -> None:
        """End it, where nothing else is in it."""
        self._sleeper.kill()
        self._sleeper.wait()


class Switch:
    """A namespace with bridges, and what is plugged into them."""

    def __init__(self, *bridges: str) -> None:
        self._hub = Namespace()
        for bridge in bridges:
            self._hub.ip("link", "add", bridge, "type", "bridge")
            self._hub.ip("link", "set", bridge, "up")

    def plug(self, node: Namespace, bridge: str, port: str, address: str) -> None:
        """A cable from a bridge to a node, which has this address (with /24). port: the cable's name."""
        peer = f"{port}-n"
        self._hub.ip("link", "add", port, "type", "veth", "peer", "name", peer)
        self._hub.ip("link", "set", peer, "netns", str(node.pid))
        self._hub.ip("link", "set", port, "master", bridge, "up")
        node.ip("addr", "add", address, "dev", peer)
        node.ip("link", "set", peer, "up")

    def cut(self, port: str) -> None:
        """Nothing goes through this cable, and nobody is told."""
        self._hub.ip("link", "set", port, "nomaster")

    def mend(self, port: str, bridge: str) -> None:
        """It goes through again."""
        self._hub.ip("link", "set", port, "master", bridge)

    def close(self) -> None:
        """See Namespace.close."""
        self._hub.close()
