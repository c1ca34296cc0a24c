"""Many writes in one request: a line of NDJSON for each, and in the response a line with its outcome, in
order.

    {"op": "create", "data": {...}}
    {"op": "replace", "id": "a", "data": {...}, "if_match": "\"tag\"", "if_none_match": "*"}
    {"op": "patch", "id": "a", "data": {...}}     an object is a merge patch, an array a JSON patch
    {"op": "delete", "id": "a", "if_match": "\"tag\""}

At most MAX_BULK of them. Each succeeds or fails by itself; with `?atomic=true` all are done or none, and the
response is then the problem of the one that failed, with its `line`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

from aiohttp import web

from gateway.call import Call
from gateway.core.errors import BadRequest, BodyTooLarge, GatewayError
from gateway.documents.request import content, head
from gateway.documents.request.content import in_body
from gateway.documents.request.execution import give_way, run_to_end
from gateway.store.json import large, strict
from gateway.store.json.large import is_light
from gateway.store.json.strict import dumps
from gateway.store.model.document import LargeMembers, Members, Precondition, check_id, name_problem
from gateway.store.model.patch import JsonPatch, LargePatch, MergePatch, parse_json_patch
from gateway.store.model.write import (
    MAX_BULK,
    Create,
    Delete,
    Outcome,
    Replace,
    Update,
    Write,
    failed,
)
from gateway.store.port import TenantStore
from gateway.store.transfer import LineSplitter

_MEMBERS = {
    "create": ("data",),
    "replace": ("id", "data", "if_match", "if_none_match"),
    "patch": ("id", "data", "if_match", "if_none_match"),
    "delete": ("id", "if_match", "if_none_match"),
}

_ACTIONS = ("POST", "PUT", "PATCH", "DELETE")

# The number of a line in the body, from 1; and the line parsed, or why it is refused.
_Operation = Create | Replace | Update | Delete
_Item = tuple[int, Write | GatewayError]


async def write_many(call: Call, store: TenantStore, collection: str) -> web.Response:
    """200 with a line for each operation; a problem when an atomic bulk failed."""
    atomic = head.flag(head.parameters(call, ("atomic",)), "atomic")
    if not any(head.may(call, collection, action) for action in _ACTIONS):
        head.require_scopes(call, collection, *_ACTIONS)  # before a byte of it is read
    head.check_idempotency_key(call)
    raw = await content.read(call, content.NDJSON)
    key = await head.idempotency_key(call, raw)
    items = await _parse(call, store, raw)
    # Each method once, however many lines there are.
    head.require_scopes(call, collection, *{action: None for _, item in items for action in _actions(item)})
    writes = []
    for line, item in items:
        if not isinstance(item, GatewayError):
            writes.append(item)
        elif atomic:
            raise _with_line(item, line)
    outcomes: tuple[Outcome, ...] = ()
    if writes:
        outcomes = await run_to_end(call, store.bulk(collection, writes, atomic=atomic, idempotency=key))
    if atomic:
        _raise_failure(items, outcomes)
    results = iter(outcomes)
    lines = []
    for _, item in items:
        await give_way(call)
        outcome = failed(item) if isinstance(item, GatewayError) else next(results)
        lines.append(dumps(outcome.data) + "\n")
    return web.Response(
        body="".join(lines).encode(), content_type=content.NDJSON_TYPE, headers=head.replayed(key)
    )


def _raise_failure(items: list[_Item], outcomes: tuple[Outcome, ...]) -> None:
    """Raises the error of an atomic bulk: that of the write which failed, not of those that were rolled
    back."""
    for (line, _), outcome in zip(items, outcomes, strict=True):
        if outcome.error is not None and outcome.status != 424:
            raise _BulkFailed(outcome, line)


class _BulkFailed(GatewayError):
    """An atomic bulk failed: the outcome of the write that failed, as the problem of the request."""

    def __init__(self, outcome: Outcome, line: int) -> None:
        error = dict(outcome.error or {})
        self.status, self.code = outcome.status, error.pop("code")  # type: ignore[misc]
        self.title = error.pop("title")  # type: ignore[misc]
        detail = f"Nothing was written, because line {line} failed: {error.pop('detail')}"
        extra = {"line": line, **({"id": outcome.id} if outcome.id else {}), **error}
        super().__init__(detail, extra=extra)


def _with_line(error: GatewayError, line: int) -> GatewayError:
    return error.about(f"Nothing was written, because line {line} failed").with_members(line=line)


def _actions(item: Write | GatewayError) -> tuple[str, ...]:
    """The methods that would do the same as this line, for its scopes; none for a line that was refused."""
    if isinstance(item, Create):
        return ("POST",)
    if isinstance(item, Replace):
        return ("PUT",)
    if isinstance(item, Update):
        # Its tests and its paths say what is there.
        tests = isinstance(item.patch, JsonPatch) or (isinstance(item.patch, LargePatch) and item.patch.array)
        return ("PATCH", "GET") if tests else ("PATCH",)
    return ("DELETE",) if isinstance(item, Delete) else ()


async def _parse(call: Call, store: TenantStore, raw: bytes) -> list[_Item]:
    splitter = LineSplitter()
    lines = []
    await give_way(call)
    for found in chain(splitter.split(raw), splitter.end()):
        lines.append(found)
        if len(lines) > MAX_BULK:
            raise BodyTooLarge(f"A bulk has at most {MAX_BULK} operations; an import has no such limit.")
        await give_way(call)
    if not lines:
        raise BadRequest("A bulk has one operation or more, a line each.")
    as_text = not is_light(raw)
    items: list[_Item] = []
    for number, line in lines:
        await give_way(call)  # before each line: to refuse one takes longer than to read some
        try:
            items.append((number, await _operation(store, line, as_text=as_text)))
        except GatewayError as error:
            # Without its traceback, which leads back to these items: a reference cycle.
            items.append((number, error.with_traceback(None)))
    return items


async def _operation(store: TenantStore, raw: bytes, *, as_text: bool) -> _Operation:
    """A line as a write. as_text: its data is held as text, for the values of a thousand lines of 9 KiB take
    70 MiB, and freeing them at once takes the event loop 30 ms. Raises Unprocessable, BadRequest."""
    if is_light(raw):
        given = strict.read(raw, "line", "The operation is not accepted.")
        write = _write(given)
        return _held_as_text(write, given["data"]) if as_text and not isinstance(write, Delete) else write
    given, kind, text = await store.work(large.operation_parts, raw)
    if kind == "object":
        given["data"] = LargeMembers(text)
    elif kind == "array":
        given["data"] = LargePatch(True, text)
    return _write(given)


def _held_as_text(write: Create | Replace | Update, data: Any) -> _Operation:
    """The same write with its data, which was checked, as text."""
    text = dumps(data).encode()
    if isinstance(write, Update):
        return replace(write, patch=LargePatch(isinstance(data, list), text))
    return replace(write, data=LargeMembers(text))


def _write(given: Any) -> _Operation:
    """An operation as a write. Raises Unprocessable, BadRequest."""
    if not isinstance(given, dict):
        raise _refused("", "an operation is an object")
    op = given.pop("op", None)
    if not isinstance(op, str) or op not in _MEMBERS:
        raise _refused("/op", f"one of {', '.join(_MEMBERS)}")
    for name in given:
        if name not in _MEMBERS[op]:
            known = f"not known here; known are op, {', '.join(_MEMBERS[op])}"
            raise _refused(strict.pointer(name), known)
    if op == "create":
        return Create(_data(given, None))
    identifier = given.get("id")
    if not isinstance(identifier, str):
        raise _refused("/id", "the id of a document, a string")
    with in_body("/id"):
        check_id(identifier)
    precondition = Precondition(
        _tags(given, "if_match", weak=False), _tags(given, "if_none_match", weak=True)
    )
    if op == "delete":
        return Delete(identifier, precondition)
    if op == "replace":
        return Replace(identifier, _data(given, identifier), precondition)
    data = given.get("data")
    if isinstance(data, LargePatch):
        return Update(identifier, data, precondition)
    if isinstance(data, list):
        with in_body("/data"):
            return Update(identifier, parse_json_patch(dumps(data).encode()), precondition)
    members = _data(given, identifier)
    merge = LargePatch(False, members.text) if isinstance(members, LargeMembers) else MergePatch(members)
    return Update(identifier, merge, precondition)


def _data(given: dict[str, Any], identifier: str | None) -> Members:
    """A document's members, or a merge patch of them; as a body of its own is read."""
    data = given.get("data")
    if isinstance(data, LargeMembers):
        return data
    if not isinstance(data, dict):
        raise _refused("/data", "an object")
    with in_body("/data"):
        strict.require(data, "The data cannot be a document.", name_problem)
    if "id" in data and data.pop("id") != identifier:
        raise _refused("/data/id", "differs from the id of the operation, or is of a document to be made")
    return data


def _tags(given: dict[str, Any], name: str, *, weak: bool) -> frozenset[str] | None:
    """A precondition, written as in its header."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _refused(f"/{name}", "a string, as in the header of that name")
    with in_body(f"/{name}"):
        return head.entity_tags(name, [value], weak=weak)


def _refused(pointer: str, detail: str) -> GatewayError:
    return strict.refusal("The operation is not accepted; see errors.", [(pointer, detail)])
