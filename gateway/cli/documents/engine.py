"""The store that gateway.conf names, opened for an operator's command; a gateway may be running on it."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from gateway.cli import console
from gateway.cli.documents.meter import Meter
from gateway.core.model import TenantId
from gateway.core.process.settings import ProcessConfig
from gateway.core.process.store_uri import SQLITE
from gateway.store.opening import document_store
from gateway.store.operator import Operator
from gateway.store.port import DocumentStore, TenantStore
from gateway.store.sqlite.operator import SQLiteOperator


class Unusable(Exception):
    """The command cannot be run. The text says what, why, and a hint."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An open store. location: where the data is, for messages; no secrets. store: makes the store that
    serves tenants. stopped: set to end a copy that runs."""

    location: str
    operator: Operator
    store: Callable[[], DocumentStore]
    meter: Meter
    stopped: Event

    @asynccontextmanager
    async def tenant(self, tenant: TenantId) -> AsyncIterator[TenantStore]:
        """A tenant's documents as the gateway sees them, without a quota."""
        store = self.store()
        try:
            await store.start()
            yield store.tenant(tenant)
        finally:
            await store.close()

    async def chosen(self, names: Iterable[TenantId]) -> tuple[TenantId, ...]:
        """The tenants that were named, all if none was. Raises Unusable when one has no data."""
        known = await self.operator.tenants()
        for tenant in names:
            if tenant not in known:
                there = ", ".join(map(str, known)) or "nobody"
                raise Unusable(f"{tenant} has no documents in {self.location}; there are those of: {there}")
        return tuple(dict.fromkeys(names)) or known


def open_engine(config: ProcessConfig, meter: Meter) -> Engine:
    """Open the store that the config names. meter: shows the progress of copies. Raises Unusable."""
    uri, stopped = config.store_uri, Event()

    def store() -> DocumentStore:
        return document_store(uri, os.urandom(32))  # its cursors do not outlive the command

    if not uri.startswith(SQLITE):
        # Only here: importing Motor takes a tenth of a second, and sets its number of threads.
        from gateway.store.mongo.driver import Driver
        from gateway.store.mongo.operator import MongoOperator

        driver = Driver(uri)
        return Engine(driver.name, MongoOperator(driver), store, meter, stopped)
    folder = Path(uri.removeprefix(SQLITE))
    _check_owner(folder)

    def copied(done: int, pages: int) -> None:
        if stopped.is_set():
            raise Unusable("it was interrupted")
        meter.show(done, pages, f"{done * 100 // max(pages, 1)} %")

    return Engine(console.short(folder), SQLiteOperator(folder, copied), store, meter, stopped)


def _check_owner(folder: Path) -> None:
    """Raises Unusable for another user than the folder's owner: the gateway could not open the files that
    this command would make."""
    if folder.exists() and (owner := folder.stat().st_uid) != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise Unusable(f"{folder} belongs to {name}; run this as that user: sudo -u {shlex.quote(name)} ...")


def reason(error: Exception) -> str:
    """The text of an error: its notes, which are for the operator, rather than the detail for a client."""
    notes = getattr(error, "__notes__", None)
    if notes:
        return "; ".join(notes)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
