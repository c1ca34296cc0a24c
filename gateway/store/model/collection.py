"""Collections and their settings, as values.

    {"schema": {...}, "indexes": [{"name": "by_email", "fields": ["email"], "unique": true}],
     "ttl": {"field": "expires", "seconds": 0}, "require_if_match": true}

Every member may be left out. What a schema may be is in schema/validate.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import BodyTooLarge, GatewayError
from gateway.store.filter.nodes import ID, META, Path, parse_path
from gateway.store.json import strict
from gateway.store.model import instants
from gateway.store.schema import validate as schema

MAX_INDEXES = 16
MAX_INDEX_FIELDS = 4
MAX_SETTINGS_BYTES = 256 * 1024
PAGE_BYTES = 4 * 1024 * 1024  # of a page of collections, which ends early when their settings are larger
NO_TEXT = "{}"  # of the settings of a collection that is not declared
MAX_TTL_SECONDS = 100 * 366 * 86400
_index_name = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_INDEXED = "id, _created and _modified need no index"


@dataclass(frozen=True, slots=True)
class Index:
    """A declared index. One that is not unique has one field, and serves filters and sorts by it. A unique
    one also refuses a second document with the same values; documents in which a field is missing or null are
    not in it."""

    name: str
    fields: tuple[Path, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class TTL:
    """When documents expire: `seconds` after the instant in `field` (RFC 3339, or seconds since the epoch;
    without such a value the document does not expire), or without a field after the last modification."""

    seconds: float
    field: Path | None = None

    def expires(self, modified: float, data: Mapping[str, Any]) -> float | None:
        """When a document expires, in seconds since the epoch; None: never. modified: likewise."""
        if self.field is None:
            return modified + self.seconds
        value: Any = data
        for name in self.field:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            value = instants.parse(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) + self.seconds


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """What a collection is declared with. schema: the JSON Schema as the client wrote it. require_if_match:
    whether replacing, patching and deleting a document needs If-Match (428 without it; creating one does
    not)."""

    schema: Mapping[str, Any] | None = None
    indexes: tuple[Index, ...] = ()
    ttl: TTL | None = None
    require_if_match: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """As JSON, in one canonical form."""
        data: dict[str, Any] = {}
        if self.schema is not None:
            data["schema"] = self.schema
        if self.indexes:
            data["indexes"] = [
                {"name": i.name, "fields": [".".join(path) for path in i.fields], "unique": i.unique}
                for i in self.indexes
            ]
        if self.ttl is not None:
            field = {} if self.ttl.field is None else {"field": ".".join(self.ttl.field)}
            data["ttl"] = {**field, "seconds": self.ttl.seconds}
        if self.require_if_match:
            data["require_if_match"] = True
        return data


NO_SETTINGS = CollectionSettings()


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection that is declared, or has documents. text: its settings as JSON, in one canonical form;
    they may be large, and a page holds many. documents, bytes: what it holds, in bytes of the documents'
    JSON; expired documents count until they are swept."""

    name: str
    text: str
    etag: str
    declared: bool
    documents: int
    bytes: int

    @classmethod
    def stored(cls, name: str, text: str | None, etag: str, documents: int, size: int) -> Collection:
        """One as an engine has it. text: None where it is not declared."""
        return cls(name, text or NO_TEXT, etag, text is not None, documents, size)

    @property
    def settings(self) -> CollectionSettings:
        """The settings, parsed from the text at each access."""
        return from_data(json.loads(self.text), stored=True)


def parse(raw: bytes) -> CollectionSettings:
    """The settings in the body of a PUT. Raises BadRequest (not JSON), Unprocessable (not settings; with
    pointers)."""
    return from_data(parse_data(raw))


def parse_data(raw: bytes) -> dict[str, Any]:
    """The body of a PUT, or of a merge patch, as JSON. Raises as parse does, and BodyTooLarge for what is too
    large to be settings."""
    if len(raw) > 2 * MAX_SETTINGS_BYTES:
        raise BodyTooLarge(f"The settings of a collection have at most {MAX_SETTINGS_BYTES} bytes.")
    value = strict.read(raw, "body", "The settings are not accepted.")
    if not isinstance(value, dict):
        raise _refused("", "settings are a JSON object")
    return value


