"""The gateway's own documents over HTTP: which handler serves which path and method. See `Resources`.

A document is represented by its own members and `id`; its entity tag is in ETag, and in a list in `_etag`.
Scopes are checked by the handlers, with the collection's name: filtering and sorting is reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import MethodNotAllowed, NotFound
from gateway.core.http.request_target import decode_segment
from gateway.core.methods import SAFE
from gateway.core.model import Tenant
from gateway.core.policy.budget import Budget, Held
from gateway.documents import bulk, collections, document, listing, responses
from gateway.documents.changes import Feeds
from gateway.documents.request import content, head
from gateway.documents.request.content import Accepted
from gateway.documents.request.execution import seconds_left, within
from gateway.documents.responses import LargeResponse
from gateway.documents.transfer import Transfers
from gateway.edge.response import reply
from gateway.runtime.loop_slices import LoopSlices
from gateway.store.model.document import RESERVED_IDS, check_collection, check_id
from gateway.store.model.write import Quota
from gateway.store.port import DocumentStore, TenantStore

Response = Awaitable[web.StreamResponse]
TenantHandler = Callable[[Call, TenantStore], Response]
CollectionHandler = Callable[[Call, TenantStore, str], Response]
DocumentHandler = Callable[[Call, TenantStore, str, str], Response]
H = TypeVar("H", TenantHandler, CollectionHandler, DocumentHandler)

_READS = frozenset({"GET", "HEAD"})
_STREAMS = frozenset({"export", "import", "changes"})  # the total time does not bound them


@dataclass(frozen=True, slots=True)
class Resource(Generic[H]):
    """One kind of path. methods: the handlers by method, in the order of Allow. accepted: media types of
    bodies."""

    methods: Mapping[str, H]
    accepted: Accepted | None = None

    def other(self, call: Call) -> web.Response:
        """The response to a method that nothing serves: OPTIONS lists what is served; any other raises
        MethodNotAllowed, with the same headers."""
        methods = ", ".join(self.methods)
        headers = {str(hdrs.ALLOW): f"{methods}, OPTIONS"}
        if self.accepted is not None:
            headers |= self.accepted.headers
        if call.method == "OPTIONS":
            return reply.empty(204, headers)
        raise MethodNotAllowed(methods).with_headers(headers)


class Resources:
    """Which handler serves which path and method below the route."""

    def __init__(self, feeds: Feeds, transfers: Transfers) -> None:
        # /
        self.tenant: Resource[TenantHandler] = Resource(
            {"GET": collections.list_collections, "HEAD": collections.list_collections}
        )
        # /{collection}
        self.collection: Resource[CollectionHandler] = Resource(
            {
                "GET": collections.read,
                "HEAD": collections.read,
                "PUT": collections.put,
                "PATCH": collections.patch,
                "DELETE": collections.delete,
                "POST": document.create,
            },
            content.MERGE_PATCH,
        )
        # /{collection}/
        self.list: Resource[CollectionHandler] = Resource(
            {
                "GET": listing.list_documents,
                "HEAD": listing.list_documents,
                "QUERY": listing.query_documents,
                "POST": document.create,
            },
            content.QUERY,
        )
        # /{collection}/{identifier}
        self.document: Resource[DocumentHandler] = Resource(
            {
                "GET": document.read,
                "HEAD": document.read,
                "PUT": document.replace,
                "PATCH": document.patch,
                "DELETE": document.delete,
            },
            content.PATCH,
        )
        # /{collection}/{name}, a name that no document has (RESERVED_IDS)
        self.named: Mapping[str, Resource[CollectionHandler]] = {
            "query": Resource({"POST": listing.query_documents}, content.QUERY),
            "bulk": Resource({"POST": bulk.write_many}, content.NDJSON),
            "export": Resource({"GET": transfers.serve_export, "HEAD": transfers.serve_export}),
            "import": Resource({"POST": transfers.serve_import}, content.NDJSON),
            "changes": Resource({"GET": feeds.serve, "HEAD": feeds.serve}),
        }

    async def serve(self, call: Call, store: TenantStore, segments: list[str]) -> web.StreamResponse:
        """The response of the handler for these segments of the path, decoded. Raises NotFound,
        MethodNotAllowed, BadRequest for a name or an id that is not one, and what handlers raise."""
        if segments == [""]:
            list_collections = self.tenant.methods.get(call.method)
            return await list_collections(call, store) if list_collections else self.tenant.other(call)
        collection, *rest = segments
        if len(rest) > 1:
            raise NotFound()
        check_collection(collection)
        if not rest:
            resource = self.collection
        elif rest == [""]:
            resource = self.list
        elif rest[0] in self.named:
            resource = self.named[rest[0]]
        else:
            check_id(rest[0])
            serve_document = self.document.methods.get(call.method)
            if serve_document is None:
                return self.document.other(call)
            return await serve_document(call, store, collection, rest[0])
        serve = resource.methods.get(call.method)
        return await serve(call, store, collection) if serve else resource.other(call)


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
        self._slices = LoopSlices(lambda: store.is_reading)
        self._resources = Resources(feeds, Transfers(feeds.lifetimes))

    def try_serve(self, call: Call) -> bool:
        """Serve a read by id at once, if nothing has to be waited for; see `Target`. Raises GatewayError."""
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
        tenant = call.tenant
        assert tenant is not None
        if tenant.concurrency:  # what is checked first is the same both ways
            self._enter(tenant)()
        head.require_scopes(call, collection, "GET")
        precondition = head.precondition(call.head)
        found = self._store.tenant(tenant.id).read_now(collection, rest[0])
        if found is None:
            return False
        status, lines, body = responses.read(precondition, found)
        reply.send(call, status, lines, body)
        return True

    async def serve(self, call: Call) -> web.StreamResponse:
        """Serve any request to documents; see `Target`. Raises GatewayError."""
        seconds = seconds_left(call)
        segments = [decode_segment(segment) for segment in call.subpath.removeprefix("/").split("/")]
        tenant = call.tenant
        assert tenant is not None
        counted = tenant.concurrency and segments[1:] != ["changes"]
        leave = self._enter(tenant) if counted else None
        call.held = Held(self.memory, tenant.id.value, tenant.body_memory)
        call.slice = self._slices.of(tenant.id.value)
        store = self._store.tenant(tenant.id, _quota(tenant), tenant.weight)
        serving = self._resources.serve(call, store, segments)
        client, task = call.client, asyncio.current_task()
        if client is not None and task is not None and _only_reads(call.method, segments):
            client.when_gone(task.cancel)  # nobody is left to read the response: the query ends too
        try:
            if segments[1:2] and segments[1] in _STREAMS:
                return await serving
            response = await within(call, seconds, serving)
            return await response.send(call) if isinstance(response, LargeResponse) else response
        finally:
            call.held.shrink(0)
            if leave is not None:
                leave()
            if client is not None:
                client.when_gone(None)


def _quota(tenant: Tenant) -> Quota:
    return Quota(tenant.max_documents, tenant.max_bytes, tenant.max_collections)


def _only_reads(method: str, segments: list[str]) -> bool:
    """Whether nothing is written, so that the call may end when its client leaves; see run_to_end."""
    return method in SAFE or segments[1:] == ["query"]
