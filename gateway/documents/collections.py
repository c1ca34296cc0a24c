"""Collections and their settings over HTTP.

A collection is represented by its settings, its `name`, and the gateway's own members: `_etag`, `_declared`,
`_documents`, `_bytes`. A representation can be sent back as it is: the gateway's own members are ignored.
"""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import BadRequest
from gateway.core.model import MANAGE
from gateway.documents.request import content, head
from gateway.documents.request.content import Accepted
from gateway.documents.request.execution import give_way
from gateway.documents.request.head import in_parameter
from gateway.documents.responses import json_response, page_headers, page_response
from gateway.edge.response import reply
from gateway.store.json import strict
from gateway.store.json.strict import dumps
from gateway.store.model import collection as settings
from gateway.store.model.collection import Collection
from gateway.store.model.document import Precondition
from gateway.store.model.patch import MergePatch
from gateway.store.port import TenantStore

_SENT_AGAIN = "Settings can be sent again without it; with If-Match only while they are the same."
_OWN = frozenset({"_etag", "_declared", "_documents", "_bytes"})


async def list_collections(call: Call, store: TenantStore) -> web.StreamResponse:
    """200 `{"items": [...], "next": "..."}`: the collections that the token may read. A page may hold fewer
    than its limit, also because settings may be large; `next` says whether there are more."""
    given = head.parameters(call, ("limit", "cursor"))
    head.require_scopes_somewhere(call, "GET")
    limit, cursor = head.limit(given), given.get("cursor")
    with in_parameter("cursor"):
        page = await store.collections(limit, cursor)
    texts: list[bytes] = []
    for one in page.items:
        await give_way(call)
        if head.may(call, one.name, "GET"):
            texts.append(_text(one).encode())
    following = "" if page.next is None else f',"next":{dumps(page.next)}'
    parts = [b'{"items":[', *(part for one in texts for part in (one, b",")), f"]{following}}}".encode()]
    if texts:
        del parts[-2]
    return page_response(call, parts, page_headers(f"{head.base_path(call)}/", given, page.next))


async def read(call: Call, store: TenantStore, name: str) -> web.Response:
    """200 with the settings, or 304; for a token that may read the documents, or change the settings."""
    head.parameters(call)
    if not head.may(call, name, MANAGE):
        head.require_scopes(call, name, "GET")
    precondition = head.precondition(call.head)
    one = await store.collection(name)
    if head.is_current(precondition, one.etag):
        return reply.empty(304, _headers(one))
    return json_response(200, _text(one), _headers(one))


async def put(call: Call, store: TenantStore, name: str) -> web.Response:
    """201 when the collection was not declared before, else 200."""
    precondition, given = await _proposed(call, store, name, content.JSON)
    one, new = await store.put_collection(name, await store.settings(given), precondition)
    headers = _headers(one)
    if new:
        headers[hdrs.LOCATION] = f"{head.base_path(call)}/{name}"
    return json_response(201 if new else 200, _text(one), headers)


async def patch(call: Call, store: TenantStore, name: str) -> web.Response:
    """200: the settings with a merge patch applied."""
    precondition, given = await _proposed(call, store, name, content.MERGE_PATCH)
    one = await store.patch_collection(name, MergePatch(given), precondition)
    return json_response(200, _text(one), _headers(one))


async def delete(call: Call, store: TenantStore, name: str) -> web.Response:
    """204. `?documents=delete` deletes its documents too, which needs the scope to delete documents."""
    given = head.parameters(call, ("documents",))
    documents = "documents" in given
    head.require_scopes(call, name, MANAGE)
    head.refuse_idempotency_key(call, _SENT_AGAIN)
    if documents:
        if given["documents"] != "delete":
            raise BadRequest("documents is delete, or left out.", extra={"parameter": "documents"})
        head.require_scopes(call, name, "DELETE")
    await store.delete_collection(name, head.precondition(call.head), documents=documents)
    return reply.empty(204)


async def _proposed(
    call: Call, store: TenantStore, name: str, accepted: Accepted
) -> tuple[Precondition, dict[str, Any]]:
    """The precondition and the settings of a request that changes settings, once its token is checked."""
    head.parameters(call)
    head.require_scopes(call, name, MANAGE)
    head.refuse_idempotency_key(call, _SENT_AGAIN)
    precondition = head.precondition(call.head)
    raw = await content.read(call, accepted)
    return precondition, _settings(await content.parse(store, raw, settings.parse_data), name)


def _settings(given: dict[str, Any], name: str) -> dict[str, Any]:
    """The members that a client may set, of those that it sent. Raises Unprocessable."""
    own = given.pop("name", name)
    if own != name:
        problems = [("/name", "differs from the name in the path")]
        raise strict.refusal("The settings are not accepted; see errors.", problems)
    return {member: value for member, value in given.items() if member not in _OWN}


def _headers(one: Collection) -> dict[str, str]:
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "private, no-cache"}
    if one.etag:
        headers[hdrs.ETAG] = one.etag
    return headers


def _text(one: Collection) -> str:
    """As JSON. The settings are text already, and may be large, so they are not parsed and encoded again."""
    declared = "true" if one.declared else "false"
    own = f'"name":{dumps(one.name)},"_etag":{dumps(one.etag)},"_declared":{declared}'
    counts = f'"_documents":{one.documents},"_bytes":{one.bytes}'
    settings = one.text.removeprefix("{")
    return f"{{{own},{counts}{'' if settings == '}' else ','}{settings}"
