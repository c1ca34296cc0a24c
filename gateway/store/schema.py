"""JSON Schema of a collection: which schemas are accepted, and checking documents against one.

jsonschema-rs checks: patterns run on an engine whose time grows with the text alone, and nothing is ever
fetched. What a check may cost is bounded by the schema itself: references are local, never lead back to
where they stand, and the schema with every reference written out is of limited size.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Protocol

import jsonschema_rs

from gateway.core.errors import SchemaViolation
from gateway.store import strict_json

MAX_SIZE = 5000  # nodes, with every reference written out
MAX_ERRORS = 20
DRAFTS = {
    "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
    "http://json-schema.org/draft-07/schema#": jsonschema_rs.Draft7Validator,
}
_LATEST = next(iter(DRAFTS))
_PATTERN_BYTES = 1024 * 1024  # of one compiled pattern

# Keywords whose members are named by the schema's author, and keywords that hold no schema at all.
_MAPS = frozenset({
    "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies",
})
_DATA = frozenset({"const", "enum", "default", "examples"})
_NOT_LOCAL = frozenset({
    "$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor",
})


class Validator(Protocol):
    """What jsonschema-rs makes of a schema."""

    def is_valid(self, instance: Any) -> bool: ...
    def iter_errors(self, instance: Any) -> Any: ...


class _Unfit(ValueError):
    """A schema that is not accepted: pointer, sentence."""


def problems(value: Any) -> list[tuple[str, str]]:
    """Why a schema is not accepted, as pairs of a JSON pointer and a sentence; empty when it is."""
    if not isinstance(value, dict):
        return [("", "a schema is a JSON object")]
    draft = value.get("$schema", _LATEST)
    if not isinstance(draft, str) or draft not in DRAFTS:
        return [("/$schema", f"one of {' and '.join(DRAFTS)}, or nothing for the first")]
    try:
        _Walk(value).size(value, "")
        compile_schema(value)
    except _Unfit as error:
        return [(error.args[0], error.args[1])]
    except jsonschema_rs.ValidationError as error:
        return [(strict_json.pointer(*error.instance_path), _sentence(error))]
    except ValueError:
        return [("", "this is not a JSON Schema")]
    return []


def compile_schema(value: Mapping[str, Any]) -> Validator:
    """A validator for a schema without problems."""
    kind = DRAFTS[value.get("$schema", _LATEST)]
    validator: Validator = kind(
        dict(value),
        validate_formats=True,
        offline=True,
        mask="the value",
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
    )
    return validator


def check(validator: Validator, data: Mapping[str, Any]) -> None:
    """Check a document's members, without its id. Raises SchemaViolation with pointers and no values."""
    if validator.is_valid(data):
        return
    found = islice(validator.iter_errors(data), MAX_ERRORS)
    errors = [{"pointer": strict_json.pointer(*e.instance_path), "detail": _sentence(e)} for e in found]
    detail = "The document does not fit its collection's schema; see errors."
    raise SchemaViolation(detail, extra={"errors": errors})


def _sentence(error: Any) -> str:
    return str(error.message)[:300]


class _Walk:
    """The size of a schema with its references written out. Raises _Unfit."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._sizes: dict[str, int] = {}  # of what a reference leads to
        self._open: set[str] = set()

    def size(self, node: Any, at: str, *, names: bool = False) -> int:
        """names: the members of `node` are no keywords."""
        total = 1
        if isinstance(node, list):
            total += sum(self.size(item, f"{at}/{index}") for index, item in enumerate(node))
        elif isinstance(node, dict):
            for name, value in node.items():
                here = at + strict_json.pointer(name)
                if not names and name in _NOT_LOCAL:
                    raise _Unfit(here, f"{name} is not supported; refer with $ref to #/$defs/...")
                if not names and name == "$ref":
                    total += self._reference(value, here)
                elif names or name not in _DATA:
                    total += self.size(value, here, names=not names and name in _MAPS)
        if total > MAX_SIZE:
            raise _Unfit(at, f"with every reference written out, a schema has at most {MAX_SIZE} parts")
        return total

    def _reference(self, target: Any, at: str) -> int:
        if not isinstance(target, str) or not target.startswith("#/"):
            raise _Unfit(at, "a reference is local, such as #/$defs/address, and not to the whole schema")
        if target in self._open:
            raise _Unfit(at, "a reference cannot lead back to where it stands: recursion has no bound")
        if target not in self._sizes:
            self._open.add(target)
            self._sizes[target] = self.size(self._resolve(target, at), target[1:])
            self._open.discard(target)
        return self._sizes[target]

    def _resolve(self, target: str, at: str) -> Any:
        node: Any = self._root
        for part in target.removeprefix("#/").split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.isascii() and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                raise _Unfit(at, "the reference leads to nothing")
        return node
