"""Names that stand for several servers, in the master: it resolves them, and its workers use what it found.

Workers that resolved for themselves would not agree about which addresses there are, and so neither about
their circuits nor about their seats: some name servers tell a few of many at a time, in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.core.model import Backend
from gateway.core.routing.backends.each import each_address, fresh_hosts, is_name
from gateway.edge.backend.resolver import Names

Found = Mapping[str, list[str]]  # the IP addresses of each host; none while nothing is known
NAMES = "names"  # the message that has them


class HostNames:
    """Those of the live config. reach(backends): these are its backends now, with each address in place of
    its name. tell(found): to all workers, where that has changed by what was resolved. reached: the backends
    as they were given to reach."""

    def __init__(
        self,
        reach: Callable[[Mapping[str, Backend]], None],
        tell: Callable[[Found], None],
        names: Names | None = None,
    ) -> None:
        self._reach, self._tell = reach, tell
        self._names = names or Names()
        self._names.when_resolved(lambda host, gone: self._resolved())
        self._hosts: Mapping[str, float] = {}
        self._backends: Mapping[str, Backend] = {}  # as in the live config, and as they are now
        self.reached: Mapping[str, Backend] = {}

    def found(self) -> Found:
        """What is known now."""
        return {host: list(self._names.known(host)) for host in self._hosts}

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """Follow a new snapshot. Workers are to be told by `found` once they have it."""
        each = [backend for backend in backends.values() if backend.resolve_each]
        self._hosts = fresh_hosts(one for backend in each for one in backend.addresses if is_name(one))
        self._names.keep(self._hosts)
        self._backends = backends
        self.reached = self._each()
        self._reach(self.reached)

    def refresh(self) -> None:
        """Resolve again what is due. About once a second."""
        self._names.refresh()

    def _each(self) -> dict[str, Backend]:
        return {name: each_address(one, self._names.known) for name, one in self._backends.items()}

    def _resolved(self) -> None:
        before, self.reached = self.reached, self._each()
        if self.reached != before:
            self._reach(self.reached)
            self._tell(self.found())
