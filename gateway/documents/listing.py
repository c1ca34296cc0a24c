"""Lists over HTTP: `?filter= &sort= &fields= &limit= &cursor= &count=`, or the same as members of a body
(QUERY, and POST to /query)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar
from urllib.parse import urlencode
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import BadRequest
from gateway.core.policy.forwarding import public_prefix
from gateway.documents import large_answer
from gateway.documents.request import content, parameters, scopes
from gateway.documents.request.parameters import Parameters, in_body, in_parameter
from gateway.runtime import threads
from gateway.store.filter import parse as filters
from gateway.store.filter import regex
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.json import representation, strict
from gateway.store.json.strict import dumps
from gateway.store.model import projection
from gateway.store.model import sort as sorts
from gateway.store.model.document import Document
from gateway.store.model.projection import WHOLE
from gateway.store.model.query import DEFAULT_LIMIT, MAX_LIMIT, Page, Query
from gateway.store.model.sort import SortKey
from gateway.store.port import TenantStore

_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by tenant, of compiling patterns

R = TypeVar("R")
S = TypeVar("S", str, bytes)

# A Link header is left out when its value would be longer: `next` is in the body too, and many clients
# refuse header lines of more than 8 KiB.
MAX_LINK = 7000
# Characters of a filter or a query that the event loop reads itself, in half a millisecond, if it has no more
# than a few small patterns.
HERE = 2048

_NOT_ACCEPTED = "The query is not accepted; see errors."
NAMES = ("filter", "sort", "fields", "limit", "cursor", "count")


async def answer_documents(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    """200 `{"items": [...], "next": "...", "count": 2}`; `next` is absent on the last page, `count` unless
    asked for."""
    scopes.require(call, collection, "GET")
    given = parameters.read(call, NAMES)
    query = await _from_parameters(store, given)
    with in_parameter("cursor"), await compiled(call, query.filter):
        page = await store.list(collection, query)
    return _page(call, page, link(f"{prefix(call)}/{collection}/", given, page.next))


async def answer_query(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    """The same, asked by a body (the QUERY method, draft-ietf-httpbis-safe-method-w-body)."""
    scopes.require(call, collection, "GET")
    parameters.read(call)
    raw = await content.read(call, content.QUERY)
    query = await _quickly(store, _from_body, raw)
    with in_body("/cursor"), await compiled(call, query.filter):
        page = await store.list(collection, query)
    return _page(call, page, link("", {}, None))


def json_text(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    """An answer whose JSON is already text: what is stored is not parsed and written anew."""
    return web.Response(status=status, body=text.encode(), content_type="application/json", headers=headers)


def prefix(call: Call) -> str:
    """What stands before our paths in public: what proxies before us have stripped, and what we do."""
    assert call.route is not None
    return public_prefix(call.forwarded) + call.route.strip.rstrip("/")


def link(path: str, given: Parameters, cursor: str | None) -> dict[str, str]:
    """The headers of a page. RFC 8288: where the next one is, as a path."""
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "private, no-cache"}
    if cursor is not None:
        value = f'<{path}?{urlencode({**given, "cursor": cursor})}>; rel="next"'
        if len(value) <= MAX_LINK:
            headers[hdrs.LINK] = value
    return headers


def _page(call: Call, page: Page[Document], headers: Mapping[str, str]) -> web.StreamResponse:
    following = "" if page.next is None else f',"next":{dumps(page.next)}'
    count = "" if page.count is None else f',"count":{page.count}'
    end = f"]{following}{count}}}"
    if sum(len(document.text) + len(document.encoded) for document in page.items) <= large_answer.LARGE_PAGE:
        items = ",".join([representation.item(document) for document in page.items])
        return json_text(200, f'{{"items":[{items}{end}', headers)
    parts: list[bytes | memoryview] = [b'{"items":[']
    for number, document in enumerate(page.items):
        parts += ([b","] if number else []) + list(representation.item_parts(document))
    parts.append(end.encode())
    return large_answer.page(call, parts, headers)


async def parse_filter(store: TenantStore, given: Parameters) -> Node:
    """The filter's nodes. Raises BadRequest."""
    text = given.get("filter")
    if text is None:
        return EVERYTHING
    with in_parameter("filter"):
        return await _quickly(store, filters.parse, text)


async def _quickly(store: TenantStore, parse: Callable[..., R], given: S) -> R:
    """What `parse` makes of a filter or a query: read here, or by a worker where that takes longer."""
    if len(given) <= HERE:
        with suppress(filters.NotQuick):
            return parse(given, quick=True)
    return await store.work(parse, given)


async def compiled(call: Call, node: Node) -> AbstractContextManager[object]:
    """The patterns of a filter stay compiled, and are it before a query asks for them: on the event loop that
    would hold up all others, and so it does for each document again where many queries have many patterns.
    Each tenant has one filter at a time in the thread that compiles."""
    patterns = filters.patterns(node)
    if not patterns:
        return nullcontext()
    if all(map(regex.is_known, patterns)):
        return nullcontext(regex.compiled_all(patterns))
    assert call.tenant is not None
    turn = _turns.setdefault(call.tenant.id.value, asyncio.Lock())
    async with turn:
        return nullcontext(await threads.run(threads.PATTERNS, regex.compiled_all, patterns))


async def _from_parameters(store: TenantStore, given: Parameters) -> Query:
    node = await parse_filter(store, given)
    with in_parameter("sort"):
        keys = sorts.parse(given["sort"]) if "sort" in given else ()
    with in_parameter("fields"):
        fields = projection.parse(given["fields"]) if "fields" in given else WHOLE
    count = parameters.flag(given, "count")
    return Query(node, keys, parameters.limit(given), given.get("cursor"), fields, count)


def _from_body(raw: bytes, *, quick: bool = False) -> Query:
    given = strict.read(raw, "body", _NOT_ACCEPTED)
    if not isinstance(given, dict):
        raise _refused("", f"a query is an object of {', '.join(NAMES)}")
    for name in given:
        if name not in NAMES:
            raise _refused(strict.pointer(name), f"not known here; known are {', '.join(NAMES)}")
    node: Node = EVERYTHING
    keys: tuple[SortKey, ...] = ()
    fields = WHOLE
    if "filter" in given:
        with in_body("/filter"):
            node = filters.parse_value(given["filter"], quick=quick)
    if "sort" in given:
        with in_body("/sort"):
            keys = sorts.parse(_names(given["sort"], "sort"))
    if "fields" in given:
        with in_body("/fields"):
            fields = projection.parse(_names(given["fields"], "fields"))
    limit, cursor, count = given.get("limit", DEFAULT_LIMIT), given.get("cursor"), given.get("count", False)
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise _refused("/limit", f"a whole number from 1 to {MAX_LIMIT}")
    if cursor is not None and not isinstance(cursor, str):
        raise _refused("/cursor", "the `next` of the page before, a string")
    if not isinstance(count, bool):
        raise _refused("/count", "true or false")
    return Query(node, keys, limit, cursor, fields, count)


def _names(value: Any, what: str) -> str:
    """A sort or fields: as in a parameter, or an array of its parts."""
    if isinstance(value, list) and all(isinstance(item, str) and "," not in item for item in value):
        return ",".join(value)
    if not isinstance(value, str):
        raise BadRequest(f'The {what} is not accepted: write "a,-b", or an array of such names.')
    return value


def _refused(pointer: str, detail: str) -> BadRequest:
    errors = [{"pointer": pointer, "detail": detail}]
    return BadRequest(_NOT_ACCEPTED, extra={"errors": errors})
