"""All sections [tls:NAME] of a process, live: what its listeners ask for by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from time import time
from types import MappingProxyType
from typing import Any

from gateway.core.fairness.turns import Turns
from gateway.core.openmetrics import Gauge, Instrument, Total
from gateway.core.process.tls import SECTION, TlsSettings
from gateway.core.routing.problems import Problem
from gateway.edge.tls.certificates import CertificateUnusable
from gateway.edge.tls.connection import Handshakes, Secured, TlsConnection
from gateway.edge.tls.site import POLL, TlsSite
from gateway.runtime.periodic import Boundary


class SiteUnusable(OSError):
    """Certificates that cannot be used; the text says which, why, and what to do. problems: the same, each at
    its key."""

    def __init__(self, text: str, problems: list[Problem]) -> None:
        super().__init__(text)
        self.problems = problems


class TlsSites:
    """Those of these sections. conf: gateway.conf as the operator named it. on_verified: called when what
    clients' certificates are verified with has changed. wall: seconds since the epoch. quiet: the log
    is another process's. kept: what that one uses, as `kept()` gives it there."""

    def __init__(
        self,
        settings: Iterable[TlsSettings],
        conf: str,
        *,
        on_verified: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time,
        quiet: bool = False,
        kept: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        """Reads their files. Raises SiteUnusable, with a line for each section that cannot be used."""
        self._sites: dict[str, TlsSite] = {}
        self._handshakes: dict[str, Handshakes] = {}
        wrong, problems = [], []
        for one in settings:
            where = f"[tls:{one.name}] in {conf}"
            try:
                files = {path: text.encode("latin-1") for path, text in kept.get(one.name, {}).items()}
                how: dict[str, Any] = {"on_verified": on_verified, "wall": wall, "quiet": quiet}
                self._sites[one.name] = TlsSite(one, where, **how, kept=files or None)
            except CertificateUnusable as unusable:
                wrong.append(f"{where}: {unusable}")
                problems.append(_problem(one, unusable))
            self._handshakes[one.name] = Handshakes(where)
        if wrong:
            raise SiteUnusable("\n".join(wrong), problems)
        self._following = Boundary("following the certificates' files")

    def __getitem__(self, name: str) -> TlsSite:
        return self._sites[name]

    def kept(self) -> dict[str, dict[str, str]]:
        """The files of each section as they are in use, with private keys, a character for each byte: for
        processes of this gateway that start now."""
        return {
            name: {path: raw.decode("latin-1") for path, raw in site.current.files.items()}
            for name, site in self._sites.items()
        }

    def layer(self, name: str, inner: Secured, turns: Turns) -> TlsConnection:
        """TLS below the protocol of a new connection."""
        return TlsConnection(inner, self._sites[name], self._handshakes[name], turns)

    def handshakes(self, name: str) -> Mapping[str, int]:
        """How many there were of each result."""
        return self._handshakes[name].results

    async def watch(self) -> None:
        """Follow the files, until it is cancelled."""
        while True:
            await asyncio.sleep(POLL)
            for site in self._sites.values():
                with self._following:
                    await site.follow()

    async def reload(self) -> None:
        """Load the files now."""
        for site in self._sites.values():
            await site.reload()

    def warnings(self) -> Iterator[str]:
        """What should be known of the files, with the section: what was refused, what expires soon."""
        for site in self._sites.values():
            if site.failure is not None:
                yield f"{site.where}: {site.failure}"
            for text in site.warnings():
                yield f"{site.where}: {text}"

    def notes(self) -> Iterator[str]:
        """As `warnings`, without folders: anybody may see it."""
        for name, site in self._sites.items():
            if site.failure is not None:
                file = PurePath(site.failure.path).name
                yield f"{name}: what its files hold now is refused: {file}: {site.failure.reason}"
            for text in site.warnings():
                yield f"{name}: {text.partition(': ')[2]}"

    def instruments(self) -> tuple[Instrument, ...]:
        """What the metrics show of them."""
        if not self._sites:
            return ()
        ends = "When a certificate in use expires, in seconds since the epoch."
        good = "1 while the certificates' files are what is in use, 0 while they are refused."
        return (
            Total("gateway_tls_handshakes", "Handshakes of TLS.", self._totals, ("tls", "result")),
            Gauge("gateway_tls_certificate_expires", ends, self._ends, ("tls", "certificate"), merge="min"),
            Gauge("gateway_tls_last_reload_successful", good, self._loaded, ("tls",), merge="min"),
        )

    def _totals(self) -> dict[tuple[str, ...], float]:
        found = self._handshakes.items()
        return {(name, result): n for name, one in found for result, n in one.results.items()}

    def _ends(self) -> dict[tuple[str, ...], float]:
        found = self._sites.items()
        return {(name, one.path): one.ends for name, site in found for one in site.current.certificates}

    def _loaded(self) -> dict[tuple[str, ...], float]:
        return {(name,): float(site.failure is None) for name, site in self._sites.items()}


def _problem(settings: TlsSettings, unusable: CertificateUnusable) -> Problem:
    keys = {pair.key: "key" for pair in settings.pairs if pair.key != pair.certificate}
    key = {settings.verify: "verify", settings.crl: "crl", **keys}.get(unusable.path, "certificate")
    section = f"[{SECTION}{settings.name}]"
    return Problem((section, key), f"{unusable.path}: {unusable.reason}", unusable.hint)


NO_SITES = TlsSites((), "")
