"""The SQLite engine keeps what every engine promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.port import DocumentStore
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.store.conformance import Conformance
from tests.store.conformance_collections import CollectionConformance
from tests.store.conformance_costs import CostConformance
from tests.store.conformance_order import OrderConformance
from tests.store.conformance_streams import StreamConformance
from tests.store.conformance_writes import WriteConformance


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


class TestSQLiteWrites(WriteConformance):
    pass


class TestSQLiteStreams(StreamConformance):
    pass


class TestSQLiteCosts(CostConformance):
    pass


class TestSQLiteOrder(OrderConformance):
    pass
