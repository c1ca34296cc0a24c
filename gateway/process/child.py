"""What the supervisor needs to know of a backend before it runs: its spec, its socket, its health check."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.core.errors import BackendMalformed, BackendTimeout, GatewayError
from gateway.core.model import Address
from gateway.core.process.settings import health_url_fault
from gateway.edge.backend.faults import ConnectTimeout, NameUnresolved, NothingListens
from gateway.edge.backend.fetch import fetch
from gateway.edge.backend.resolver import Names

_HEALTH_TIMEOUT = 5.0  # seconds, for one try


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervised backend is run. Raises ValueError when it could never be supervised.

    command: the expanded argv. env: added to the gateway's own environment. socket: the path of the unix
    socket that the child must listen on, or "" for a child on TCP. healthz: the path that answers 200 (or
    another 2xx) once the child can serve; for a child on TCP a whole URL, `http://127.0.0.1:9001/healthz`.
    start_timeout: seconds from its start until it must be healthy.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    socket: str
    healthz: str = "/healthz"
    start_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError(f"backend {self.name}: there is no command to run")
        if len(os.fsencode(self.socket)) > 107:
            raise ValueError(f"backend {self.name}: the socket path {self.socket} is over 107 bytes")
        if not self.socket and health_url_fault(self.healthz):
            raise ValueError(
                f"backend {self.name}: without a unix socket, healthz must be a whole URL such as"
                f" http://127.0.0.1:9001/healthz, not {self.healthz}"
            )


class ChildFailed(Exception):
    """A supervised backend does not run. reason: why. lines: the last ones that it printed. hint: what to do
    about it. Holds paths of socket and health check only, nothing of its environment or its arguments."""

    def __init__(self, name: str, reason: str, lines: Sequence[str] = (), hint: str = "") -> None:
        printed = "; it printed:" + "".join(f"\n    {line}" for line in lines) if lines else ""
        super().__init__(f"backend {name} does not run: {reason}{printed}")
        self.name = name
        self.reason = reason
        self.lines = tuple(lines)
        self.hint = hint


async def ask_health(spec: ChildSpec, names: Names) -> str:
    """One GET of the health path on a connection of its own. Gives "" when a status of 2xx is the response,
    else what came instead. names: how the host of a child on TCP is resolved."""
    url = urlsplit(spec.healthz)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    where = spec.socket or url.netloc
    address = Address(where, url.hostname or "", url.port or 0, spec.socket)
    headers = (("Host", "localhost"), ("Connection", "close"))
    try:
        response = await fetch("GET", address, path, headers, _HEALTH_TIMEOUT, 0, names=names)
    except NameUnresolved as error:
        return f"the name {url.hostname} has no address ({error.reason})"
    except NothingListens:
        return f"nothing listens on {where}"
    except (BackendTimeout, ConnectTimeout):
        return f"no response within {_HEALTH_TIMEOUT:g} s"
    except BackendMalformed:
        return "what responds there does not speak HTTP"
    except GatewayError:
        return "the connection broke"
    return "" if 200 <= response.status < 300 else f"it answered {response.status}"


def remove_stale_socket(path: str) -> bool:
    """Remove the socket that a dead process left at `path`. Returns False when a live one listens there.

    Raises OSError when something that is not a socket is in the way, or when it cannot be removed.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return True
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is in the way and is not a socket: move it or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return True
        except FileNotFoundError:
            return True
        except BlockingIOError:  # its backlog is full: a live process listens
            pass
    return False
