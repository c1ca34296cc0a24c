"""Which engine a URI asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.core.process.store_uri import SQLITE
from gateway.store.json.large import Jobs
from gateway.store.moving.port import Moves
from gateway.store.moving.store import MovingStore
from gateway.store.port import DocumentStore
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.moves import SQLiteMoves


def document_store(
    uri: str,
    cursor_key: bytes,
    application: Any = None,
    *,
    patient: bool = False,
    jobs: Jobs | None = None,
    moved_too: bool = False,
) -> DocumentStore:
    """The engine that a URI asks for, not started. patient: its start waits for no server. jobs: where large
    documents are worked on; without them, here. moved_too: see the engines."""
    if uri.startswith(SQLITE):
        return SQLiteDocumentStore(_folder(uri), cursor_key, jobs=jobs, moved_too=moved_too)
    # Only here: importing Motor takes a tenth of a second, and sets its number of threads.
    from gateway.store.mongo.driver import Driver
    from gateway.store.mongo.engine import MongoDocumentStore

    driver = Driver(uri, application)
    return MongoDocumentStore(driver, cursor_key, patient=patient, jobs=jobs, moved_too=moved_too)


def moves(uri: str, application: Any = None) -> Moves:
    """The part of that engine in moving tenants."""
    if uri.startswith(SQLITE):
        return SQLiteMoves(_folder(uri))
    from gateway.store.mongo.driver import Driver
    from gateway.store.mongo.moves import MongoMoves

    return MongoMoves(Driver(uri, application))


def served_store(
    uri: str, next_uri: str, cursor_key: bytes, application: Any = None, *, jobs: Jobs | None = None
) -> DocumentStore:
    """What a gateway serves: the store of `[store] uri`, and of those tenants that were moved that of
    `[store] next`, where one is named."""
    first = document_store(uri, cursor_key, application, patient=True, jobs=jobs)
    if not next_uri:
        return first
    second = document_store(next_uri, cursor_key, application, patient=True, jobs=jobs)
    return MovingStore(first, second, moves(uri, application))


def _folder(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE))
