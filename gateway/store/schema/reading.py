"""Reading a JSON Schema: whether it is accepted, what checking with it may cost, and its canonical form.

The validator gets the canonical form: only the keywords that are known here, and every reference leads to a
definition that was read here. So there is one resolver: the validator follows what was counted. References
are local and not recursive; identifiers and anchors, which give a reference a second meaning, and a second
`$schema` are refused, except for an `$id` of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema_rs

from gateway.store.filter.regex import is_small
from gateway.store.json import strict
from gateway.store.schema.costs import NOTHING, Weights

MAX_SIZE = 5000  # parts, with every reference written out
MAX_LEVELS = 100  # of schemas inside each other, with every reference written out
MAX_PATTERNS = 4 * 1024 * 1024  # bytes of all patterns of one schema, compiled
LATEST = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema"
DRAFTS = {
    LATEST: LATEST,
    f"{LATEST}#": LATEST,
    f"{DRAFT_7}#": DRAFT_7,
    DRAFT_7: DRAFT_7,
}

# Keywords by what they hold: a schema for the same value, for a member or an item; many schemas, in an array
# or by names. Keywords in no set are left out of the canonical form.
_SAME = frozenset({"not", "if", "then", "else"})
_SAME_MANY = frozenset({"allOf", "anyOf", "oneOf"})
_BELOW = frozenset({"additionalProperties", "additionalItems", "propertyNames", "contains"})
_UNEVALUATED = frozenset({"unevaluatedItems", "unevaluatedProperties"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
_DEFINITIONS = frozenset({"$defs", "definitions"})
_DATA = frozenset({"const", "enum", "default", "examples"})
_PLAIN = frozenset({
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum",
    "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties",
    "minProperties", "required", "format", "minContains", "maxContains", "dependentRequired",
    "contentEncoding", "contentMediaType",
})  # fmt: skip
_LIMITS = frozenset({"maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"})
_NOT_LOCAL = frozenset({
    "$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$schema",
    "$vocabulary",
})  # fmt: skip

_VISIT, _KEYWORD, _OPTION, _NUMBER, _MULTIPLE, _UNIQUE = 150.0, 80.0, 250.0, 2500.0, 5000.0, 300.0  # ns
_FORMAT, _LENGTH, _CONTENT = 40.0, 1.0, 60.0  # ns for each byte of a string
# Bytes that a pattern compiles to -> ns for each byte of a string, where each byte leads to a new state.
_CLASSES = {1 << 10: 600.0, 1 << 12: 1600.0, 1 << 14: 8e3, 1 << 16: 8e3, 1 << 18: 1e4, 1 << 20: 1e4}
_QUICK_CLASS = 1 << 16
QUICK_PATTERNS = 8  # different patterns of a quick schema, all of them small: 0.3 ms for each


class Unfit(ValueError):
    """A schema that is not accepted: pointer, sentence."""


class NotQuick(Exception):
    """Reading the schema takes longer than a moment."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An accepted schema. form: canonical, for the validator of `draft`. parts: how many, written out.
    patterns: how many, and how many bytes they compile to."""

    draft: str
    form: dict[str, Any]
    weights: Weights
    parts: int
    patterns: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """A schema as it was read. levels: of schemas inside each other."""

    form: Any
    weights: Weights
    parts: int
    levels: int


def read(value: Any, *, quick: bool = False) -> Reading:
    """Read a schema. Whether it is a JSON Schema at all is checked later: members of wrong types are ignored
    here. Raises Unfit; and NotQuick, when `quick` was asked for and reading takes long."""
    if not isinstance(value, dict):
        raise Unfit("", "a schema is a JSON object")
    draft = value.get("$schema", LATEST)
    if not isinstance(draft, str) or draft not in DRAFTS:
        raise Unfit("/$schema", f"one of {LATEST} and {DRAFT_7}#, or nothing for the first")
    identifier = value.get("$id", "")
    if not isinstance(identifier, str) or "#" in identifier.removesuffix("#"):
        raise Unfit("/$id", "a URI without a fragment")
    root = {name: part for name, part in value.items() if name not in ("$schema", "$id")}
    keyword = "definitions" if DRAFTS[draft] == DRAFT_7 else "$defs"
    reader = _Reader(root, keyword, quick)
    whole = reader.schema(root, "", 0)
    form = {**whole.form, keyword: reader.definitions} if reader.definitions else whole.form
    return Reading(DRAFTS[draft], form, whole.weights, whole.parts, (len(reader.sizes), reader.pattern_bytes))


class _Reader:
    """One reading of a schema. definitions: the targets of references, by new names. keyword: that they are
    under in the form. sizes: of the patterns, in bytes."""

    def __init__(self, root: dict[str, Any], keyword: str, quick: bool) -> None:
        self.keyword = keyword
        self.definitions: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        self.pattern_bytes = 0
        self._root = root
        self._quick = quick
        self._targets: dict[tuple[str, ...], tuple[str, _Read]] = {}
        self._open: set[tuple[str, ...]] = set()

    def schema(self, node: Any, at: str, level: int) -> _Read:
        """Read one schema. at: the pointer to it. level: how many schemas it is inside of."""
        _check_levels(level, at)
        if not isinstance(node, dict):
            return _Read(node, Weights((_VISIT,)), _count(node), 1)
        one = _Object(at, self, level)
        for name, value in node.items():
            one.take(name, value)
        return one.read()

    def reference(self, target: Any, at: str, level: int) -> tuple[str, _Read]:
        """The new name of the definition that a reference leads to, and what it was read as."""
        if not isinstance(target, str) or not target.startswith("#/"):
            raise Unfit(at, "a reference is local, such as #/$defs/address, and not to the whole schema")
        path = _path(target, at)
        if path in self._open:
            raise Unfit(at, "a reference cannot lead back to where it stands: recursion has no bound")
        if path not in self._targets:
            self._open.add(path)
            found = self.schema(self._resolve(path, at), strict.pointer(*path), level + 1)
            self._open.discard(path)
            name = f"r{len(self._targets)}"
            self._targets[path] = name, found
            self.definitions[name] = found.form
        name, found = self._targets[path]
        _check_levels(level + found.levels, at)
        return name, found

    def _resolve(self, path: Sequence[str], at: str) -> Any:
        node: Any = self._root
        for name in path:
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.isascii() and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                raise Unfit(at, "the reference leads to nothing")
        return node

    def pattern(self, pattern: str, at: str) -> float:
        """ns for each byte of a string that is matched with a pattern."""
        if pattern not in self.sizes:
            if self._quick and (len(self.sizes) >= QUICK_PATTERNS or not is_small(pattern)):
                raise NotQuick
            size = self.sizes[pattern] = _class(pattern, at, self._quick)
            self.pattern_bytes += size
            if self.pattern_bytes > MAX_PATTERNS:
                text = f"the patterns of a schema compile to at most {MAX_PATTERNS >> 20} MiB in all; repeat"
                raise Unfit(at, f"{text} less, or with narrower classes than \\p{{L}} or \\w")
        return _CLASSES[self.sizes[pattern]]


def _check_levels(level: int, at: str) -> None:
    if level > MAX_LEVELS:
        text = f"with every reference written out, at most {MAX_LEVELS} schemas are inside each other"
        raise Unfit(at, text)


class _Object:
    """A schema that is an object, being read keyword by keyword."""

    def __init__(self, at: str, reader: _Reader, level: int) -> None:
        self._at = at
        self._reader = reader
        self._level = level
        self._form: dict[str, Any] = {}
        self._parts = 1
        self._levels = 1
        self._own = _VISIT  # ns of the value itself
        self._text = 0.0  # ns for each byte of it
        self._same = NOTHING
        self._members = self._patterned = self._items = self._every = NOTHING
        self._deep = 0.0
        self._again = 1.0  # how often the rest is done

    def take(self, name: str, value: Any) -> None:
        """Read one keyword. Raises Unfit, NotQuick."""
        here = self._at + strict.pointer(name)
        if name in _NOT_LOCAL:
            raise Unfit(here, f"{name} is not supported here; refer with $ref to #/$defs/...")
        self._own += _KEYWORD
        self._parts += 1
        if name == "$ref":
            self._reference(value, here)
        elif name in _DEFINITIONS:
            self._definitions(value, here)
        elif name in _SAME:
            self._form[name], weights = self._inner(value, here)
            self._same += weights
        elif name in _SAME_MANY:
            self._form[name], found = self._list(value, here)
            self._same = sum(found, self._same)
        elif name in ("items", "prefixItems"):
            self._form[name], found = self._list(value, here)
            for weights in found:
                self._items |= weights
        elif name in _BELOW or name in _UNEVALUATED:
            self._below(name, value, here)
        elif name in _NAMED:
            self._named(name, value, here)
        elif name in _PLAIN:
            self._plain(name, value, here)
        elif name not in _DATA:
            self._parts += _count(value)
        self._bounded(here)

    def read(self) -> _Read:
        """The schema, after all of its keywords were taken."""
        members = self._members + self._patterned
        below = ((members | self._items) + self._every).below()
        whole = Weights((self._own,), (self._text,) if self._text else (), self._deep) + self._same + below
        return _Read(self._form, whole * self._again, self._parts, self._levels)

    def _bounded(self, at: str) -> None:
        if self._parts > MAX_SIZE:
            raise Unfit(at, f"with every reference written out, a schema has at most {MAX_SIZE} parts")

    def _inner(self, value: Any, at: str) -> tuple[Any, Weights]:
        found = self._reader.schema(value, at, self._level + 1)
        return found.form, self._counted(found)

    def _counted(self, found: _Read) -> Weights:
        self._parts += found.parts
        self._levels = max(self._levels, found.levels + 1)
        return found.weights

    def _list(self, value: Any, at: str) -> tuple[Any, list[Weights]]:
        """The forms and weights of an array of schemas, or of a single one."""
        if not isinstance(value, list):
            form, weights = self._inner(value, at)
            return form, [weights]
        forms, found = [], []
        for index, item in enumerate(value):
            form, weights = self._inner(item, f"{at}/{index}")
            self._bounded(at)
            forms.append(form)
            found.append(weights)
        return forms, found

    def _reference(self, value: Any, at: str) -> None:
        name, found = self._reader.reference(value, at, self._level)
        self._same += self._counted(found)
        self._form["$ref"] = f"#/{self._reader.keyword}/{name}"

    def _definitions(self, value: Any, at: str) -> None:
        """Definitions without a reference are read as well: they may be wrong, or large."""
        if isinstance(value, dict):
            for name, inner in value.items():
                self._parts += self._reader.schema(inner, at + strict.pointer(name), self._level + 1).parts
                self._bounded(at)

    def _below(self, name: str, value: Any, at: str) -> None:
        self._form[name], weights = self._inner(value, at)
        if name in _UNEVALUATED:
            self._again *= 3.0
        if name == "additionalProperties":
            self._members |= weights
        elif name == "additionalItems":
            self._items |= weights
        else:
            self._every += weights

    def _named(self, name: str, value: Any, at: str) -> None:
        if not isinstance(value, dict):
            self._form[name] = value
            return
        form: dict[str, Any] = {}
        for member, inner in value.items():
            here = at + strict.pointer(member)
            if name == "dependencies" and isinstance(inner, list):
                form[member] = inner
                self._own += _KEYWORD * len(inner)
                continue
            form[member], weights = self._inner(inner, here)
            self._bounded(at)
            self._own += _KEYWORD
            if name == "properties":
                self._members |= weights
            elif name == "patternProperties":
                text = self._reader.pattern(member, here)
                self._patterned += weights + Weights((_KEYWORD,), (text,))
            else:
                self._same += weights
        self._form[name] = form

    def _plain(self, name: str, value: Any, at: str) -> None:
        self._form[name] = value
        if name in ("enum", "const"):
            self._own += _options(value)
        elif name == "pattern" and isinstance(value, str):
            self._text += self._reader.pattern(value, at)
        elif name == "uniqueItems" and value is True:
            self._deep += _UNIQUE
        elif name in ("required", "dependentRequired"):
            self._own += _KEYWORD * _count(value)
        elif name in _LIMITS:
            self._own += _NUMBER
        elif name == "multipleOf":
            self._own += _MULTIPLE
        elif name == "format":
            self._text += _FORMAT
        elif name in ("maxLength", "minLength"):
            self._text += _LENGTH
        elif name.startswith("content"):
            self._text += _CONTENT


def _options(value: Any) -> float:
    """ns to compare with the values of an enum, or a const. Strings alone are looked up; a number that is
    compared with a number takes long."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _VISIT
    total, left = 0.0, [value]
    while left:
        item = left.pop()
        total += _OPTION if not isinstance(item, int | float) or isinstance(item, bool) else _NUMBER
        if isinstance(item, str):
            total += len(item) / 8
        elif isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            total += _OPTION * len(item)
            left += item.values()
    return total


