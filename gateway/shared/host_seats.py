"""The book of seats of one host, in the master: it sees what each worker has in use, also when that is
killed.

A seat of a worker that is gone is free at once, unless a request was inside. Then it is free when the
backend is done with that for sure: at the request's deadline; a thread behind a unix socket of this host has
its connection open while it works, so there it is known sooner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from gateway.core.model import Address, Backend
from gateway.core.shared.ports import Body
from gateway.core.shared.seats import Report, SeatBook
from gateway.runtime.processes.in_use import InUse
from gateway.runtime.processes.socket_peers import abandoned

L = logging.getLogger(__name__)
TICK = 0.05  # seconds between two looks at what those that are gone have left behind
# A stream has no deadline: its backend notices that nobody reads, at the latest when it writes something.
_STREAM = 300.0  # seconds


class HostSeats:
    """A Book (core/shared/ports.py), and what the book needs of the host. join() before a worker starts.

    call(member, parts): tells a worker to report at once of some pools. backends: of the live config.
    """

    def __init__(
        self,
        call: Callable[[str, Mapping[str, int]], None],
        backends: Callable[[], Mapping[str, Backend]],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.book = SeatBook(self._busy)
        self._call = call
        self._backends = backends
        self._now = now
        self._tables: dict[str, InUse] = {}
        self._rows: dict[str, dict[str, dict[str, int]]] = {}  # by member, key and address
        self._called: dict[tuple[str, str], int] = {}  # parts, by member and key
        self._ending: list[InUse] = []  # of those that are gone, maybe with open connections still
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

    def left_by(self, member: str) -> dict[str, Report]:
        """A worker has ended: the last reports on its pools, in its place."""
        busy, now = self._busy(member), self._now()
        table = self._tables.pop(member, None)
        reports: dict[str, Report] = {}
        for key in self._rows.pop(member, {}):
            held = {address: count for address, (count, _) in busy.get(key, {}).items() if count}
            lasts = max((until - now for count, until in busy.get(key, {}).values() if count), default=0.0)
            reports[key] = {"seats": {}, "reserve": 0, "held": held, "demand": [], "lasts": max(0.0, lasts)}
        if table is not None:
            table.close()
        return reports

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
        table = self._tables.pop(member, None)
        if table is not None:
            self._ending.append(table)
        self._rows.pop(member, None)
        for name, key in [one for one in self._called if one[0] == member]:
            del self._called[name, key]
        self._tell(list(self.book.pools))

    # --- those that are gone ---

    def tick(self) -> bool:
        """Look what is left of those that are gone. Call it every TICK seconds, until it says that nothing
        is."""
        for table in [table for table in self._ending if table.owner_ended]:
            self._ending.remove(table)
            table.close()
        keys = self.book.expire(self._now())
        if keys and not self._ending:
            self._look(keys)
        if keys:
            self._tell(keys)
        return bool(keys or self._ending)

    def _look(self, keys: Iterable[str]) -> None:
        paths = {}
        for key in keys:
            for address in self._told_by_sockets(key):
                paths[key, address.text] = address.path
        if not paths:
            return
        try:
            found = abandoned(set(paths.values()))
        except OSError as error:
            if not self._blind:
                L.warning("what killed workers left inside backends is free at its deadline only: %s", error)
            self._blind = True
            return
        for (key, text), path in paths.items():
            pool = self.book.pools.get(key)
            if pool is not None and path in found:
                pool.keep(text, found[path])

    def _told_by_sockets(self, key: str) -> list[Address]:
        """The addresses of a pool where an open connection says that a request is inside."""
        kind, _, name = key.partition(":")
        backend = self._backends().get(name)
        if backend is None or not (kind == "streams" or backend.threaded):
            return []
        return [address for address in backend.addresses if address.path]

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
            for address, row in by_address.items():
                until = table.until[row]
                if kind == "streams" or (address in streams and table.counts[streams[address]]):
                    until = max(until, self._now() + _STREAM)
                found.setdefault(key, {})[address] = (table.counts[row], until)
        return found

    def _tell(self, keys: Iterable[str], but: str = "") -> None:
        """Call those that should report."""
        for member, parts in self.book.calls(keys).items():
            new = {key: part for key, part in parts.items() if self._called.get((member, key)) != part}
            if new and member != but:
                self._called.update({(member, key): part for key, part in new.items()})
                self._call(member, new)
