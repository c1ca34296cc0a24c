"""The part of a filter that MongoDB evaluates: conditions that hold for each document that matches, and maybe
for more.

The reference matcher decides what matches, so both engines mean the same; the server only makes it few. So
nothing depends on where BSON's comparison differs from ours, and no pattern of a client runs in the server.
Every operator in what comes out was put there by this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.store.filter import nodes
from gateway.store.mongo.read import keys as mongo_keys
from gateway.store.mongo.rows import Ordered

Query = dict[str, Any]
Indexes = Mapping[nodes.Path, Ordered]

_OWN = {nodes.ID: "id", nodes.CREATED: "cr", nodes.MODIFIED: "mo"}
_MAX_ENTRIES = 200  # values of an $in that are looked up in an index


def narrow(node: nodes.Node, indexes: Indexes, prefix: nodes.Path = ()) -> Query | None:
    """A query that every match fulfils; None: no condition is known. indexes: those that can be used."""
    if isinstance(node, nodes.And):
        found = [narrow(inner, indexes, prefix) for inner in node.nodes]
        known = [part for part in found if part is not None]
        return {"$and": known} if known else None
    if isinstance(node, nodes.Or):
        parts = []
        for inner in node.nodes:
            part = narrow(inner, indexes, prefix)
            if part is None:
                return None
            parts.append(part)
        return {"$or": parts} if parts else {"_id": {"$in": []}}
    if isinstance(node, nodes.Not):
        return None
    if not prefix and node.path in _OWN:
        return _own(node, _OWN[node.path])
    path = prefix + node.path
    if isinstance(node, nodes.ElemMatch):
        inside = None if node.path == nodes.ITSELF else narrow(node.node, indexes, path)
        return _both(_typed(path, "array"), inside)
    if path in indexes:
        return _both(_entry(node, indexes[path].token), _member(node, path))
    return _member(node, path)


def _both(left: Query | None, right: Query | None) -> Query | None:
    if left is None or right is None:
        return left or right
    return {"$and": [left, right]}


def _own(node: nodes.Condition, name: str) -> Query | None:
    """A condition on the id or an instant: never an array, never missing."""
    match node:
        case nodes.Eq(_, value):
            return {name: {"$eq": value}} if _plain(value) else {"_id": {"$in": []}}
        case nodes.In(_, values):
            return {name: {"$in": [value for value in values if _plain(value)]}}
        case nodes.Compare(_, op, value) if isinstance(value, str) == (name == "id"):
            return {name: {f"${op}": value}}
        case nodes.Compare():
            return {"_id": {"$in": []}}
    return None


def _entry(node: nodes.Condition, token: str) -> Query | None:
    """A condition on the entries of a declared index."""
    match node:
        case nodes.Eq(_, value):
            return _has(token, mongo_keys.equal_to(value))
        case nodes.In(_, values):
            keys = sorted({mongo_keys.equal_to(value) for value in values})
            return {"$or": [_has(token, key) for key in keys]} if len(keys) <= _MAX_ENTRIES else None
        case nodes.Compare():
            return _has(token, mongo_keys.between(node))
        case nodes.Text(_, "prefix", text):
            return _has(token, mongo_keys.beginning_with(text))
    return None


def _has(token: str, value: Any) -> Query:
    return {"ix": {"$elemMatch": {"n": token, "v": value}}}


def _member(node: nodes.Condition, path: nodes.Path) -> Query | None:
    """A condition on the client's members, where BSON is known to see at least what the matcher sees."""
    name = _name(path)
    match node:
        case nodes.Eq(_, value):
            return {name: {"$eq": value}} if _plain(value) else _typed_as(value, path)
        case nodes.In(_, values):
            return {name: {"$in": list(values)}} if all(map(_plain, values)) else None
        case nodes.Compare(_, op, value):
            return {name: {f"${op}": value}}
        case nodes.Exists():
            return {name: {"$exists": True}}
        case nodes.Size(_, count) if node.path != nodes.ITSELF:  # not of an element
            return {name: {"$size": count}}
        case nodes.Mod():
            return _typed(path, "number")
        case nodes.Text(_, "regex", _):
            return _typed(path, "string")
        case nodes.Text(_, kind, text):
            literal = re.escape(text)
            return {name: {"$regex": f"^{literal}" if kind == "prefix" else literal}}
        case nodes.Type(_, names):
            return {"$or": [_typed(path, kind) for kind in sorted(names)]}
    return None


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _typed_as(value: Any, path: nodes.Path) -> Query | None:
    """For null: nothing, because what is missing behind an array is a case of its own in each server."""
    if value is None:
        return None
    return _typed(path, "object" if isinstance(value, dict) else "array")


def _typed(path: nodes.Path, kind: str) -> Query:
    return {_name(path): {"$type": kind}}


def _name(path: nodes.Path) -> str:
    return ".".join(("d", *path))