def _count(value: Any) -> int:
    """How many values a value holds, itself included."""
    total, left = 0, [value]
    while left:
        item = left.pop()
        total += 1
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.values()
    return total


def _path(target: str, at: str) -> tuple[str, ...]:
    """The names of a pointer in a fragment (RFC 6901 section 6)."""
    try:
        pointer = unquote_to_bytes(target[1:]).decode()
    except UnicodeDecodeError:
        raise Unfit(at, "the reference is percent-encoded, but not in UTF-8") from None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def _class(pattern: str, at: str, quick: bool) -> int:
    """How many bytes a pattern compiles to, as the smallest of _CLASSES that is enough."""
    for size in _CLASSES:
        if quick and size > _QUICK_CLASS:
            raise NotQuick
        try:
            jsonschema_rs.Draft202012Validator(
                {"pattern": pattern},
                offline=True,
                pattern_options=jsonschema_rs.RegexOptions(size_limit=size),
            )
        except (jsonschema_rs.ValidationError, ValueError):
            continue
        return size
    if jsonschema_rs.Draft202012Validator({"format": "regex"}, validate_formats=True).is_valid(pattern):
        most = f"more than {max(_CLASSES) >> 20} MiB"
        raise Unfit(at, f"the pattern compiles to {most}, or looks around or back, which is not supported")
    raise Unfit(at, "this is not a regular expression")
