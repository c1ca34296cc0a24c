"""What the live config of one process stands on, as `[config]` of gateway.conf says."""

from __future__ import annotations

from pathlib import Path

from gateway.config.audit_log import FILE as AUDIT
from gateway.config.audit_log import AuditLog
from gateway.config.ports import ConfigSource, RevisionStore
from gateway.config.revisions.sqlite import FILE as REVISIONS
from gateway.config.revisions.sqlite import SQLiteRevisions
from gateway.config.sources.file import FileSource
from gateway.config.sources.store import StoreSource
from gateway.core.process.settings import ProcessConfig


class ConfigParts:
    """The source, the revisions, the audit, and what the data folder remembers. start() once, close() once.

    seed: the file of `[gateway] routing`, which the first config is made of. data: the data folder.
    """

    def __init__(self, config: ProcessConfig, data: Path) -> None:
        only_copy = config.live.source == "store"
        self.remembered = SQLiteRevisions(data / REVISIONS, only_copy=only_copy)
        self.audit = AuditLog(data / AUDIT, data / REVISIONS, config.live.audit_copy)
        self.seed = FileSource(Path(config.routing))
        self.revisions: RevisionStore = self.remembered
        self.source: ConfigSource = self.seed
        if config.live.source == "store":
            self.source = StoreSource(self.revisions)

    async def start(self) -> None:
        """Raises OSError with the name of the file, StoreUnavailable."""
        await self.remembered.start()
        if self.revisions is not self.remembered:
            await self.revisions.start()
        await self.audit.start()
        await self.source.start()

    async def close(self) -> None:
        """Let go of all of it."""
        await self.source.close()
        await self.audit.close()
        await self.revisions.close()
        if self.revisions is not self.remembered:
            await self.remembered.close()
