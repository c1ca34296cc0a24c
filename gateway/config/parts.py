"""What the live config of one process stands on, as `[config]` of gateway.conf says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.config.audit.log import FILE as AUDIT
from gateway.config.audit.log import AuditLog
from gateway.config.nodes.nodes import Alone, Registry
from gateway.config.nodes.run import Run
from gateway.config.ports import ConfigSource, RevisionStore
from gateway.config.revisions.sqlite import FILE as REVISIONS
from gateway.config.revisions.sqlite import SQLiteRevisions
from gateway.config.sources.file import FileSource
from gateway.config.sources.store import StoreSource
from gateway.core.process import mongo_uri
from gateway.core.process.config_source import ConfigSettings
from gateway.core.process.settings import ProcessConfig
from gateway.runtime import threads

if TYPE_CHECKING:
    from gateway.config.zookeeper import ZooKeeper

L = logging.getLogger(__name__)


class ConfigParts:
    """The source, the revisions, the audit, and what the data folder remembers. start() once, close() once.

    seed: the file of `[gateway] routing`, of which the first config is made. data: the data folder. name: of
    this folder among others, for stores that they share. nodes: where the processes report that share the
    config. application: of ASAB, if there is one.
    """

    def __init__(self, config: ProcessConfig, data: Path, name: str, application: Any = None) -> None:
        live = config.live
        self.name = name
        self.run = Run(data, name)
        self.remembered = SQLiteRevisions(data / REVISIONS, only_copy=live.source == "store")
        self.audit = AuditLog(data / AUDIT, data / REVISIONS, live.audit_copy)
        self.seed = FileSource(Path(config.routing))
        self.revisions: RevisionStore = self.remembered
        self.source: ConfigSource = self.seed
        self.nodes: Registry = Alone()
        self.zookeeper: ZooKeeper | None = None
        uri = live.uri if live.source == "mongodb" else config.store_uri
        if uri.startswith(mongo_uri.SCHEMES):
            self.revisions, self.nodes = _mongo(uri, name)
        if live.source in ("store", "mongodb"):
            in_file = self.revisions is self.remembered
            place = str(data / REVISIONS) if in_file else mongo_uri.without_secrets(uri)
            self.source = StoreSource(self.revisions, live.source, place)
        elif live.source == "zookeeper":
            self.zookeeper, self.source, self.nodes = _zookeeper(live, application)

    async def start(self) -> None:
        """Raises OSError with the name of the file, StoreUnavailable."""
        await threads.run(threads.REVISIONS, self.run.start)
        await self.remembered.start()
        if self.revisions is not self.remembered:
            await self.revisions.start()
        await self.audit.start()
        if self.zookeeper is not None:
            await self.zookeeper.start()
        if self.source is not self.seed and self.seed.path.exists():
            L.warning(
                "[config] source = %s: %s is not read but for the very first config, so saving it changes"
                " nothing; change what is live with `gateway edit`, or `gateway apply FILE`",
                *(self.source.kind, self.seed.path),
            )

    async def close(self) -> None:
        """Let go of all of it."""
        if self.zookeeper is not None:
            await self.zookeeper.close()
        await self.audit.close()
        if self.revisions is not self.remembered:
            await self.revisions.close()
        await self.remembered.close()
        await threads.run(threads.REVISIONS, self.run.close)


def _mongo(uri: str, name: str) -> tuple[RevisionStore, Registry]:
    # Only here: importing Motor takes a tenth of a second.
    from gateway.config.nodes.mongo import MongoNodes
    from gateway.config.revisions.mongo import MongoRevisions
    from gateway.store.mongo.driver import Driver

    unreachable = "The MongoDB with the config's revisions cannot be reached at the moment"
    driver = Driver(uri, None, "the config", unreachable)  # the application knows that of the documents
    return MongoRevisions(driver, name), MongoNodes(driver)


def _zookeeper(live: ConfigSettings, application: Any) -> tuple[ZooKeeper, ConfigSource, Registry]:
    # Only here: its client takes a while to import.
    from gateway.config.nodes.zookeeper import ZooKeeperNodes
    from gateway.config.sources.zookeeper import ZooKeeperSource
    from gateway.config.zookeeper import ZooKeeper

    servers = ",".join(live.servers)
    zookeeper = ZooKeeper(servers, credentials=live.credentials, application=application)
    nodes = ZooKeeperNodes(zookeeper, live.path)
    return zookeeper, ZooKeeperSource(zookeeper, live.path), nodes
