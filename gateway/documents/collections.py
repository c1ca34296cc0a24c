"""Collections and their settings over HTTP.

A collection is answered as its settings, its `name`, and what is the gateway's own: `_etag`, `_declared`,
`_documents`, `_bytes`. What is answered can be sent back: those are left out of what is read.
"""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import BadRequest, MethodNotAllowed, Unprocessable
from gateway.core.model import MANAGE
from gateway.documents import large_answer
from gateway.documents.listing import json_text, link, prefix
from gateway.documents.request import content, idempotency, parameters, preconditions, scopes
from gateway.documents.request.kept import step
from gateway.documents.request.parameters import in_parameter
from gateway.edge.response import reply
from gateway.store.json.strict import dumps
from gateway.store.model import collection as settings
from gateway.store.model.collection import Collection
from gateway.store.model.patch import MergePatch
from gateway.store.port import TenantStore

METHODS = "GET, HEAD, PUT, PATCH, DELETE"
_SENT_AGAIN = "Settings can be sent again without it; with If-Match only while they are the same."
_OWN = frozenset({"_etag", "_declared", "_documents", "_bytes"})


async def answer_all(call: Call, store: TenantStore) -> web.StreamResponse:
    """200 `{"items": [...], "next": "..."}`: those that the token may read. A page may hold fewer than its
    limit, also because settings may be large; `next` says whether there are more."""
    given = parameters.read(call, ("limit", "cursor"))
    scopes.require_somewhere(call, "GET")
    limit, cursor = parameters.limit(given), given.get("cursor")
    with in_parameter("cursor"):
        page = await store.collections(limit, cursor)
    shown: list[bytes] = []
    for one in page.items:
        await step(call)
        if scopes.may(call, one.name, "GET"):
            shown.append(_text(one).encode())
    following = "" if page.next is None else f',"next":{dumps(page.next)}'
    parts = [b'{"items":[', *(part for one in shown for part in (one, b",")), f"]{following}}}".encode()]
    if shown:
        del parts[-2]
    return large_answer.page(call, parts, link(f"{prefix(call)}/", given, page.next))


async def answer_one(call: Call, store: TenantStore, name: str) -> web.Response:
    """One collection's settings, by any method but POST."""
    method = call.method
    if method in ("GET", "HEAD"):
        return await _read(call, store, name)
    if method == "PUT":
        return await _put(call, store, name)
    if method == "PATCH":
        return await _patch(call, store, name)
    if method == "DELETE":
        return await _delete(call, store, name)
    tells = {str(hdrs.ALLOW): f"{METHODS}, POST, OPTIONS", **content.MERGE_PATCH.line}
    if method == "OPTIONS":
        return reply.empty(204, tells)
    error = MethodNotAllowed(f"{METHODS}, POST")
    error.headers = tells
    raise error


async def _read(call: Call, store: TenantStore, name: str) -> web.Response:
    """For who may read the documents, and for who may change the settings."""
    parameters.read(call)
    if not scopes.may(call, name, MANAGE):
        scopes.require(call, name, "GET")
    precondition = preconditions.read(call.head)
    one = await store.collection(name)
    if preconditions.is_known(precondition, one.etag):
        return reply.empty(304, _headers(one))
    return json_text(200, _text(one), _headers(one))


async def _put(call: Call, store: TenantStore, name: str) -> web.Response:
    parameters.read(call)
    scopes.require(call, name, MANAGE)
    idempotency.refuse(call, _SENT_AGAIN)
    precondition = preconditions.read(call.head)
    raw = await content.read(call, content.JSON)
    given = _settings(await content.parse(store, raw, settings.parse_data), name)
    one, new = await store.put_collection(name, await store.settings(given), precondition)
    headers = _headers(one)
    if new:
        headers[hdrs.LOCATION] = f"{prefix(call)}/{name}"
    return json_text(201 if new else 200, _text(one), headers)


async def _patch(call: Call, store: TenantStore, name: str) -> web.Response:
    parameters.read(call)
    scopes.require(call, name, MANAGE)
    idempotency.refuse(call, _SENT_AGAIN)
    precondition = preconditions.read(call.head)
    raw = await content.read(call, content.MERGE_PATCH)
    given = _settings(await content.parse(store, raw, settings.parse_data), name)
    one = await store.patch_collection(name, MergePatch(given), precondition)
    return json_text(200, _text(one), _headers(one))


async def _delete(call: Call, store: TenantStore, name: str) -> web.Response:
    """`?documents=delete` deletes what it holds too, which needs the scopes to delete documents."""
    given = parameters.read(call, ("documents",))
    documents = "documents" in given
    scopes.require(call, name, MANAGE)
    idempotency.refuse(call, _SENT_AGAIN)
    if documents:
        if given["documents"] != "delete":
            raise BadRequest("documents is delete, or left out.", extra={"parameter": "documents"})
        scopes.require(call, name, "DELETE")
    await store.delete_collection(name, preconditions.read(call.head), documents=documents)
    return reply.empty(204)


def _settings(given: dict[str, Any], name: str) -> dict[str, Any]:
    """What a client may set of what it sent."""
    own = given.pop("name", name)
    if own != name:
        errors = [{"pointer": "/name", "detail": "differs from the name in the path"}]
        raise Unprocessable("The settings are not accepted; see errors.", extra={"errors": errors})
    return {member: value for member, value in given.items() if member not in _OWN}


def _headers(one: Collection) -> dict[str, str]:
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "private, no-cache"}
    if one.etag:
        headers[hdrs.ETAG] = one.etag
    return headers


def _text(one: Collection) -> str:
    """As JSON. The settings are text already, and may be large."""
    declared = "true" if one.declared else "false"
    own = f'"name":{dumps(one.name)},"_etag":{dumps(one.etag)},"_declared":{declared}'
    counts = f'"_documents":{one.documents},"_bytes":{one.bytes}'
    settings = one.text.removeprefix("{")
    return f'{{{own},{counts}{"" if settings == "}" else ","}{settings}'
