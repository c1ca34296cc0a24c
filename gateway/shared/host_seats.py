"""The book of seats of one host, in the master: it sees what each worker has in use, also when that is
killed.

A seat of a worker that is gone is free at once, unless a request was inside. Then it is free when the
backend is done with that: at the request's deadline, or when a thread of another host has had time to begin
its response; a thread of this host has its connection open while it works, so there it is known sooner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic

from gateway.core.model import Address, Backend
from gateway.core.process.listeners import is_loopback
from gateway.core.shared.ports import Body
from gateway.core.shared.seats import Pool, SeatBook
from gateway.runtime.processes.in_use import InUse
from gateway.runtime.processes.socket_peers import abandoned, abandoned_tcp
from gateway.shared.left_behind import LeftBehind

L = logging.getLogger(__name__)
TICK = 0.05  # seconds between two looks at what those that are gone have left behind
# A stream has no deadline: its backend notices that nobody reads, at the latest when it writes something.
_STREAM = 300.0  # seconds
# A thread on another host whose client is gone: it begins its response within `first_byte`, whose default
# this is, and then learns that nobody reads it. To wait for `total` would close the backend for minutes.
_UNSEEN = 30.0
# By TCP a thread whose response was on its way may work on unseen (see socket_peers), for a moment.
_RESET = 2.0


class HostSeats:
    """A Book (core/shared/ports.py), and what the book needs of the host. join() before a worker starts.

    call(member, parts): tells a worker to report at once of some pools. backends: of the live config.

    left: where the book is kept elsewhere, what is to be told in place of workers that are gone, by member.
    """

    def __init__(
        self,
        call: Callable[[str, Mapping[str, int]], None],
        backends: Callable[[], Mapping[str, Backend]],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.book = SeatBook(self._busy)
        self.left: dict[str, LeftBehind] = {}
        self._call = call
        self._backends = backends
        self._now = now
        self._tables: dict[str, InUse] = {}
        self._rows: dict[str, dict[str, dict[str, int]]] = {}  # by member, key and address
        self._called: dict[tuple[str, str], int] = {}  # parts, by member and key
        self._ending: list[InUse] = []  # of those that are gone, maybe with open connections still
        self._seen_at: dict[str, float] = {}  # by address of TCP, when its connections count
        self._blind = False

    def join(self, member: str) -> InUse:
        """A worker will start. Returns the table that it is to write."""
        table = self._tables[member] = InUse.create()
        self._rows[member] = {}
        return table

    # --- where the book is kept elsewhere ---

    def note(self, member: str, report: Body) -> None:
        """A worker reports, to whoever keeps the book."""
        self._rows.setdefault(member, {}).update(report["rows"])

    def leaves(self, member: str) -> None:
        """A worker has ended: what it has left inside is in `left` from now on."""
        self.left[member] = LeftBehind(self._rows.get(member, ()), self._busy(member))
        self._say_what_stays(self._now())
        self._ends(member)

    def is_told(self, member: str) -> None:
        """Nothing of a worker is inside any more, and whoever keeps the book knows it."""
        self.left.pop(member, None)

    # --- Book ---

    def exchange(self, member: str, report: Body, now: float) -> Body:
        """See Book."""
        pools: Mapping[str, object] = report["pools"]
        self._rows.setdefault(member, {}).update(report["rows"])
        grants = self.book.exchange(member, report, now)
        for key in pools:
            self._called.pop((member, key), None)
        self._tell(pools, member)
        return grants

    def gone(self, member: str, now: float) -> None:
        """See Book."""
        self.book.gone(member, now)
        self._say_what_stays(now)
        self._ends(member)
        for name, key in [one for one in self._called if one[0] == member]:
            del self._called[name, key]
        self._tell(list(self.book.pools))

    # --- those that are gone ---

    def _ends(self, member: str) -> None:
        table = self._tables.pop(member, None)
        if table is not None:
            self._ending.append(table)
        self._rows.pop(member, None)

    def tick(self) -> bool:
        """Look what is left of those that are gone. Call it every TICK seconds, until it says that nothing
        is."""
        for table in [table for table in self._ending if table.owner_ended]:
            self._ending.remove(table)
            table.close()
        now = self._now()
        keys = self.book.expire(now)
        for left in self.left.values():
            left.expire(now)
        if not self._ending:
            self._look(list(self._orphaned()))
        if keys:
            self._tell(keys)
        return bool(keys or self._ending or self.left)

    def _say_what_stays(self, now: float) -> None:
        for key, kept in self.reserved().items():
            kind, _, name = key.partition(":")
            for address in self._addresses(name):
                self._seen_at[address.text] = now + _RESET
            L.warning(
                "%d of the %s of backend %s stay taken for requests of killed workers, until it is done",
                *(kept, "streams" if kind == "streams" else "seats", name),
            )

    def reserved(self) -> dict[str, int]:
        """Seats that stay taken for what those that are gone have left inside, by key."""
        found: dict[str, int] = {}
        for key, pool in self._orphaned():
            found[key] = found.get(key, 0) + sum(one.count for one in pool.orphans)
        return found

    def _orphaned(self) -> Iterator[tuple[str, Pool]]:
        """The pools with seats of those that are gone, and their keys. Where the book is kept elsewhere each
        of those has its own: connections that are left behind may be of any of them, so all count for each.
        """
        books = self.book.pools, *(left.pools for left in self.left.values())
        return ((key, pool) for pools in books for key, pool in pools.items() if pool.orphans)

    def _addresses(self, name: str) -> tuple[Address, ...]:
        backend = self._backends().get(name)
        return backend.addresses if backend is not None else ()

    def _look(self, pools: list[tuple[str, Pool]]) -> None:
        addresses = {key: self._told_by_sockets(key) for key, _ in pools}
        told = [address for found in addresses.values() for address in found]
        if not told:
            return
        try:
            paths = abandoned({a.path for a in told if a.path})
            ports = abandoned_tcp({a.port for a in told if not a.path})
        except OSError as error:
            if not self._blind:
                L.warning("what killed workers left inside backends is free at its deadline only: %s", error)
            self._blind = True
            return
        for key, pool in pools:
            for address in addresses[key]:
                most = paths.get(address.path) if address.path else ports.get(address.port)
                if most is not None:
                    pool.keep(address.text, most)

    def _told_by_sockets(self, key: str) -> list[Address]:
        """The addresses of a pool where an open connection says that a request is inside."""
        kind, _, name = key.partition(":")
        backend = self._backends().get(name)
        if backend is None or not (kind == "streams" or backend.threaded):
            return []
        now, seen_at = self._now(), self._seen_at
        return [a for a in backend.addresses if a.path or (_is_here(a) and now >= seen_at.get(a.text, 0.0))]

    def _busy(self, member: str) -> dict[str, dict[str, tuple[int, float]]]:
        """What a member has in use, by key and address, and until when at most."""
        table, rows = self._tables.get(member), self._rows.get(member, {})
        if table is None:
            return {}
        found: dict[str, dict[str, tuple[int, float]]] = {}
        for key, by_address in rows.items():
            kind, _, name = key.partition(":")
            if kind == "tenant":  # its calls ended with the process
                continue
            streams = rows.get(f"streams:{name}", {})
            here = {a.text for a in self._addresses(name) if a.path or _is_here(a)}
            for address, row in by_address.items():
                until = table.until[row]
                if kind == "streams" or (address in streams and table.counts[streams[address]]):
                    until = max(until, self._now() + _STREAM)
                elif address not in here:
                    until = min(until, self._now() + _UNSEEN)
                found.setdefault(key, {})[address] = (table.counts[row], until)
        return found

    def _tell(self, keys: Iterable[str], but: str = "") -> None:
        """Call those that should report."""
        for member, parts in self.book.calls(keys).items():
            new = {key: part for key, part in parts.items() if self._called.get((member, key)) != part}
            if new and member != but:
                self._called.update({(member, key): part for key, part in new.items()})
                self._call(member, new)


def _is_here(address: Address) -> bool:
    """Whether the server of a TCP address is on this host."""
    return bool(address.port) and is_loopback(address.host)
