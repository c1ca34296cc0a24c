"""The gateway's own documents over HTTP.

    GET    /                    the tenant's collections
    GET    /{c}/                list: ?filter= &sort= &limit= &cursor=
    POST   /{c}/                create, the id is ours
    GET    /{c}/{id}            read; PUT replaces or creates, PATCH merges (RFC 7396), DELETE removes

A document is answered as its own members and `id`; its entity tag is in ETag, and in a list in `_etag`.
Preconditions are those of RFC 9110 section 13, evaluated inside the write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core import paths
from gateway.core.errors import MethodNotAllowed, NotFound, UnsupportedMediaType
from gateway.edge import body, reply
from gateway.handlers import listing, preconditions
from gateway.store import representation
from gateway.store.document import Document, Precondition, check_collection, check_id, names, parse_members
from gateway.store.patch import MergePatch
from gateway.store.port import DocumentStore, TenantStore

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

ROOT_METHODS = "GET, HEAD"
COLLECTION_METHODS = "GET, HEAD, POST"
DOCUMENT_METHODS = "GET, HEAD, PUT, PATCH, DELETE"

# Beyond this many bytes a body is parsed in a thread, so that other calls go on meanwhile.
PARSE_INLINE = 64 * 1024


class Documents:
    """The target `documents`. The call has its tenant: a route to documents is never public."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def __call__(self, call: Call) -> web.StreamResponse:
        assert call.tenant is not None and call.route is not None
        store = self._store.tenant(call.tenant.id)
        segments = [paths.decode(segment) for segment in call.subpath.removeprefix("/").split("/")]
        if segments == [""]:
            return await _root(call, store)
        collection, *rest = segments
        if len(rest) > 1:
            raise NotFound()
        check_collection(collection)
        if rest in ([], [""]):
            return await _collection(call, store, collection)
        check_id(rest[0])
        return await _document(call, store, collection, rest[0])


async def _root(call: Call, store: TenantStore) -> web.Response:
    if call.method not in ("GET", "HEAD"):
        raise MethodNotAllowed(ROOT_METHODS)
    return await listing.answer_collections(call, store)


async def _collection(call: Call, store: TenantStore, collection: str) -> web.Response:
    if call.method in ("GET", "HEAD"):
        return await listing.answer_documents(call, store, collection)
    if call.method != "POST":
        raise MethodNotAllowed(COLLECTION_METHODS)
    listing.no_parameters(call)
    document = await store.create(collection, await _read_members(call, None, (JSON,)))
    return _written(call, collection, document, created=True)


async def _document(call: Call, store: TenantStore, collection: str, identifier: str) -> web.Response:
    method = call.method
    if method not in DOCUMENT_METHODS.split(", "):
        raise MethodNotAllowed(DOCUMENT_METHODS)
    listing.no_parameters(call)
    precondition = preconditions.read(call)
    if method in ("GET", "HEAD"):
        document = await store.read(collection, identifier)
        return _read_answer(document, precondition)
    if method == "DELETE":
        await store.delete(collection, identifier, precondition)
        return reply.empty(204)
    if method == "PUT":
        data = await _read_members(call, identifier, (JSON,))
        written = await store.replace(collection, identifier, data, precondition)
        return _written(call, collection, written.document, created=written.created)
    patch = MergePatch(await _read_members(call, identifier, (MERGE_PATCH, JSON)))
    document = await store.patch(collection, identifier, patch, precondition)
    return _written(call, collection, document, created=False)


def _read_answer(document: Document, precondition: Precondition) -> web.Response:
    """RFC 9110 section 13.2.2: If-Match first, then If-None-Match, which is 304 on a read."""
    headers: dict[str, str] = {hdrs.ETAG: document.etag, hdrs.CACHE_CONTROL: "private, no-cache"}
    none_match = precondition.none_match
    Precondition(match=precondition.match).require(document.etag)
    if none_match is not None and names(none_match, document.etag):
        return reply.empty(304, headers)
    return listing.json_text(200, representation.body(document), headers)


def _written(call: Call, collection: str, document: Document, *, created: bool) -> web.Response:
    headers: dict[str, str] = {hdrs.ETAG: document.etag}
    if created:
        headers[hdrs.LOCATION] = f"{listing.prefix(call)}/{collection}/{quote(document.id, safe='')}"
    return listing.json_text(201 if created else 200, representation.body(document), headers)


async def _read_members(call: Call, identifier: str | None, types: tuple[str, ...]) -> dict[str, Any]:
    """The body as members. Raises UnsupportedMediaType, what body.read raises, and parse_members raises."""
    _check_content(call.headers, types)
    raw = await body.read(call)
    if len(raw) <= PARSE_INLINE:
        return parse_members(raw, identifier)
    return await asyncio.to_thread(parse_members, raw, identifier)


def _check_content(headers: Mapping[str, str], types: tuple[str, ...]) -> None:
    media_type, _, parameters = headers.get(hdrs.CONTENT_TYPE, "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    coding = headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if media_type.strip().lower() not in types or charset not in ("", "utf-8") or coding != "identity":
        accept = hdrs.ACCEPT if MERGE_PATCH not in types else "Accept-Patch"
        detail = f"Send {' or '.join(types)} in UTF-8, without a content coding."
        raise UnsupportedMediaType(detail, headers={accept: ", ".join(types)})
