"""An edit of the config's text makes it read as wanted, and leaves all else of the text as it is."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.admin.v1.objects import KINDS, objects, with_object, without_object
from gateway.config import strict_yaml
from gateway.config.edit.splice import NotEditable, rewrite, same
from gateway.core.routing.problems import Problems
from tests.config.edit import texts

ROUTING = (Path(__file__).parents[3] / "config" / "routing.yaml").read_text()
_SEEDS = st.integers(0, 2**32)
_PHASES = (Phase.explicit, Phase.generate)  # a seed cannot be made simpler


def data_of(text: str) -> Any:
    return strict_yaml.parse(text).data


def put(text: str, kind: str, name: str, value: Any) -> str:
    data = data_of(text)
    gone = value is None
    return rewrite(text, without_object(data, kind, name) if gone else with_object(data, kind, name, value))


def changes(before: str, after: str) -> list[str]:
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in found if not line.startswith(("---", "+++", "@@"))]


@settings(max_examples=150, phases=_PHASES, deadline=None, derandomize=True)
@given(_SEEDS, st.booleans())
def test_any_text_reads_as_wanted_after_any_edit(seed: int, anchors: bool) -> None:
    random = Random(seed)
    data = {key: texts.value(random) for key in random.sample(texts.KEYS, random.randint(1, 4))}
    text = texts.text_of(random, data, anchors=anchors)
    try:
        before = data_of(text)
    except Problems:
        return  # the writer of these texts knows not all rules of YAML
    if not isinstance(before, dict):
        return
    wanted = texts.changed(random, before)
    try:
        assert same(data_of(rewrite(text, wanted)), wanted)
    except NotEditable:  # only where what stands behind a text of several lines would become part of it
        assert "|" in text


@settings(max_examples=60, phases=_PHASES, deadline=None, derandomize=True)
@given(_SEEDS)
def test_an_edit_of_one_object_changes_no_line_outside_of_it(seed: int) -> None:
    random = Random(seed)
    data: dict[str, Any] = {"version": 1}
    for kind in random.sample(KINDS, 4):
        names = [f"o{number}" for number in range(random.randint(1, 4))]
        made = [texts.named(random, name) for name in names]
        data[kind] = made if kind == "routes" else dict(zip(names, made, strict=True))
    text = texts.text_of(random, data, anchors=False)
    try:
        document = strict_yaml.parse(text)
    except Problems:
        return
    kind = random.choice(KINDS)
    name = random.choice(list(objects(document.data, kind)))
    value = random.choice(
        [None, {**texts.named(random, name)}, texts.changed(random, objects(document.data, kind)[name])]
    )
    if isinstance(value, dict):
        value["name"] = name
    try:
        after = put(text, kind, name, value)
    except NotEditable:
        assert "|" in text
        return
    lines = _stripped(text)
    first, last = _range(document, kind, name, lines)
    new = _stripped(after)
    is_whole = len(objects(document.data, kind)) > 1 or value is not None  # else its section becomes empty
    if is_whole and document.data:
        new, head, tail = _full(new), _full(lines[: first - 1]), _full(lines[last:])
        assert new[: len(head)] == head
        assert not tail or new[-len(tail) :] == tail
    if "\r\n" in text:
        assert "\n" not in after.replace("\r\n", "")


def _stripped(text: str) -> list[str]:
    """The lines without the commas at their ends, which come and go in brackets."""
    return [line.rstrip(" ,") for line in text.splitlines()]


def _full(lines: list[str]) -> list[str]:
    return [line for line in lines if line]


def _range(document: strict_yaml.YamlDocument, kind: str, name: str, lines: list[str]) -> tuple[int, int]:
    """The lines of an object, 1-based, up to what comes next in the text."""

    def number(line: Any) -> int:
        found: int = line if isinstance(line, int) else line[0]
        above = found - 1
        while above and (not lines[above - 1].strip() or lines[above - 1].strip().startswith("#")):
            above -= 1
        return above if lines[above - 1].strip() == "-" else found  # a dash on a line of its own

    starts = set()
    found = 0
    for section, line in document.lines.items():  # type: ignore[union-attr]
        starts.add(number(line))
        inner = () if isinstance(line, int) else line[1]
        places = [number(one) for one in (inner.values() if isinstance(inner, dict) else inner)]
        starts.update(places)
        if section == kind:
            found = places[list(objects(document.data, kind)).index(name)]
    return found, min((start - 1 for start in starts if start > found), default=len(lines))


@settings(max_examples=5, phases=_PHASES, deadline=None, derandomize=True)
@given(_SEEDS)
def test_what_is_added_and_removed_again_leaves_the_text_as_it_was(seed: int) -> None:
    random = Random(seed)
    kind = random.choice(KINDS)
    text = ROUTING
    if kind not in data_of(text):
        return
    added = put(text, kind, "new-one", {"a": texts.value(random)})
    assert put(added, kind, "new-one", None) == text


def test_an_edit_of_this_projects_config_changes_the_lines_of_the_fields_alone() -> None:
    data = data_of(ROUTING)
    route = {**objects(data, "routes")["reports"], "body_limit": "1MiB", "strip": "/r"}
    assert changes(ROUTING, put(ROUTING, "routes", "reports", route)) == [
        "-    strip: /reports",
        "+    strip: /r",
        "+    body_limit: 1MiB",
    ]
    backend = {**objects(data, "backends")["reports"], "threads": 9}
    assert changes(ROUTING, put(ROUTING, "backends", "reports", backend)) == [
        '-  reports: { kind: gunicorn, addresses: ["unix:reports.sock"], threads: 8 }',
        '+  reports: { kind: gunicorn, addresses: ["unix:reports.sock"], threads: 9 }',
    ]


def test_a_new_route_has_a_line_for_each_field_and_a_gap_where_the_others_have_one() -> None:
    new = {"path": "/new/{rest*}", "target": "catalog", "scopes": {"read": ["a:read"]}, "methods": ["GET"]}
    assert changes(ROUTING, put(ROUTING, "routes", "new", new)) == [
        "+",
        "+  - name: new",
        "+    path: /new/{rest*}",
        "+    target: catalog",
        "+    scopes: { read: [a:read] }",
        "+    methods: [GET]",
    ]


def test_an_alias_keeps_its_value_when_what_it_repeats_is_edited() -> None:
    text = "routes:\n- name: a\n  cors: &c { x: 1 } # why\n- name: b\n  cors: *c\n- name: c\n  cors: *c\n"
    after = put(text, "routes", "a", {"cors": {"x": 2}})
    assert after == (
        "routes:\n- name: a\n  cors: { x: 2 } # why\n- name: b\n  cors: &c { x: 1 }\n- name: c\n  cors: *c\n"
    )
    after = put(text, "routes", "a", None)
    assert after == "routes:\n- name: b\n  cors: &c { x: 1 }\n- name: c\n  cors: *c\n"
    after = put(text, "routes", "b", {"cors": {"x": 3}})
    assert after == text.replace("b\n  cors: *c", "b\n  cors: { x: 3 }")


@pytest.mark.parametrize(
    ("before", "kind", "name", "value", "after"),
    [
        ("routes:\n", "routes", "a", {"path": "/"}, "routes:\n  - name: a\n    path: /\n"),
        ("routes: [] # none\n", "routes", "a", {}, "routes: # none\n  - name: a\n"),
        ("routes: [{name: a}]\n", "routes", "b", {}, "routes: [{name: a}, { name: b }]\n"),
        ("version: 1\n", "tenants", "t", {}, "version: 1\ntenants:\n  t: {}\n"),
        ("version: 1", "tenants", "t", {}, "version: 1\ntenants:\n  t: {}"),
        ("tenants:\r\n  a: {}\r\n", "tenants", "t", {"x": 1}, "tenants:\r\n  a: {}\r\n  t: { x: 1 }\r\n"),
        ("tenants:\n  a: {} # x\n", "tenants", "a", None, "tenants: {}\n"),
        ("# only\n", "tenants", "a", {}, "# only\ntenants:\n  a: {}\n"),
        ("tenants:\n  a:\n    # why\n    x: 1 # one\n    y: 2\n# end\n", "tenants", "a", {"x": 3, "z": [1]},
         "tenants:\n  a:\n    # why\n    x: 3 # one\n    z: [1]\n# end\n"),
        ('{"tenants": {"a": {"x": "y"}}}\n', "tenants", "b", {"k": ["v"]},
         '{"tenants": {"a": {"x": "y"}, "b": { "k": ["v"] }}}\n'),
        ("tenants:\n  a: {\n    x: 1, # one\n  }\n", "tenants", "a", {"x": 1, "z": 2},
         "tenants:\n  a: {\n    x: 1, # one\n    z: 2,\n  }\n"),
        ("tenants:\n  a: &x\n    k: 1\n  b: *x\n", "tenants", "a", {"k": 2},
         "tenants:\n  a:\n    k: 2\n  b: &x { k: 1 }\n"),
    ],
)  # fmt: skip
def test_an_edit_is_written_as_a_person_would(
    before: str, kind: str, name: str, value: Any, after: str
) -> None:
    assert put(before, kind, name, value) == after


def test_text_that_cannot_be_kept_is_refused_rather_than_lost() -> None:
    with pytest.raises(NotEditable):
        rewrite("- a\n", {"a": 1})
    with pytest.raises(NotEditable):
        rewrite("tenants: { a }\n", {"tenants": {"a": {"x": 1}}})


def test_values_are_written_so_that_other_readers_of_yaml_take_them_for_the_same() -> None:
    values = [
        "no",
        "on",
        "1e3",
        "0x1F",
        "12:30",
        "2026-01-01",
        "~",
        "1_000",
        "5s",
        "unix:a.sock",
        "a b",
        1.5,
        1e30,
    ]
    assert data_of(rewrite("a: 1\n", {"a": values})) == {"a": values}
    assert json.dumps("no") in rewrite("a: 1\n", {"a": values})
