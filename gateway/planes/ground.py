"""What both planes of a process stand on: its config, its data folder, its clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig
from gateway.edge.client.sockets import HeldSockets
from gateway.edge.tls.sites import TlsSites
from gateway.setting_errors import named_by


@dataclass(frozen=True, slots=True)
class Ground:
    """data: the data folder. secret: of this installation. sockets: where backends have theirs. now: a
    monotonic clock, wall: the other one, since the epoch; both in seconds. application: the ASAB application
    with which services register, if there is one. held: sockets of systemd. certificates: those that
    the master uses, see TlsSites.kept."""

    config: ProcessConfig
    data: Path
    secret: bytes
    sockets: str
    application: Any = None
    now: Callable[[], float] = monotonic
    wall: Callable[[], float] = time
    held: HeldSockets | None = None
    certificates: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def tls(
        self,
        listens: Iterable[Listen],
        *,
        on_verified: Callable[[], None] = lambda: None,
        quiet: bool = False,
    ) -> TlsSites:
        """What these listeners name of TLS; the arguments are those of TlsSites. Raises SiteUnusable."""
        named = {one.tls for one in listens}
        settings = [one for one in self.config.tls if one.name in named]
        conf, wall = self.config.path, self.wall
        kept = self.certificates
        return TlsSites(settings, conf, on_verified=on_verified, wall=wall, quiet=quiet, kept=kept)

    def named(self, setting: str, path: str) -> AbstractContextManager[None]:
        """What fails inside is said with the setting that names the path."""
        return named_by(setting, self.config.path, path)
