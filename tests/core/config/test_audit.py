"""The chain of the audit's lines: each change of them is found, and named by number and place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.config import audit
from gateway.core.config.audit import ROOT, START, Anchor, Entry, Line

NOW = 1_800_000_000.5


def chain(count: int, last: Anchor = START) -> tuple[list[bytes], Anchor]:
    lines = []
    for number in range(count):
        line, last = audit.line_of(Entry("applied", author=f"a{number}", at=NOW), last)
        lines.append(line.rstrip(b"\n"))
    return lines, last


def verify(lines: list[bytes], anchor: Anchor | None, since: int = 1) -> list[str]:
    return audit.verify([Line("log", number, line) for number, line in enumerate(lines, 1)], anchor, since)


def test_a_line_says_who_what_why_from_where_and_which_revisions() -> None:
    change = {"kind": "routes", "name": "a", "action": "added", "fields": []}
    entry = Entry(
        *("applied", "done", "alice", "owner", "192.0.2.1", "ü\nmore", "api", 4, 5, "", (change,), NOW)
    )
    line, anchor = audit.line_of(entry, Anchor(6, "ab"))
    assert line.endswith(b"\n") and line.isascii() and line.count(b"\n") == 1
    digest = anchor.hash
    assert json.loads(line) == {
        "seq": 7,
        "at": NOW,
        "action": "applied",
        "outcome": "done",
        "author": "alice",
        "role": "owner",
        "address": "192.0.2.1",
        "reason": "ü\nmore",
        "source": "api",
        "from": 4,
        "to": 5,
        "detail": "",
        "diff": [change],
        "prev": "ab",
        "hash": digest,
    }
    assert list(json.loads(line))[-2:] == ["prev", "hash"] and anchor.seq == 7


def test_what_was_written_verifies() -> None:
    lines, anchor = chain(5)
    assert (
        verify(lines, anchor)
        == verify(lines, None)
        == verify([], START)
        == verify(lines[2:], anchor, 3)
        == []
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: [*x[:2], x[2].replace(b'"a2"', b'"mallory"'), *x[3:]], ["log:3 (seq 3): it was changed"]),
        (lambda x: [*x[:2], x[2].replace(b'","', b'", "', 1), *x[3:]], ["log:3 (seq 3): it was changed"]),
        (
            lambda x: [*x[:2], b"not a line", *x[3:]],
            ["log:3: it is no line", "seq 3 is missing before log:4"],
        ),
        (lambda x: x[:2] + x[4:], ["seq 3 to 4 are missing before log:3 (seq 5)"]),
        (lambda x: x[2:], ["seq 1 to 2 are missing before log:1 (seq 3)"]),
        (lambda x: x[:4], ["seq 5 to 6 are missing at the end"]),
        (lambda x: [], ["seq 1 to 6 are missing at the end"]),
        (lambda x: [*x[:3], x[2], *x[3:]], ["log:4 (seq 3): it is there twice"]),
        (lambda x: [x[0], x[2], x[1], *x[3:]], ["log:3 (seq 2): it stands in the wrong place"]),
        (
            lambda x: [*x[:4], x[5], x[4]],
            ["log:6 (seq 5): it stands in the wrong place"],
        ),
    ],
)
def test_what_is_not_as_it_was_written_is_named(change: Any, said: list[str]) -> None:
    lines, anchor = chain(6)
    found = verify(change(lines), anchor)
    assert len(found) == len(said), found
    for one, begin in zip(found, said, strict=True):
        assert one.startswith(begin)


def forged(lines: list[bytes], index: int) -> bytes:
    """A line with another author, and the hash that fits it."""
    fields = json.loads(lines[index])
    before = Anchor(fields["seq"] - 1, fields["prev"])
    return audit.line_of(Entry("applied", author="mallory", at=NOW), before)[0].rstrip(b"\n")


def test_a_line_with_a_hash_of_its_own_does_not_fit_the_next_one() -> None:
    lines, anchor = chain(4)
    lines[1] = forged(lines, 1)
    (found,) = verify(lines, anchor)
    assert found.startswith("log:3 (seq 3): it does not follow log:2 (seq 2): one of them was replaced")


def test_a_whole_tail_that_was_made_anew_does_not_fit_the_anchor() -> None:
    lines, anchor = chain(4)
    fields = json.loads(lines[2])
    tail, _ = chain(2, Anchor(2, fields["prev"]))
    assert verify(lines[:2] + tail, None) == []
    (found,) = verify(lines[:2] + tail, anchor)
    assert found == "log:4 (seq 4): it is not the last line that the gateway has written"
    more, _ = chain(2, anchor)
    assert verify(lines + more, anchor) == ["seq 5 to 6 at the end: the gateway has not written that"]


def test_an_audit_that_begins_elsewhere_is_none() -> None:
    lines, anchor = chain(2, Anchor(0, "f" * 64))
    assert verify(lines, anchor) == ["log:1 (seq 1): it is not how an audit begins"]
    assert ROOT != "f" * 64


def test_no_end_of_problems_is_said_in_a_hundred() -> None:
    lines, anchor = chain(300)
    found = verify([line.replace(b"applied", b"Applied") for line in lines], anchor)
    assert len(found) == 101 and found[-1] == "and 200 more"


@pytest.mark.parametrize(
    "secret",
    [
        "gwt_" + "x" * 43,
        "gwop_" + "x" * 43,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
        "Bearer abcdefghijklmnop",
        "gw_abcdefghij_ABCDEFGHIJKLMNOP",
        "https://user:hunter2hunter2@example.com/",
    ],
)
def test_no_secret_is_in_a_line(secret: str) -> None:
    field = {"path": "url", "before": secret, "after": [secret, {"a": secret}]}
    change = {"kind": "routes", "name": "a", "action": "changed", "fields": [field]}
    entry = Entry(
        "applied", author=secret, reason=f"it was {secret} before", detail=secret, diff=(change,), at=NOW
    )
    line, _ = audit.line_of(entry, START)
    hidden = secret[-12:] if "@" not in secret else "hunter2"
    assert hidden.encode() not in line and line.count(b"***") == 6


def test_a_line_is_bounded() -> None:
    field = {"path": "url", "before": "x" * 1000, "after": "y" * 1000}
    changes = tuple(
        {"kind": "routes", "name": f"r{n}", "action": "changed", "fields": [field]} for n in range(100)
    )
    entry = Entry("applied", reason="z" * 10**6, diff=changes, at=NOW)
    line, _ = audit.line_of(entry, START)
    assert len(line) < 8000
    assert json.loads(line)["diff"] == {"too_large": True, "counts": {"routes changed": 100}}
