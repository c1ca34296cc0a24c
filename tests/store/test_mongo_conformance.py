"""The MongoDB engine keeps what every engine promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.store.mongo import MongoDocumentStore
from gateway.store.port import DocumentStore
from tests.store import mongo_server
from tests.store.conformance import Conformance


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


@pytest.fixture
async def store(server: str) -> AsyncIterator[DocumentStore]:
    store = MongoDocumentStore(mongo_server.driver(server), b"k" * 32)
    await store.start()
    yield store
    await store.close()


class TestMongo(Conformance):
    pass
