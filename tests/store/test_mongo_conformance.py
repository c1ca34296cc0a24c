"""The MongoDB engine keeps what every engine promises, as a replica set and as a single server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest

from gateway.store.mongo import MongoDocumentStore
from gateway.store.port import Capability, DocumentStore
from tests.store import mongo_server
from tests.store.conformance import Conformance
from tests.store.conformance_collections import CollectionConformance
from tests.store.conformance_streams import StreamConformance
from tests.store.conformance_writes import WriteConformance


class SingleServer(MongoDocumentStore):
    """A store whose server is no replica set."""

    CAPABILITIES: ClassVar[frozenset[Capability]] = MongoDocumentStore.CAPABILITIES - {
        Capability.CHANGES,
        Capability.ATOMIC_BULK,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


@pytest.fixture
async def store(server: str, request: pytest.FixtureRequest) -> AsyncIterator[DocumentStore]:
    kind, transactions = request.cls.KIND, request.cls.KIND is MongoDocumentStore
    store = kind(mongo_server.driver(server, transactions=transactions), b"k" * 32)
    await store.start()
    yield store
    await store.close()


class TestMongo(Conformance):
    KIND = MongoDocumentStore


class TestMongoCollections(CollectionConformance):
    KIND = MongoDocumentStore


class TestMongoWrites(WriteConformance):
    KIND = MongoDocumentStore


class TestMongoStreams(StreamConformance):
    KIND = MongoDocumentStore


class TestSingleServer(Conformance):
    KIND = SingleServer


class TestSingleServerCollections(CollectionConformance):
    KIND = SingleServer


class TestSingleServerWrites(WriteConformance):
    KIND = SingleServer


class TestSingleServerStreams(StreamConformance):
    KIND = SingleServer