def from_data(data: Mapping[str, Any], *, stored: bool = False, apart: bool = False) -> CollectionSettings:
    """Settings from JSON, checked, unless they were `stored` and so checked before. apart: a schema that
    takes long to read is left to a worker process, and Unread is raised (see schema/checks.py). Raises
    Unprocessable."""
    if len(strict.dumps(data)) > MAX_SETTINGS_BYTES:
        raise _refused("", f"settings are at most {MAX_SETTINGS_BYTES} bytes")
    _check_names(data, ("schema", "indexes", "ttl", "require_if_match"), "")
    declared = data.get("schema")
    if declared is not None and not stored:
        problems = schema.problems_now(declared) if apart else schema.problems(declared)
        if problems:
            below = [(f"/schema{pointer}", detail) for pointer, detail in problems]
            raise strict.refusal("The schema is not accepted; see errors.", below)
    indexes = [] if data.get("indexes") is None else data["indexes"]
    if not isinstance(indexes, list) or len(indexes) > MAX_INDEXES:
        raise _refused("/indexes", f"an array of at most {MAX_INDEXES} indexes")
    parsed = tuple(_index(item, f"/indexes/{number}") for number, item in enumerate(indexes))
    for number, index in enumerate(parsed):
        if any(index.name == other.name for other in parsed[:number]):
            raise _refused(f"/indexes/{number}/name", "another index has this name")
    ttl = data.get("ttl")
    require = data.get("require_if_match")
    if require is not None and not isinstance(require, bool):
        raise _refused("/require_if_match", "true or false")
    return CollectionSettings(declared, parsed, None if ttl is None else _ttl(ttl), bool(require))


def _index(item: Any, at: str) -> Index:
    if not isinstance(item, dict):
        raise _refused(at, "an index is an object")
    _check_names(item, ("name", "fields", "unique"), at)
    name, fields, unique = item.get("name"), item.get("fields"), item.get("unique", False)
    if not isinstance(name, str) or not _index_name.fullmatch(name):
        raise _refused(f"{at}/name", "1 to 64 letters, digits, hyphens and underscores")
    if not isinstance(unique, bool):
        raise _refused(f"{at}/unique", "true or false")
    if not isinstance(fields, list) or not 1 <= len(fields) <= MAX_INDEX_FIELDS:
        raise _refused(f"{at}/fields", f'an array of 1 to {MAX_INDEX_FIELDS} paths, such as ["a.b"]')
    if len(fields) > 1 and not unique:
        raise _refused(f"{at}/fields", "an index that is not unique has one field; declare one for each")
    paths = tuple(_path(field, f"{at}/fields/{number}") for number, field in enumerate(fields))
    if len(set(paths)) < len(paths):
        raise _refused(f"{at}/fields", "a field is there more than once")
    return Index(name, paths, unique)


def _ttl(item: Any) -> TTL:
    if not isinstance(item, dict):
        raise _refused("/ttl", "ttl is an object")
    _check_names(item, ("field", "seconds"), "/ttl")
    field, seconds = item.get("field"), item.get("seconds", 0 if "field" in item else None)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise _refused("/ttl/seconds", "a number of seconds")
    if not (0 if field is not None else 1) <= seconds <= MAX_TTL_SECONDS:
        raise _refused("/ttl/seconds", f"from 1 (with a field: 0) to {MAX_TTL_SECONDS}")
    return TTL(seconds, None if field is None else _path(field, "/ttl/field"))


def _path(text: Any, at: str) -> Path:
    if not isinstance(text, str):
        raise _refused(at, "a path, such as a.b")
    try:
        path = parse_path(text)
    except ValueError as error:
        raise _refused(at, str(error)) from None
    if path == ID or path in META:
        raise _refused(at, _NOT_INDEXED)
    return path


def _check_names(data: Mapping[str, Any], known: tuple[str, ...], at: str) -> None:
    for name in data:
        if name not in known:
            raise _refused(at + strict.pointer(name), f"not known here; known are {', '.join(known)}")


def _refused(pointer: str, detail: str) -> GatewayError:
    return strict.refusal("The settings are not accepted; see errors.", [(pointer, detail)])
