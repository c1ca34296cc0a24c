"""Lists over HTTP: `?filter= &sort= &fields= &limit= &cursor= &count=`, or the same as members of a body
(QUERY, and POST to /query)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from aiohttp import web

from gateway.call import Call
from gateway.core.errors import BadRequest, GatewayError
from gateway.documents.request import content, head
from gateway.documents.request.content import in_body
from gateway.documents.request.head import Parameters, in_parameter
from gateway.documents.responses import LARGE_PAGE, json_response, page_headers, page_response
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

_compile_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by tenant

R = TypeVar("R")
S = TypeVar("S", str, bytes)

# Characters of a filter or a query that the event loop parses itself, in half a millisecond, if it has no
# more than a few small patterns.
INLINE_CHARACTERS = 2048

_REFUSED = "The query is not accepted; see errors."
PARAMETERS = ("filter", "sort", "fields", "limit", "cursor", "count")


async def list_documents(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    """200 `{"items": [...], "next": "...", "count": 2}`; `next` is absent on the last page, `count` unless
    asked for."""
    head.require_scopes(call, collection, "GET")
    given = head.parameters(call, PARAMETERS)
    query = await _from_parameters(store, given)
    with in_parameter("cursor"), await compiled_patterns(call, query.filter):
        page = await store.list(collection, query)
    return _page(call, page, page_headers(f"{head.base_path(call)}/{collection}/", given, page.next))


async def query_documents(call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
    """As list_documents, asked by a body (the QUERY method, draft-ietf-httpbis-safe-method-w-body)."""
    head.require_scopes(call, collection, "GET")
    head.parameters(call)
    raw = await content.read(call, content.QUERY)
    query = await _parsed(store, _from_body, raw)
    with in_body("/cursor"), await compiled_patterns(call, query.filter):
        page = await store.list(collection, query)
    return _page(call, page, page_headers("", {}, None))


def _page(call: Call, page: Page[Document], headers: Mapping[str, str]) -> web.StreamResponse:
    following = "" if page.next is None else f',"next":{dumps(page.next)}'
    count = "" if page.count is None else f',"count":{page.count}'
    end = f"]{following}{count}}}"
    if sum(len(document.text) + len(document.encoded) for document in page.items) <= LARGE_PAGE:
        items = ",".join([representation.item(document) for document in page.items])
        return json_response(200, f'{{"items":[{items}{end}', headers)
    parts: list[bytes | memoryview] = [b'{"items":[']
    for number, document in enumerate(page.items):
        parts += ([b","] if number else []) + list(representation.item_parts(document))
    parts.append(end.encode())
    return page_response(call, parts, headers)


async def parse_filter(store: TenantStore, given: Parameters) -> Node:
    """The nodes of `?filter=`; EVERYTHING without one. Raises BadRequest."""
    text = given.get("filter")
    if text is None:
        return EVERYTHING
    with in_parameter("filter"):
        return await _parsed(store, filters.parse, text)


async def _parsed(store: TenantStore, parse: Callable[..., R], given: S) -> R:
    """The result of `parse` for a filter or a query: here, or in a worker process where it takes longer."""
    if len(given) <= INLINE_CHARACTERS:
        with suppress(filters.NotQuick):
            return parse(given, quick=True)
    return await store.work(parse, given)


async def compiled_patterns(call: Call, node: Node) -> AbstractContextManager[object]:
    """Compile the patterns of a filter in a thread before the query asks for them; they stay compiled while
    the result is held. On the event loop, compiling would block all others, and would do so again for each
    document where many queries have many patterns. Each tenant has one filter at a time in the thread."""
    patterns = filters.patterns(node)
    if not patterns:
        return nullcontext()
    if all(map(regex.is_known, patterns)):
        return nullcontext(regex.compiled_all(patterns))
    assert call.tenant is not None
    lock = _compile_locks.setdefault(call.tenant.id.value, asyncio.Lock())
    async with lock:
        return nullcontext(await threads.run(threads.PATTERNS, regex.compiled_all, patterns))


async def _from_parameters(store: TenantStore, given: Parameters) -> Query:
    node = await parse_filter(store, given)
    with in_parameter("sort"):
        keys = sorts.parse(given["sort"]) if "sort" in given else ()
    with in_parameter("fields"):
        fields = projection.parse(given["fields"]) if "fields" in given else WHOLE
    count = head.flag(given, "count")
    return Query(node, keys, head.limit(given), given.get("cursor"), fields, count)


def _from_body(raw: bytes, *, quick: bool = False) -> Query:
    given = strict.read(raw, "body", _REFUSED)
    if not isinstance(given, dict):
        raise _refused("", f"a query is an object of {', '.join(PARAMETERS)}")
    for name in given:
        if name not in PARAMETERS:
            raise _refused(strict.pointer(name), f"not known here; known are {', '.join(PARAMETERS)}")
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
    """A sort or fields of a body as a parameter has it: text, or an array of its parts."""
    if isinstance(value, list) and all(isinstance(item, str) and "," not in item for item in value):
        return ",".join(value)
    if not isinstance(value, str):
        raise BadRequest(f'The {what} is not accepted: write "a,-b", or an array of such names.')
    return value


def _refused(pointer: str, detail: str) -> GatewayError:
    return strict.refusal(_REFUSED, [(pointer, detail)], BadRequest)
