"""The SQLite engine keeps what every engine promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.port import DocumentStore
from gateway.store.sqlite import SQLiteDocumentStore
from tests.store.conformance import Conformance
from tests.store.conformance_collections import CollectionConformance


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DocumentStore]:
    store = SQLiteDocumentStore(tmp_path / "documents", b"k" * 32)
    await store.start()
    yield store
    await store.close()


class TestSQLite(Conformance):
    pass


class TestSQLiteCollections(CollectionConformance):
    pass
