"""A revision: one numbered state of the routing config that was live, and who made it so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CONFIRMED, EXPIRED = "confirmed", "expired"
_SLICE = 64 * 1024  # characters


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes a revision, and why.

    author: an operator's name, or the owner of the file that was saved. reason: their words, "" when none
    were given. source: by which way it came (`file`, `api`, `zookeeper`, `mongodb`, or `gateway` for what
    nobody did: a confirmation that ran out). address: of the caller, "" when there is none. role: the
    operator's, for the audit; it is not kept with the revision.
    """

    author: str
    reason: str
    source: str
    address: str = ""
    role: str = ""


@dataclass(frozen=True)
class Draft:
    """What becomes a revision. at: seconds since the epoch. restores: the revision whose text it has again, 0
    for none. confirm_by: when it goes back unless it is confirmed, in seconds since the epoch, 0.0 for never.
    run: the id of the run that makes it live (see ports.ThisRun), "" where nobody knows.
    """

    text: str
    origin: Origin
    at: float
    restores: int = 0
    confirm_by: float = 0.0
    run: str = ""

    @cached_property
    def digest(self) -> str:
        """See `digest_of`; taken once, for it costs 25 ms where the text is large."""
        return digest_of(self.text)


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision without its text. number: from 1, never used twice. parent: the revision that was live
    before, 0 for the first. digest: see `digest_of`. size: of the text in UTF-8, in bytes. pinned: kept
    for as long as it is. confirm_by, run: as in Draft; confirm_by is 0.0 once it is confirmed. confirmation:
    what became of its wait: CONFIRMED; EXPIRED, from when on it goes back and cannot be confirmed; "" before
    that, and for what never waited."""

    number: int
    parent: int
    digest: str
    size: int
    at: float
    origin: Origin
    restores: int = 0
    pinned: bool = False
    confirm_by: float = 0.0
    run: str = ""
    confirmation: str = ""


def draft_of(fields: Mapping[str, Any]) -> Draft:
    """What `dataclasses.asdict` gave of it."""
    return Draft(**{**fields, "origin": Origin(**fields["origin"])})


def revision_of(fields: Mapping[str, Any]) -> Revision:
    """What `dataclasses.asdict` gave of it."""
    return Revision(**{**fields, "origin": Origin(**fields["origin"])})


@dataclass(frozen=True, slots=True)
class Pending:
    """A live revision that goes back unless it is confirmed. back_to: the revision whose text it has then.
    due: seconds since the epoch."""

    number: int
    back_to: int
    due: float


def view(revision: Revision) -> dict[str, Any]:
    """The JSON of a revision, as the admin API and the commands with --json give it."""
    origin = revision.origin
    return {
        "number": revision.number,
        "parent": revision.parent or None,
        "digest": revision.digest,
        "size": revision.size,
        "at": revision.at,
        "author": origin.author,
        "reason": origin.reason,
        "source": origin.source,
        "address": origin.address or None,
        "restores": revision.restores or None,
        "pinned": revision.pinned,
        "confirm_by": revision.confirm_by or None,
    }


def digest_of(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def json_with(text: str, fields: Mapping[str, Any]) -> str:
    """An object of JSON with these members, and `text`. For a thread: the interpreter lock is let go of after
    each slice of the text, while one large string is written by json.dumps in one go."""
    slices = (json.dumps(text[at : at + _SLICE])[1:-1] for at in range(0, len(text), _SLICE))
    rest = {name: value for name, value in fields.items() if name != "text"}
    return f'{json.dumps({**rest, "text": ""})[:-2]}{"".join(slices)}"}}'
