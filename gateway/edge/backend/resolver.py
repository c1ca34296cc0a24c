"""The names of backends, resolved beside the event loop, each in a thread of its own.

getaddrinfo(3) blocks for as long as a name server keeps silent, tens of seconds, and cannot be cancelled. In
threads that all names share, one slow name would make all the others wait. Here no name has more than one
thread, and none waits for another's; their number is that of the config's names. The threads are daemons: the
process ends without them.

The system tells no time to live (a resolver of our own would know it, and nothing of nsswitch.conf, the hosts
file or a container's search list). A result is taken for as long as the config says (10 s); after that it is
still used while the name is resolved again, also when that fails: a name server that is away stops no name
that was known.

An address is gone when two results in a row lack it: of many, some name servers tell a few at a time, in
turn.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic

from gateway.core.model import FRESH
from gateway.core.process.listeners import is_address

L = logging.getLogger(__name__)
STALE = 3600.0  # seconds that an old result is used when there is no new one
FAILED = 1.0  # seconds that a failure is the result
_MOST = 16  # addresses of a name
_HOSTS = Path("/etc/hosts")
_HOSTS_BYTES = 4 * 1024 * 1024

Lookup = Callable[[str], tuple[str, ...]]
OnResult = Callable[[str, frozenset[str]], None]


class _Name:
    """What is known of one name. leaving: addresses that the last result lacks and the one before had.
    asking: the lookup that is under way."""

    __slots__ = ("addresses", "asking", "at", "failed_at", "failure", "leaving")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.leaving: frozenset[str] = frozenset()
        self.at = 0.0
        self.failure = ""
        self.failed_at = 0.0
        self.asking: asyncio.Future[None] | None = None


class Unresolved(OSError):
    """The name has no address, or no server could be asked."""


def lookup(host: str) -> tuple[str, ...]:
    """The addresses of a name. Blocks. What the hosts file says needs no server, and localhost is this
    machine whatever a server says (RFC 6761 section 6.3). Raises OSError, UnicodeError."""
    name = host.lower().rstrip(".")
    found = _from_hosts(name)
    if not found and (name == "localhost" or name.endswith(".localhost")):
        found = ("127.0.0.1", "::1")
    if not found:
        found = tuple(str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    return tuple(dict.fromkeys(found))[:_MOST]


def _from_hosts(name: str) -> tuple[str, ...]:
    """hosts(5)."""
    try:
        with _HOSTS.open("rb") as file:
            text = file.read(_HOSTS_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    found = []
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if name in map(str.lower, names) and is_address(address):
            found.append(address)
    return tuple(found)


class Names:
    """The addresses of names. lookup: blocks, and is called in a thread. now: the monotonic clock."""

    def __init__(self, lookup: Lookup = lookup, now: Callable[[], float] = monotonic) -> None:
        self._lookup = lookup
        self._now = now
        self._names: dict[str, _Name] = {}
        self._fresh: Mapping[str, float] = {}
        self._on_result: OnResult = lambda host, gone: None

    def when_resolved(self, on_result: OnResult) -> None:
        """Call this with each result that has addresses: the name, and which of its addresses are gone."""
        self._on_result = on_result

    async def find(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, the one to try first in front. Waits only for a name of which nothing is
        known. Raises Unresolved."""
        if is_address(host):
            return (host,)
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name()
        now = self._now()
        if name.addresses and now - name.at < STALE:
            self._ask_when_due(host, name, now)
            return name.addresses
        if name.failure and now - name.failed_at < FAILED:
            raise Unresolved(name.failure)
        await asyncio.shield(self._ask(host, name))
        if not name.addresses or self._now() - name.at >= STALE:
            raise Unresolved(name.failure or "it has no address")
        return name.addresses

    def prefer(self, host: str, address: str) -> None:
        """It took a connection: it is the first one to try."""
        name = self._names.get(host)
        if name is not None and name.addresses and name.addresses[0] != address in name.addresses:
            name.addresses = (address, *(other for other in name.addresses if other != address))

    def known(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, also those that may be about to go; none while nothing is known: then it
        is being asked for."""
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name()
            self._ask(host, name)
        return (*name.addresses, *sorted(name.leaving))

    def refresh(self) -> None:
        """Resolve those names again of which the result is no longer fresh."""
        now = self._now()
        for host, name in self._names.items():
            if name.addresses or name.failure:
                self._ask_when_due(host, name, now)

    def keep(self, hosts: Mapping[str, float]) -> None:
        """Forget all others: no backend has them any more. Each with the seconds that a result is taken for.
        """
        self._fresh = hosts
        for host in self._names.keys() - hosts.keys():
            del self._names[host]

    def _ask_when_due(self, host: str, name: _Name, now: float) -> None:
        failed = bool(name.failure) and now - name.failed_at < FAILED
        if now - name.at >= self._fresh.get(host, FRESH) and not failed:
            self._ask(host, name)

    def _ask(self, host: str, name: _Name) -> asyncio.Future[None]:
        if name.asking is None:
            loop = asyncio.get_running_loop()
            name.asking = loop.create_future()
            threading.Thread(
                target=self._run, args=(host, name, loop), name=f"resolve {host}", daemon=True
            ).start()
        return name.asking

    def _run(self, host: str, name: _Name, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        addresses: tuple[str, ...] = ()
        failure = "it has no address"
        try:
            addresses = self._lookup(host)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that DNS cannot hold
            failure = getattr(error, "strerror", None) or str(error)
        finally:
            try:
                loop.call_soon_threadsafe(partial(self._looked_up, host, name, addresses, failure))
            except RuntimeError:  # the loop is closed: the process is ending
                return

    def _looked_up(self, host: str, name: _Name, addresses: tuple[str, ...], failure: str) -> None:
        gone = name.leaving.difference(addresses)
        if addresses:
            name.leaving = frozenset(name.addresses).difference(addresses)
            name.addresses, name.at, name.failure = addresses, self._now(), ""
        else:
            name.failure, name.failed_at = failure, self._now()
        asking, name.asking = name.asking, None
        if asking is not None and not asking.done():
            asking.set_result(None)
        if addresses and self._names.get(host) is name:
            self._on_result(host, gone)
