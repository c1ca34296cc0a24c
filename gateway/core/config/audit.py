"""The audit of the config: lines of JSON, each with the hash of the one before it.

A line is an object in ASCII whose last two members are `prev`, the `hash` of the line before, and `hash`: the
SHA-256 of the line's bytes without that member. So whoever changes, removes or moves a line breaks the chain,
unless all lines after it are made anew; that, and a tail that is cut off, shows at the anchor: the number and
the hash of the last line, which are kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.core.redact import redact_line

ROOT = "0" * 64  # `prev` of the first line
MAX_DIFF = 64 * 1024  # bytes of JSON; beyond, only how many objects of each kind
_MAX_TEXT = 4000  # characters of a text that somebody chose
_MAX_PROBLEMS = 100
_TAIL = len(',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did, or tried.

    action: `applied`, `rolled_back`, `confirmed`, `unconfirmed`, `refused`, `pinned`, `recovered`,
    `signed_in`. outcome: `done` or `refused`. author: a name, "" for nobody known; role: theirs, "" for none.
    source: see Origin. from_revision, to_revision: 0 for none. detail: why it was refused, or what else there
    is to say. diff: changes by meaning, as JSON. at: seconds since the epoch, 0.0 for now.
    """

    action: str
    outcome: str = "done"
    author: str = ""
    role: str = ""
    address: str = ""
    reason: str = ""
    source: str = ""
    from_revision: int = 0
    to_revision: int = 0
    detail: str = ""
    diff: tuple[dict[str, Any], ...] = ()
    at: float = 0.0


class Anchor(NamedTuple):
    """The last line that was written: its number, and its hash."""

    seq: int
    hash: str


START = Anchor(0, ROOT)


class Line(NamedTuple):
    """A line, without its line feed, and where it stands."""

    file: str
    number: int
    content: bytes


def line_of(entry: Entry, last: Anchor) -> tuple[bytes, Anchor]:
    """The line (with its line feed) of an entry after the last one, and the anchor that it makes. Secrets in
    its texts are hidden."""
    fields = {
        "seq": last.seq + 1,
        "at": round(entry.at, 3),
        "action": entry.action,
        "outcome": entry.outcome,
        "author": _text(entry.author),
        "role": entry.role,
        "address": _text(entry.address),
        "reason": _text(entry.reason),
        "source": entry.source,
        "from": entry.from_revision or None,
        "to": entry.to_revision or None,
        "detail": _text(entry.detail),
        "diff": _bounded(entry.diff),
        "prev": last.hash,
    }
    body = json.dumps(fields, separators=(",", ":"), default=str)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body[:-1]},"hash":"{digest}"}}\n'.encode(), Anchor(last.seq + 1, digest)


def parse(content: bytes) -> dict[str, Any] | None:
    """The object of a line without its line feed; None when it is none of the audit's."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    if not isinstance(found, dict) or type(found.get("seq")) is not int:
        return None
    return found if isinstance(found.get("hash"), str) and isinstance(found.get("prev"), str) else None


def is_whole(content: bytes) -> bool:
    """Whether a line's hash is that of its bytes."""
    body, tail = content[:-_TAIL] + b"}", content[-_TAIL:]
    return tail == b',"hash":"%s"}' % hashlib.sha256(body).hexdigest().encode()


def verify(lines: Iterable[Line], anchor: Anchor | None, since: int = 1) -> list[str]:
    """What is wrong with the lines, oldest first; nothing when they are what was written. anchor: of the last
    of them, None when nobody knows it. since: the number of the first one that is to be there.
    """
    return _Verification(since).run(lines, anchor)


class _Verification:
    def __init__(self, since: int) -> None:
        self._expected = since
        self._last: tuple[Line, str, int] | None = None  # the line before, its hash, its number
        self._missing: list[tuple[int, int, str]] = []  # from, to, where
        self._problems: list[str] = []

    def run(self, lines: Iterable[Line], anchor: Anchor | None) -> list[str]:
        for line in lines:
            self._check(line)
        if anchor is not None:
            self._check_end(anchor)
        found = self._problems + [_missing(*gap) for gap in self._missing]
        if len(found) > _MAX_PROBLEMS:
            more = len(found) - _MAX_PROBLEMS
            return [*found[:_MAX_PROBLEMS], f"and {more} more"]
        return found

    def _check(self, line: Line) -> None:
        fields = parse(line.content)
        if fields is None:
            self._problems.append(f"{_at(line)}: it is no line of the audit")
            return
        seq, digest = fields["seq"], fields["hash"]
        if not is_whole(line.content):
            self._problems.append(f"{_at(line, seq)}: it was changed: its hash is not that of its content")
        if seq < self._expected:
            self._problems.append(f"{_at(line, seq)}: {self._misplaced(seq)}")
            return
        if seq > self._expected:
            self._missing.append((self._expected, seq - 1, f"before {_at(line, seq)}"))
        elif self._last is not None and fields["prev"] != self._last[1]:
            before, _, number = self._last
            self._problems.append(
                f"{_at(line, seq)}: it does not follow {_at(before, number)}: one of them was replaced"
            )
        elif seq == 1 and fields["prev"] != ROOT:
            self._problems.append(f"{_at(line, seq)}: it is not how an audit begins")
        self._expected, self._last = seq + 1, (line, digest, seq)

    def _misplaced(self, seq: int) -> str:
        """Why a number that is below the expected one is there. One that was missing is not any more."""
        for index, (first, last, where) in enumerate(self._missing):
            if first <= seq <= last:
                parts = (first, seq - 1, where), (seq + 1, last, where)
                self._missing[index : index + 1] = [part for part in parts if part[0] <= part[1]]
                return "it stands in the wrong place: lines with larger numbers are before it"
        return "it is there twice, or older than it should be"

    def _check_end(self, anchor: Anchor) -> None:
        last = self._expected - 1
        if last < anchor.seq:
            self._missing.append((last + 1, anchor.seq, "at the end"))
        elif last > anchor.seq:
            self._problems.append(
                f"{_range(anchor.seq + 1, last)} at the end: the gateway has not written that"
            )
        elif self._last is not None and self._last[1] != anchor.hash:
            line, _, number = self._last
            text = f"{_at(line, number)}: it is not the last line that the gateway has written"
            self._problems.append(text)


def _at(line: Line, seq: int = 0) -> str:
    return f"{line.file}:{line.number}" + (f" (seq {seq})" if seq else "")


def _missing(first: int, last: int, where: str) -> str:
    return f"{_range(first, last)} {'is' if first == last else 'are'} missing {where}"


def _range(first: int, last: int) -> str:
    return f"seq {first}" if first == last else f"seq {first} to {last}"


def _text(text: str) -> str:
    shown = redact_line(text[: 16 * _MAX_TEXT])  # what is cut first is longer than what *** makes short
    return shown if len(shown) <= _MAX_TEXT else f"{shown[:_MAX_TEXT]}..."


def _bounded(diff: tuple[dict[str, Any], ...]) -> Any:
    hidden = [_hide(change) for change in diff]
    if len(json.dumps(hidden, default=str)) <= MAX_DIFF:
        return hidden
    counts: dict[str, int] = {}
    for change in hidden:
        name = f"{change.get('kind')} {change.get('action')}"
        counts[name] = counts.get(name, 0) + 1
    return {"too_large": True, "counts": counts}


def _hide(value: Any) -> Any:
    if isinstance(value, str):
        return redact_line(value)
    if isinstance(value, dict):
        return {name: _hide(one) for name, one in value.items()}
    return [_hide(one) for one in value] if isinstance(value, list | tuple) else value
