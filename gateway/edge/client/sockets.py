"""The sockets of listeners: bound before anything starts, so that an address in use is known then.

A unix socket gets its path when it begins to listen: until then it has a name beside it, so that its clients
are refused like those of a port, and the file of one that still serves is never taken away.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gateway.core.process import listeners
from gateway.core.process.listeners import Listen
from gateway.runtime import durable
from gateway.runtime.os_errors import explain, port_holder
from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger(__name__)
_LOOK = 5.0  # seconds between two looks at the files of unix sockets
_SO_DETACH_FILTER = 27  # asm-generic/socket.h


class ListenError(OSError):
    """A listener that cannot be opened; the text says which, why, and what to do about it."""


class BoundSocket(NamedTuple):
    """A listener with its socket, which is bound and does not block. made: device and inode of the file that
    this process made for a unix socket; None for any other, also for one that was inherited. held: systemd
    holds it open for the next process, which takes what waits there."""

    listen: Listen
    sock: socket.socket
    made: tuple[int, int] | None = None
    held: bool = False

    @property
    def bound(self) -> Listen:
        """The listener with the address that the system gave it."""
        if self.listen.path:
            return self.listen
        host, port = self.sock.getsockname()[:2]
        return replace(self.listen, host=host, port=port)


class HeldSockets:
    """The sockets that systemd listens on for this process; each is for one listener."""

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._sockets = list(sockets)

    def take(self, one: Listen) -> BoundSocket | None:
        """That of a listener, if there is one. Raises OSError where its host is not known."""
        if not self._sockets:
            return None
        where = one.path or _resolved(one)[4][:2]
        for sock in self._sockets:
            name = sock.getsockname()
            if (name if isinstance(name, str) else name[:2]) == where:
                self._sockets.remove(sock)
                return BoundSocket(one, sock, held=True)
        return None

    def rest(self) -> list[str]:
        """The addresses of those that no listener has taken; they are closed."""
        names = [str(sock.getsockname()) for sock in self._sockets]
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        return names


def bind_all(listens: Iterable[Listen], key: str = "", held: HeldSockets | None = None) -> list[BoundSocket]:
    """Bind all of them or none; they do not listen yet. key: where they are written. held: are taken where
    they fit. The ListenError has a line for each that cannot be taken."""
    taken, problems = list[BoundSocket](), []
    for one in listens:
        try:
            taken.append(bind(one, key, held))
        except ListenError as error:
            problems.append(str(error))
    if problems:
        for bound in taken:
            close(bound)
        raise ListenError("\n".join(problems))
    return taken


def bind(one: Listen, key: str = "", held: HeldSockets | None = None) -> BoundSocket:
    """Bind one; it does not listen yet. key, held: see `bind_all`. Raises ListenError."""
    try:
        if held is not None and (found := held.take(one)) is not None:
            return found
        return _bind_path(one) if one.path else _bind_port(one)
    except OSError as error:
        raise ListenError(problem(one, error, key)) from None


def listen(bound: BoundSocket, key: str, backlog: int = 128) -> None:
    """Listen on what `bind` gave. key: where the address is written. Raises ListenError: two sockets may have
    been bound to one port before either listened (the event loop, uvloop, would not report that)."""
    try:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # as a rule no process that stopped accepting left one there
                bound.sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        bound.sock.listen(backlog)
        if bound.made is not None:
            _check_path(bound.listen.path)
            durable.rename(_name_before(bound.listen.path), Path(bound.listen.path))
    except OSError as error:
        raise ListenError(problem(bound.bound, error, key)) from None


def close(bound: BoundSocket) -> None:
    """Close the socket, and remove the file that this process made for it."""
    withdraw(bound)
    bound.sock.close()


def withdraw(bound: BoundSocket) -> None:
    """Remove the file that this process made for it: no client comes any more."""
    path = Path(bound.listen.path)
    for name in (path, _name_before(path)) if bound.made is not None else ():
        if _is_there(bound, name):
            with contextlib.suppress(OSError):
                name.unlink()


def is_lost(bound: BoundSocket) -> bool:
    """Whether another file, or none, is where this process made one: no client comes any more."""
    path = Path(bound.listen.path)
    return bound.made is not None and not any(_is_there(bound, name) for name in (path, _name_before(path)))


def set_mode(bound: BoundSocket, mode: int) -> None:
    """Who may connect to a unix socket from now on. Raises ListenError."""
    path = Path(bound.listen.path)
    if bound.made is not None and _is_there(bound, path):
        try:
            path.chmod(mode)
        except OSError as error:
            raise ListenError(f"the mode of {bound.listen} cannot be changed: {error.strerror}") from None


def _is_there(bound: BoundSocket, name: Path) -> bool:
    with contextlib.suppress(OSError):
        found = name.lstat()
        return (found.st_dev, found.st_ino) == bound.made
    return False


class LostPaths:
    """The unix sockets whose path another process has taken, said once each. lost: gives those paths."""

    def __init__(self, lost: Callable[[], Iterable[str]]) -> None:
        self._lost = lost
        self._said: set[str] = set()

    async def watch(self) -> None:
        """Look after them, until cancelled."""
        await PeriodicTask("looking after the unix sockets", _LOOK, self.look).run()

    def look(self) -> None:
        """Look now."""
        lost = set(self._lost())
        for path in sorted(lost - self._said):
            L.error(
                "listen = unix:%s: its file is gone or another process's, and no client comes there any more;"
                " find out who has replaced it, and restart the gateway", path,
            )  # fmt: skip
        self._said = lost

    def notes(self) -> list[str]:
        """What is wrong, without folders: anybody may see it."""
        return [f"unix:.../{Path(path).name} is gone or another process's" for path in self._lost()]


def _resolved(one: Listen) -> tuple[Any, ...]:
    host, flags = listeners.plain(one.host), socket.AI_PASSIVE
    return socket.getaddrinfo(host, one.port, type=socket.SOCK_STREAM, flags=flags)[0]


def _bind_port(one: Listen) -> BoundSocket:
    family, kind, protocol, _, address = _resolved(one)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return BoundSocket(one, sock)


def _bind_path(one: Listen) -> BoundSocket:
    _check_path(one.path)
    name = _name_before(one.path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        os.fchmod(sock.fileno(), one.mode)  # Linux makes the file with no more than that
        name.unlink(missing_ok=True)  # of a process with our id that was killed
        sock.bind(str(name))
        found = name.lstat()
        name.chmod(one.mode)  # with what the umask took
    except OSError:
        sock.close()
        raise
    return BoundSocket(one, sock, (found.st_dev, found.st_ino))


def _name_before(path: str | Path) -> Path:
    """Of the socket at this path, until it listens."""
    return Path(f"{path}.{os.getpid()}")


def _check_path(path: str) -> None:
    """Nobody listens at a path, so that what a dead process left there may be replaced. Raises OSError."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "a file is there that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:
            pass  # its queue is full
    raise OSError(errno.EADDRINUSE, "another process listens there")


def problem(one: Listen, error: OSError, key: str) -> str:
    """Why an address cannot be listened on, who holds it, and where another one can be chosen."""
    reason, hint = _path_reason(one, error) if one.path else _port_reason(one, error)
    return f"cannot listen on {one}: {reason}{'; ' if hint else ''}{hint}{f' ({key})' if key else ''}"


def _path_reason(one: Listen, error: OSError) -> tuple[str, str]:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there", "stop it, or choose another path"
    if error.errno == errno.EEXIST:
        return "a file is there that is no socket", "move it away, or choose another path"
    if error.errno == errno.ENOENT:
        return "its folder is not there", f"make {Path(one.path).parent} for the gateway's user"
    return explain(error)


def _port_reason(one: Listen, error: OSError) -> tuple[str, str]:
    if error.errno == errno.EADDRINUSE:
        process = port_holder(one.port)
        by, it = (f" by {process}", "stop it") if process else ("", "stop what uses it")
        return f"the port is in use{by}", f"{it}, or choose another port"
    if error.errno == errno.EACCES:
        return "not permitted", "choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no interface of this machine has the address", ""
    if isinstance(error, socket.gaierror):
        return "the host is not known here", ""
    return error.strerror or str(error), ""
