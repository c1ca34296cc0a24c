"""Documents as values: their ids, members, versions, entity tags and preconditions."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import BadRequest, BodyTooLarge, GatewayError, PreconditionFailed
from gateway.core.http.request_target import unreachable
from gateway.store.json import strict

MAX_ID_BYTES = 200
MAX_DOCUMENT_BYTES = 10 * 1024 * 1024
RESERVED_IDS = frozenset({"query", "bulk", "export", "import", "changes"})  # paths of the collection itself
ANY = "*"  # what `If-Match: *` names; never an entity tag, those are quoted

_collection = re.compile(r"[A-Za-z0-9_-]{1,64}")
_control = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document. `text` is its members as compact JSON, without the id; of a large one it is in
    `encoded`, as UTF-8, and `text` is empty.

    version counts the writes of one incarnation, from 1; an incarnation ends with the deletion. created
    and modified are seconds since the epoch.
    """

    id: str
    version: int
    incarnation: str
    created: float
    modified: float
    text: str
    encoded: bytes = b""

    @property
    def whole(self) -> bool:
        """Whether it has its members; the result of a replayed write has not, when they have changed
        since."""
        return bool(self.text or self.encoded)

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return len(self.encoded) or len(self.text.encode())

    @property
    def etag(self) -> str:
        """The strong entity tag (RFC 9110 section 8.8.3): never used twice, not even after a deletion."""
        return entity_tag(self.incarnation, self.version)

    @property
    def data(self) -> dict[str, Any]:
        """The members, parsed at each access."""
        data: dict[str, Any] = json.loads(self.encoded or self.text)
        return data


@dataclass(frozen=True, slots=True)
class LargeMembers:
    """The members of a large document (see json/large.py), or of one of many, as their canonical text in
    UTF-8, which was checked."""

    text: bytes


Members = Mapping[str, Any] | LargeMembers


@dataclass(frozen=True, slots=True)
class Precondition:
    """If-Match and If-None-Match (RFC 9110 section 13.1) as sets of strong tags; None: absent.

    A weak tag never matches If-Match, so the reader of the header leaves it out of `match`.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def require(self, etag: str | None) -> None:
        """Check against the current tag; None when there is no document. Raises PreconditionFailed."""
        if self.match is not None and not names(self.match, etag):
            raise PreconditionFailed("The document is not the one that If-Match names. Read it again.")
        if self.none_match is not None and names(self.none_match, etag):
            raise PreconditionFailed("The document is one that If-None-Match excludes.")


UNCONDITIONAL = Precondition()


def names(tags: frozenset[str], etag: str | None) -> bool:
    """Whether a set of tags, or `*`, names the current one."""
    return etag is not None and (ANY in tags or etag in tags)


def entity_tag(incarnation: str, version: int) -> str:
    """The entity tag of a version, in its quotes."""
    return f'"{incarnation}-{version}"'


def new_incarnation() -> str:
    """A name for the next life of an id: 80 random bits as 20 characters."""
    return os.urandom(10).hex()


def new_id() -> str:
    """A UUIDv7 (RFC 9562 section 5.7); its 12 bits after the milliseconds count fractions of one."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    tail = int.from_bytes(os.urandom(8)) & (2**62 - 1)
    # Formatted here: uuid.UUID takes three times as long.
    text = f"{milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_collection(name: str) -> None:
    """Raises BadRequest unless it is a collection's name."""
    if not _collection.fullmatch(name):
        raise BadRequest("A collection's name is 1 to 64 letters, digits, hyphens and underscores.")


def check_id(identifier: str) -> None:
    """Raises BadRequest unless it is a document's id: text that the path of a URL can hold, and that is not
    one of RESERVED_IDS. The same rule for a path, a bulk, an import and the operator's commands."""
    try:
        size = len(identifier.encode())
    except UnicodeEncodeError:
        raise BadRequest("A document's id is text that UTF-8 can hold.") from None
    if not 1 <= size <= MAX_ID_BYTES or _control.search(identifier):
        raise BadRequest(f"A document's id is 1 to {MAX_ID_BYTES} bytes of UTF-8 without control characters.")
    why = unreachable(identifier)
    if why:
        raise BadRequest(f"No URL could reach a document with this id: {why}.")
    if identifier in RESERVED_IDS:
        raise BadRequest(f"No document has one of the ids {', '.join(sorted(RESERVED_IDS))}.")


def name_problem(name: str, top: bool) -> str:
    """What is wrong with the name of a document's member; empty when nothing is. top: it is a member of the
    document itself, not of an object in it. A NameRule of json/strict.py."""
    if name.startswith("$"):
        return "must not begin with $"
    if "." in name:
        return "must not hold a full stop, which separates names in paths"
    if top and name.startswith("_"):
        return "names that begin with _ are the gateway's own at the top of a document"
    return ""


def parse_members(raw: bytes, identifier: str | None) -> dict[str, Any]:
    """A request's body as a document's members, without `id`. A merge patch is read in the same way.

    identifier: the id that a member `id` must equal; None where the store chooses it. Raises BadRequest
    (not JSON) or Unprocessable (JSON that cannot be a document, each problem with its pointer).
    """
    value = strict.read(raw, "body", "The body cannot be a document; see errors.", name_problem)
    if not isinstance(value, dict):
        raise _unprocessable("", "a document is a JSON object")
    if "id" in value:
        own = value.pop("id")
        if identifier is None:
            raise _unprocessable("/id", "the gateway chooses the id; PUT to an id to choose it yourself")
        if own != identifier:
            raise _unprocessable("/id", "differs from the id in the path; leave it out or make them equal")
    return value


def check_members(data: Mapping[str, Any]) -> None:
    """Check the members that a patch results in. Raises Unprocessable, as parse_members does."""
    if "id" in data:
        raise _unprocessable("/id", "the id of a document cannot be changed")
    strict.require(data, "The result cannot be a document; see errors.", name_problem)


def to_text(data: Mapping[str, Any]) -> tuple[str, int]:
    """The members as the text that is stored, and its size in bytes. Raises BodyTooLarge."""
    text = strict.dumps(data)
    size = len(text.encode())
    if size > MAX_DOCUMENT_BYTES:
        raise BodyTooLarge(f"A document is at most {MAX_DOCUMENT_BYTES} bytes.")
    return text, size


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396 section 2); neither argument is changed."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def _unprocessable(pointer: str, detail: str) -> GatewayError:
    return strict.refusal("The body cannot be a document; see errors.", [(pointer, detail)])
