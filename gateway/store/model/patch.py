"""Patches of a document: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902)."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import BodyTooLarge, GatewayError, PatchConflict
from gateway.store.filter.matcher import same
from gateway.store.json import strict
from gateway.store.model.document import MAX_DOCUMENT_BYTES, check_members, merge_patch

MAX_OPERATIONS = 1000
_WITH_VALUE, _WITH_FROM = frozenset({"add", "replace", "test"}), frozenset({"move", "copy"})
_KNOWN = _WITH_VALUE | _WITH_FROM | {"remove"}


@dataclass(frozen=True, slots=True)
class MergePatch:
    """A merge patch (RFC 7396)."""

    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JsonPatchOperation:
    """One operation of RFC 6902. path, source: JSON pointers, split and unescaped; source is `from`."""

    op: str
    path: tuple[str, ...]
    source: tuple[str, ...] = ()
    value: Any = None


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """A JSON patch (RFC 6902): all of its operations are applied, or none."""

    operations: tuple[JsonPatchOperation, ...]


@dataclass(frozen=True, slots=True)
class LargePatch:
    """A large patch (see json/large.py), or one of many, as its text, which was checked. array: it is a JSON
    patch, else a merge patch."""

    array: bool
    text: bytes


Patch = MergePatch | JsonPatch | LargePatch


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the operations of a patch may copy and move at most, in bytes of JSON and in values."""

    bytes: int
    values: int


class BeyondBounds(Exception):
    """A patch copies or moves more than the Bounds that it was applied with. Nothing was changed."""


def apply(
    patch: Patch,
    data: Mapping[str, Any],
    identifier: str = "",
    *,
    own: bool = False,
    bounds: Bounds | None = None,
) -> dict[str, Any]:
    """The members after the patch; `data` is not changed, unless it is the caller's `own` to lose.

    identifier: the document's id. A JSON patch sees it as the member `id`, as readers of the document do; it
    may test and copy it, and must not change it. Raises PatchConflict, Unprocessable, BodyTooLarge (RFC
    5789 section 2.2 has the statuses).

    bounds: for callers that must not hold the interpreter for long. Each copy of the whole document doubles
    it, so the size of a patch does not bound its work. Raises BeyondBounds.
    """
    if isinstance(patch, LargePatch):
        patch = parse_json_patch(patch.text) if patch.array else MergePatch(json.loads(patch.text))
    if isinstance(patch, MergePatch):
        merged: dict[str, Any] = merge_patch(data, patch.members)
        return merged
    whole = {"id": identifier, **data} if identifier else dict(data)
    result = _Application(whole if own else copy.deepcopy(whole), bounds).run(patch.operations)
    if not isinstance(result, dict):
        raise _refused("", "the patch leaves something else than an object")
    if identifier and result.get("id") == identifier:
        del result["id"]
    check_members(result)
    return result


def parse_json_patch(raw: bytes) -> JsonPatch:
    """The body of a PATCH. Raises BadRequest (not JSON), Unprocessable (not a patch; with pointers)."""
    value = strict.read(raw, "body", "The patch is not accepted.")
    if not isinstance(value, list):
        raise _refused("", "a JSON patch is an array of operations")
    if len(value) > MAX_OPERATIONS:
        raise _refused("", f"a JSON patch has at most {MAX_OPERATIONS} operations")
    return JsonPatch(tuple(_operation(item, f"/{index}") for index, item in enumerate(value)))


def _operation(item: Any, at: str) -> JsonPatchOperation:
    if not isinstance(item, dict):
        raise _refused(at, "an operation is an object")
    op = item.get("op")
    if not isinstance(op, str) or op not in _KNOWN:
        raise _refused(f"{at}/op", f"op is one of {', '.join(sorted(_KNOWN))}")
    path = _pointer(item, "path", at)
    source = _pointer(item, "from", at) if op in _WITH_FROM else ()
    if op in _WITH_VALUE and "value" not in item:
        raise _refused(f"{at}/value", "this operation needs a value")
    if (path[:1] == ("id",) and op != "test") or (source[:1] == ("id",) and op == "move"):
        raise _refused(f"{at}/path", "the id of a document cannot be changed")
    if op == "move" and path[: len(source)] == source and path != source:
        raise _refused(f"{at}/from", "a value cannot be moved into itself")
    return JsonPatchOperation(op, path, source, item.get("value"))


