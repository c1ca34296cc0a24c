"""One document: reading it by its id, and writing it.

The response of a write has the document; with `Prefer: return=minimal` (RFC 7240), and for a token that may
not read the collection, only its entity tag and its location.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.documents import responses
from gateway.documents.request import content, head
from gateway.documents.request.execution import run_to_end
from gateway.edge.client import body
from gateway.edge.response import reply
from gateway.store.json import representation
from gateway.store.model.write import Create, Delete, Replace, Update, Written
from gateway.store.port import TenantStore


async def read(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    """200 with the document, or 304 when the client has it already."""
    head.parameters(call)
    head.require_scopes(call, collection, "GET")
    precondition = head.precondition(call.head)
    document = await store.read(collection, identifier)
    status, lines, raw = responses.read(precondition, document)
    headers = dict(line.split(": ", 1) for line in lines.decode().splitlines())
    if status == 304:
        return reply.empty(status, headers)
    if document.encoded:
        responses.hold_document(call, document)
        return responses.large_document(status, document, headers)
    return web.Response(status=status, body=raw, headers=headers)


async def create(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    """201, under an id that the store makes."""
    _check(call, collection, "POST")
    raw = await content.read(call, content.JSON)
    key = await head.idempotency_key(call, raw)
    write = Create(await content.members(store, raw, None))
    written = await run_to_end(call, store.write(collection, write, key))
    return _written(call, collection, written, head.replayed(key))


async def replace(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    """201 for a new document, 200 for one that was there."""
    _check(call, collection, "PUT")
    precondition = head.precondition(call.head)
    raw = await content.read(call, content.JSON)
    key = await head.idempotency_key(call, raw)
    write = Replace(identifier, await content.members(store, raw, identifier), precondition)
    written = await run_to_end(call, store.write(collection, write, key))
    return _written(call, collection, written, head.replayed(key))


async def patch(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    """200 with the patched document. A JSON patch needs the scope to read, too: its tests and its paths say
    what is there."""
    _check(call, collection, "PATCH")
    precondition = head.precondition(call.head)
    media_type = content.check(call, content.PATCH)
    if media_type == content.JSON_PATCH_TYPE:
        _check(call, collection, "GET")
    raw = await body.read(call)
    key = await head.idempotency_key(call, raw)
    write = Update(identifier, await content.patch(store, raw, identifier, media_type), precondition)
    written = await run_to_end(call, store.write(collection, write, key))
    return _written(call, collection, written, head.replayed(key))


async def delete(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    """204."""
    _check(call, collection, "DELETE")
    precondition = head.precondition(call.head)
    key = await head.idempotency_key(call, b"")
    await store.write(collection, Delete(identifier, precondition), key)
    return reply.empty(204, head.replayed(key))


def _check(call: Call, collection: str, action: str) -> None:
    """What is checked of a write before a byte of its body is read."""
    head.parameters(call)
    head.require_scopes(call, collection, action)
    head.check_idempotency_key(call)


def _written(
    call: Call, collection: str, written: Written | None, more: Mapping[str, str]
) -> web.StreamResponse:
    """The response of a write, which is no deletion. more: its other headers. Without the document also where
    it is a replay's and has changed since, and where there is no memory for a large one."""
    assert written is not None
    document, created = written.document, written.created
    headers: dict[str, str] = {hdrs.ETAG: document.etag, **more}
    if created:
        headers[hdrs.LOCATION] = f"{head.base_path(call)}/{collection}/{quote(document.id, safe='')}"
    preferred = _preferred(call)
    if preferred and (document.whole or preferred == "minimal"):
        headers["Preference-Applied"] = f"return={preferred}"
    if preferred == "minimal" or not document.whole or not head.may(call, collection, "GET"):
        return reply.empty(201 if created else 204, headers)
    if document.encoded:
        if not responses.try_hold_document(call, document):
            return reply.empty(201 if created else 204, headers)
        return responses.large_document(201 if created else 200, document, headers)
    return responses.json_response(201 if created else 200, representation.body(document), headers)


def _preferred(call: Call) -> str:
    """`minimal` or `representation` when Prefer asks for it; anything else in it is ignored, as it must be
    (RFC 7240 section 2)."""
    for line in call.head.values(b"prefer"):
        for preference in line.lower().split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip() == "return" and value.strip(' \t"') in ("minimal", "representation"):
                return value.strip(' \t"')
    return ""
