"""Lists over HTTP: reading the query's parameters, and answering pages of documents and of collections."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import BadRequest
from gateway.edge import reply
from gateway.store import filter as filters
from gateway.store import representation
from gateway.store import sort as sorts
from gateway.store.nodes import EVERYTHING
from gateway.store.port import TenantStore
from gateway.store.query import DEFAULT_LIMIT, MAX_LIMIT, Query
from gateway.store.strict_json import dumps

# A Link header is left out when its value would be longer: `next` is in the body too, and many clients
# refuse header lines of more than 8 KiB.
MAX_LINK = 7000

Parameters = Mapping[str, str]


async def answer_documents(call: Call, store: TenantStore, collection: str) -> web.Response:
    """200 `{"items": [...], "next": "..."}`; `next` is absent on the last page."""
    parameters = _parameters(call, ("filter", "sort", "limit", "cursor"))
    query = Query(
        filter=filters.parse(parameters["filter"]) if "filter" in parameters else EVERYTHING,
        sort=sorts.parse(parameters["sort"]) if "sort" in parameters else (),
        limit=_limit(parameters),
        cursor=parameters.get("cursor"),
    )
    page = await store.list(collection, query)
    items = ",".join(representation.item(document) for document in page.items)
    following = "" if page.next is None else f',"next":{dumps(page.next)}'
    headers = _link(f"{prefix(call)}/{collection}/", parameters, page.next)
    return json_text(200, f'{{"items":[{items}]{following}}}', headers)


async def answer_collections(call: Call, store: TenantStore) -> web.Response:
    """200 `{"items": [{"name": "..."}], "next": "..."}`."""
    parameters = _parameters(call, ("limit", "cursor"))
    page = await store.collections(_limit(parameters), parameters.get("cursor"))
    content: dict[str, object] = {"items": [{"name": collection.name} for collection in page.items]}
    if page.next is not None:
        content["next"] = page.next
    return reply.json(call, 200, content, _link(f"{prefix(call)}/", parameters, page.next))


def json_text(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    """An answer whose JSON is already text: what is stored is not parsed and written anew."""
    return web.Response(status=status, body=text.encode(), content_type="application/json", headers=headers)


def prefix(call: Call) -> str:
    """What stands before our paths in public."""
    assert call.route is not None
    return call.route.strip.rstrip("/")


def no_parameters(call: Call) -> None:
    """Raises BadRequest when the request has a query."""
    _parameters(call, ())


def _parameters(call: Call, known: tuple[str, ...]) -> Parameters:
    if not call.query:
        return {}
    try:
        pairs = parse_qsl(call.query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:  # UnicodeDecodeError is one too
        raise BadRequest("The query is not name=value pairs with & between, percent-encoded UTF-8.") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise BadRequest("A query parameter is there more than once.")
    if not parameters.keys() <= set(known):
        allowed = f"Known here: {', '.join(known)}." if known else "None is known here."
        raise BadRequest(f"A query parameter is unknown. {allowed}")
    return parameters


def _limit(parameters: Parameters) -> int:
    text = parameters.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise BadRequest(f"limit is a number from 1 to {MAX_LIMIT}.")
    return int(text)


def _link(path: str, parameters: Parameters, cursor: str | None) -> dict[str, str]:
    """RFC 8288: where the next page is, as a path."""
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "private, no-cache"}
    if cursor is not None:
        link = f'<{path}?{urlencode({**parameters, "cursor": cursor})}>; rel="next"'
        if len(link) <= MAX_LINK:
            headers[hdrs.LINK] = link
    return headers