def _pointer(item: dict[str, Any], name: str, at: str) -> tuple[str, ...]:
    text = item.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _refused(f"{at}/{name}", "a JSON pointer (RFC 6901), such as /a/b")
    if any(part[:1] not in ("0", "1") for part in text.split("~")[1:]):
        raise _refused(f"{at}/{name}", "in a JSON pointer ~ stands only in ~0 and ~1")
    names = tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])
    if len(names) > strict.MAX_DEPTH:
        raise _refused(f"{at}/{name}", f"deeper than {strict.MAX_DEPTH} levels")
    return names


class _Application:
    """One application of a JSON patch. What `copy` adds is measured, since a thousand copies would double a
    document each; and what `move` moves, since its depth is checked each time."""

    def __init__(self, data: Mapping[str, Any], bounds: Bounds | None) -> None:
        self._root: Any = data
        self._added = 0
        self._bounds = bounds
        self._bytes = self._values = 0

    def run(self, operations: tuple[JsonPatchOperation, ...]) -> Any:
        for index, operation in enumerate(operations):
            try:
                self._apply(operation)
            except (LookupError, TypeError):
                raise _conflict(index, "its path leads to nothing in the document") from None
        return self._root

    def _apply(self, operation: JsonPatchOperation) -> None:
        op, path = operation.op, operation.path
        if op == "test":
            if not same(self._get(path), operation.value, ordered=False):
                pointer = strict.pointer(*path)
                raise PatchConflict("A test of the patch failed.", extra={"pointer": pointer})
        elif op == "add":
            self._add(path, copy.deepcopy(operation.value))
        elif op == "remove":
            self._remove(path)
        elif op == "replace":
            self._get(path)
            self._replace(path, copy.deepcopy(operation.value))
        elif op == "copy":
            text = self._measure(self._get(operation.source))
            self._added += len(text)
            if self._added > MAX_DOCUMENT_BYTES:
                raise BodyTooLarge(f"A document is at most {MAX_DOCUMENT_BYTES} bytes.")
            self._add(path, json.loads(text))  # in a third of the time of a deep copy
        elif path != operation.source:
            if self._bounds is not None:
                self._measure(self._get(operation.source))
            self._add(path, self._remove(operation.source))
        else:
            self._get(path)

    def _measure(self, value: Any) -> str:
        """The text of a value that is copied or moved, counted. Raises BeyondBounds."""
        text = strict.dumps(value)
        if self._bounds is not None:
            self._bytes += len(text)
            self._values += 1 + strict.marks(text)
            if self._bytes > self._bounds.bytes or self._values > self._bounds.values:
                raise BeyondBounds
        return text

    def _get(self, path: tuple[str, ...]) -> Any:
        value = self._root
        for name in path:
            if isinstance(value, list):
                value = value[_position(name, len(value) - 1)]
            else:
                value = _object(value)[name]
        return value

    def _add(self, path: tuple[str, ...], value: Any) -> None:
        _check_depth(path, value)
        if not path:
            self._root = value
            return
        parent = self._get(path[:-1])
        if isinstance(parent, list):
            parent.insert(len(parent) if path[-1] == "-" else _position(path[-1], len(parent)), value)
        else:
            _object(parent)[path[-1]] = value

    def _replace(self, path: tuple[str, ...], value: Any) -> None:
        """Replace a value where it is, which keeps the order of the members."""
        _check_depth(path, value)
        if not path:
            self._root = value
            return
        parent = self._get(path[:-1])
        if isinstance(parent, list):
            parent[_position(path[-1], len(parent) - 1)] = value
        else:
            parent[path[-1]] = value

    def _remove(self, path: tuple[str, ...]) -> Any:
        value = self._get(path)
        if not path:
            self._root = None
            return value
        parent = self._get(path[:-1])
        del parent[_position(path[-1], len(parent) - 1) if isinstance(parent, list) else path[-1]]
        return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise KeyError
    return value


def _position(name: str, last: int) -> int:
    """The index that a reference token names: digits without a leading zero (RFC 6901 section 4)."""
    if not (name.isascii() and name.isdigit() and len(name) < 9) or (name[0] == "0" and name != "0"):
        raise IndexError
    if int(name) > last:
        raise IndexError
    return int(name)


def _check_depth(path: tuple[str, ...], value: Any) -> None:
    if len(path) + _depth(value) > strict.MAX_DEPTH:
        raise _refused(strict.pointer(*path), f"nested deeper than {strict.MAX_DEPTH} levels")


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _conflict(index: int, detail: str) -> PatchConflict:
    return PatchConflict(f"Operation {index} of the patch cannot be done: {detail}.")


def _refused(pointer: str, detail: str) -> GatewayError:
    return strict.refusal("The patch is not accepted; see errors.", [(pointer, detail)])
