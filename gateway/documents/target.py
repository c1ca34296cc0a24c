"""The gateway's own documents over HTTP: which path and method is whose.

    GET    /                    the tenant's collections
    GET    /{c}                 a collection's settings; PUT declares it, PATCH and DELETE (collections.py)
    GET    /{c}/                list; QUERY, or POST /{c}/query (listing.py)
    POST   /{c}/                create, the id is ours; POST /{c} too
    GET    /{c}/{id}            read; PUT replaces or creates, PATCH, DELETE (writes.py)
    POST   /{c}/bulk            many writes (bulk.py)
    GET    /{c}/export          all of it; POST /{c}/import (transfer.py)
    GET    /{c}/changes         what changes (changes.py)

A document is answered as its own members and `id`; its entity tag is in ETag, and in a list in `_etag`.
Scopes are asked for here, with the collection's name: filtering and sorting is reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import MethodNotAllowed, NotFound
from gateway.core.http import paths
from gateway.core.model import Tenant
from gateway.core.policy.budget import Budget, Held
from gateway.documents import bulk, collections, large_answer, listing, writes
from gateway.documents.changes import Feeds
from gateway.documents.large_answer import LargeAnswer
from gateway.documents.request import content, parameters, preconditions, scopes, total
from gateway.documents.request.content import Accepted
from gateway.documents.transfer import Transfers
from gateway.edge.response import reply
from gateway.runtime.loop_slices import LoopSlices
from gateway.store.json import representation
from gateway.store.model.document import (
    RESERVED_IDS,
    Document,
    Precondition,
    check_collection,
    check_id,
)
from gateway.store.model.write import Quota
from gateway.store.port import DocumentStore, TenantStore

Handler = Callable[[Call, TenantStore, str], Awaitable[web.StreamResponse]]

_READS = frozenset({"GET", "HEAD"})
_STREAMS = frozenset({"export", "import", "changes"})  # they have no total time of their own


class Documents:
    """The target `documents`. The call has its tenant: a route to documents is never public. memory: for the
    bodies of requests. enter: counts a request of a tenant with a `concurrency`, and gives what ends that
    (TenantLimit). A feed is not counted there: how many may be open is said by `max_feeds`."""

    def __init__(
        self,
        store: DocumentStore,
        feeds: Feeds,
        memory: Budget,
        enter: Callable[[Tenant], Callable[[], None]] = lambda tenant: lambda: None,
    ) -> None:
        self._store = store
        self._enter = enter
        self.memory = memory
        transfers = Transfers(feeds.lifetimes)
        self._slices = LoopSlices(lambda: store.is_reading)
        self._below: dict[str, tuple[str, Accepted | None, Handler]] = {
            "query": ("POST", content.QUERY, listing.answer_query),
            "bulk": ("POST", content.NDJSON, bulk.answer),
            "export": ("GET, HEAD", None, transfers.answer_export),
            "import": ("POST", content.NDJSON, transfers.answer_import),
            "changes": ("GET, HEAD", None, feeds.answer),
        }

    def try_serve(self, call: Call) -> bool:
        """Answer a read by id at once, if it needs no waiting; see `Target`. Raises GatewayError."""
        client = call.client
        if call.method not in _READS or call.query or call.body or client is None or client.writing_paused:
            return False
        if call.head.timeouts:
            return False
        path = call.subpath
        if "%" in path:
            return False
        _, collection, *rest = path.split("/")
        if len(rest) != 1 or not rest[0] or rest[0] in RESERVED_IDS:
            return False
        check_collection(collection)
        check_id(rest[0])
        if not scopes.may(call, collection, "GET"):
            scopes.require(call, collection, "GET")
        if call.tenant is not None and call.tenant.concurrency:
            self._enter(call.tenant)()
        tenant = call.tenant
        assert tenant is not None
        document = self._store.tenant(tenant.id).read_now(collection, rest[0])
        if document is None:
            return False
        precondition = preconditions.read(call.head)
        if preconditions.is_known(precondition, document.etag):
            reply.send(call, 304, b"ETag: %b\r\n%b" % (document.etag.encode(), _PRIVATE), b"")
        else:
            lines = b"ETag: %b\r\n%b" % (document.etag.encode(), _PRIVATE_JSON)
            reply.send(call, 200, lines, representation.body(document).encode())
        return True

    async def serve(self, call: Call) -> web.StreamResponse:
        """Answer whatever may be asked of documents. Raises GatewayError."""
        left = total.seconds(call)
        segments = [paths.decode(segment) for segment in call.subpath.removeprefix("/").split("/")]
        tenant = call.tenant
        assert tenant is not None
        counted = tenant.concurrency and segments[1:] != ["changes"]
        leave = self._enter(tenant) if counted else None
        call.held = Held(self.memory, tenant.id.value, tenant.body_memory)
        call.slice = self._slices.of(tenant.id.value)
        answer = self._answer(call, self._tenant(call), segments)
        client, task = call.client, asyncio.current_task()
        if client is not None and task is not None and _only_reads(call.method, segments):
            client.when_gone(task.cancel)  # nobody is left to be answered: the query ends too
        try:
            if segments[1:2] and segments[1] in _STREAMS:
                return await answer
            response = await total.within(call, left, answer)
            return await response.send(call) if isinstance(response, LargeAnswer) else response
        finally:
            call.held.shrink(0)
            if leave is not None:
                leave()
            if client is not None:
                client.when_gone(None)

    async def _answer(self, call: Call, store: TenantStore, segments: list[str]) -> web.StreamResponse:
        if segments == [""]:
            if call.method not in _READS:
                return _other(call, "GET, HEAD")
            return await collections.answer_all(call, store)
        collection, *rest = segments
        if len(rest) > 1:
            raise NotFound()
        check_collection(collection)
        if not rest and call.method != "POST":
            return await collections.answer_one(call, store, collection)
        if rest in ([], [""]):
            return await _collection(call, store, collection)
        below = self._below.get(rest[0])
        if below is not None:
            methods, accepted, handler = below
            if call.method not in methods.split(", "):
                return _other(call, methods, [accepted] if accepted is not None else [])
            return await handler(call, store, collection)
        check_id(rest[0])
        return await _document(call, store, collection, rest[0])

    def _tenant(self, call: Call) -> TenantStore:
        tenant = call.tenant
        assert tenant is not None
        return self._store.tenant(tenant.id, _quota(tenant), tenant.weight)


_PRIVATE = b"Cache-Control: private, no-cache\r\n"
_PRIVATE_JSON = b"Content-Type: application/json\r\n" + _PRIVATE


def _quota(tenant: Tenant) -> Quota:
    return Quota(tenant.max_documents, tenant.max_bytes, tenant.max_collections)


async def _collection(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    method = call.method
    if method in _READS:
        return await listing.answer_documents(call, store, collection)
    if method == "QUERY":
        return await listing.answer_query(call, store, collection)
    if method != "POST":
        return _other(call, "GET, HEAD, QUERY, POST", (content.QUERY,))
    return await writes.create(call, store, collection)


async def _document(
    call: Call, store: TenantStore, collection: str, identifier: str
) -> web.StreamResponse:
    if call.method in _READS:
        parameters.read(call)
        scopes.require(call, collection, "GET")
        precondition = preconditions.read(call.head)
        return _read_answer(call, await store.read(collection, identifier), precondition)
    write = writes.METHODS.get(call.method)
    if write is None:
        return _other(call, "GET, HEAD, PUT, PATCH, DELETE", (content.PATCH,))
    return await write(call, store, collection, identifier)


def _only_reads(method: str, segments: list[str]) -> bool:
    """A write goes on when its client has left; see Keeping."""
    return method in _READS or method == "QUERY" or segments[1:] == ["query"]


def _other(call: Call, methods: str, accepted: Iterable[Accepted] = ()) -> web.Response:
    """OPTIONS tells what may be done here; any other method is refused, and is told the same."""
    tells = {str(hdrs.ALLOW): f"{methods}, OPTIONS"}
    for one in accepted:
        tells |= one.line
    if call.method == "OPTIONS":
        return reply.empty(204, tells)
    error = MethodNotAllowed(methods)
    error.headers = tells
    raise error



def _read_answer(call: Call, document: Document, precondition: Precondition) -> web.StreamResponse:
    headers: dict[str, str] = {hdrs.ETAG: document.etag, hdrs.CACHE_CONTROL: "private, no-cache"}
    if preconditions.is_known(precondition, document.etag):
        return reply.empty(304, headers)
    if document.encoded:
        large_answer.count(call, document)
        return LargeAnswer(200, document, headers)
    return listing.json_text(200, representation.body(document), headers)
