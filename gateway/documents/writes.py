"""Writing one document. What it answers (RFC 7240): the document, or with `Prefer: return=minimal`, and for a
token that may not read the collection, only its tag and where it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.documents import large_answer, listing
from gateway.documents.request import content, idempotency, parameters, preconditions, scopes
from gateway.documents.request.kept import kept
from gateway.edge.client import body
from gateway.edge.response import reply
from gateway.store.json import representation
from gateway.store.model.document import Document
from gateway.store.port import TenantStore


async def create(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    """201, under an id that the store made."""
    _allow(call, collection, "POST")
    raw = await content.read(call, content.JSON)
    key = await idempotency.read(call, raw)
    data = await content.members(store, raw, None)
    document = await kept(call, store.create(collection, data, idempotency=key))
    return _answer(call, collection, document, idempotency.replayed(key), created=True)


async def _replace(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    _allow(call, collection, "PUT")
    precondition = preconditions.read(call.head)
    raw = await content.read(call, content.JSON)
    key = await idempotency.read(call, raw)
    data = await content.members(store, raw, identifier)
    written = await kept(call, store.replace(collection, identifier, data, precondition, idempotency=key))
    more = idempotency.replayed(key)
    return _answer(call, collection, written.document, more, created=written.created)


async def _patch(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    _allow(call, collection, "PATCH")
    precondition = preconditions.read(call.head)
    media_type = content.check(call, content.PATCH)
    if media_type == content.JSON_PATCH_TYPE:
        _allow(call, collection, "GET")  # its tests and its paths tell what is there
    raw = await body.read(call)
    key = await idempotency.read(call, raw)
    patch = await content.patch(store, raw, identifier, media_type)
    document = await kept(call, store.patch(collection, identifier, patch, precondition, idempotency=key))
    return _answer(call, collection, document, idempotency.replayed(key), created=False)


async def _delete(call: Call, store: TenantStore, collection: str, identifier: str) -> web.StreamResponse:
    _allow(call, collection, "DELETE")
    precondition = preconditions.read(call.head)
    key = await idempotency.read(call, b"")
    await store.delete(collection, identifier, precondition, idempotency=key)
    return reply.empty(204, idempotency.replayed(key))


METHODS: Mapping[str, Callable[[Call, TenantStore, str, str], Awaitable[web.StreamResponse]]] = {
    "PUT": _replace,
    "PATCH": _patch,
    "DELETE": _delete,
}


def _allow(call: Call, collection: str, action: str) -> None:
    parameters.read(call)
    scopes.require(call, collection, action)
    idempotency.check(call)


def _answer(
    call: Call, collection: str, document: Document, more: Mapping[str, str], *, created: bool
) -> web.StreamResponse:
    """Without the document also where a replay's has changed since, and its text is not remembered."""
    headers: dict[str, str] = {hdrs.ETAG: document.etag, **more}
    if created:
        headers[hdrs.LOCATION] = f"{listing.prefix(call)}/{collection}/{quote(document.id, safe='')}"
    preferred = _preferred(call)
    if preferred and (document.whole or preferred == "minimal"):
        headers["Preference-Applied"] = f"return={preferred}"
    if preferred == "minimal" or not document.whole or not scopes.may(call, collection, "GET"):
        return reply.empty(201 if created else 204, headers)
    if document.encoded:
        if not large_answer.fits(call, document):
            return reply.empty(201 if created else 204, headers)
        return large_answer.LargeAnswer(201 if created else 200, document, headers)
    return listing.json_text(201 if created else 200, representation.body(document), headers)


def _preferred(call: Call) -> str:
    """`minimal` or `representation` when Prefer asks for it; anything else in it is ignored, as it must be
    (RFC 7240 section 2)."""
    for line in call.head.values(b"prefer"):
        for preference in line.lower().split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip() == "return" and value.strip(' \t"') in ("minimal", "representation"):
                return value.strip(' \t"')
    return ""
