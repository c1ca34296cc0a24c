"""What both planes of a process stand on: its config, its data folder, its clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig
from gateway.edge.client.sockets import HeldSockets
from gateway.edge.tls.sites import TlsSites
from gateway.process import lock
from gateway.process.folders import data_folder, socket_folder
from gateway.process.lock import FolderLock
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


def take(config: ProcessConfig, *more: Any, supervise: bool) -> tuple[Ground, FolderLock | None]:
    """The ground of a process that is not a worker: makes the data folder, where it is not there, and locks
    it. more: the members of Ground from `application` on. Raises what these raise, by the setting's name."""
    with named_by("[gateway] data", config.path, config.data):
        data = data_folder(Path(config.data))  # first: whoever else makes it would not make it private
        held = lock.acquire(data, config.listen + config.admin, supervise=supervise)
        secret = ensure_secret(data / CURSOR_KEY)
    return Ground(config, data, secret, socket_folder(config.data), *more), held
