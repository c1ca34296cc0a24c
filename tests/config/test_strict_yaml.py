"""The YAML of the routing config: strict, bounded, with lines."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.config.source import parse_apart
from gateway.config.strict_yaml import parse
from gateway.core.routing.problems import Problem, Problems


def problems(text: str) -> list[Problem]:
    with pytest.raises(Problems) as caught:
        parse(text)
    assert all(problem.hint for problem in caught.value.items)
    return caught.value.items


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("n", "n"), ("True", "True"),
        ("true", True), ("false", False), ("2020-01-01", "2020-01-01"), ("2020-01-01T00:00:00Z",) * 2,
        ("1:30", "1:30"), ("1:30:15", "1:30:15"), ("010", "010"), ("0x1F", "0x1F"), ("0o17", "0o17"),
        ("1_000", "1_000"), (".inf", ".inf"), (".nan", ".nan"), ("1e3", "1e3"), ("=", "="), ("<<", "<<"),
        ("7", 7), ("-7", -7), ("0", 0), ("1.5", 1.5), ("null", None), ("~", None), ("", None), ("'7'", "7"),
        ("[a, no]", ["a", "no"]), ("{a: {b: 1}}", {"a": {"b": 1}}), ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_key_that_looks_like_a_boolean_is_a_text() -> None:
    assert parse("on: 1\nno: 2").data == {"on": 1, "no": 2}


def test_every_key_that_is_there_twice_is_named_with_its_line() -> None:
    found = problems("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert [(p.path, p.line) for p in found] == [(("b", "c"), 4), (("a",), 5)]


def test_keys_that_are_no_text_are_named_with_their_lines() -> None:
    found = problems("1: x\n2.5: x\ntrue: x\n~: x\n[a]: x\n{a: 1}: x\n")
    assert [p.line for p in found] == [1, 2, 3, 4, 5, 6]
    assert all("not a text" in p.reason for p in found)


@pytest.mark.parametrize(
    ("text", "path"),
    [("r:\n  - a: 1\n    a: 2\n", ("r", 0, "a")), ("b:\n  c: {1: x}\n", ("b", "c")),
     ("a: &x {k: 1, k: 2}\nb: *x\n", ("a", "k"))],
)  # fmt: skip
def test_a_wrong_key_has_its_path_and_is_told_once(text: str, path: tuple[str | int, ...]) -> None:
    assert [problem.path for problem in problems(text)] == [path]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a:\n\tb: 1\n", "indent with spaces: there is a tab"),
        ("a: {path: /x/{rest*}}\n", "stands in quotes"),
        ("a: {path: /x/{id}, b: 1}\n", "stands in quotes"),
        ("host: *.example.com\n", "in quotes"),
        ("host: @home\n", "in quotes"),
        ("a: 'it\n", "close the quotes"),
        ("a: b: c\n", "stands in quotes"),
        ('a: "\\d"\n', "a backslash is written"),
        ("a: %x\n", "in quotes"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> mine\n", "line 2 marks a conflict"),
        ("a:\n  b: 1\n\u00a0 c: 1\n  d: 1\n", "no plain one"),
        ("a:\u00a0b\nc: 1\n", "no plain one"),
        ("a: 1\nb:c\nd: 1\n", "a colon and a space"),
        ("a: 1\nb = c\nd: 1\n", "a colon and a space"),
        ("a: 1\nb c\nd: 1\n", "a colon and a space"),
        ("a: {{ .Values.a }}\n", "not filled in"),
        ("a: [${A}]\n", "not filled in"),
        ("{% if a %}\nb: 1\n", "not filled in"),
        ("a: {b: 'Acme's'}\n", "single quotes"),
        ("a: \u201cb: c\u201d\n", "typographic"),
        ("a\0:\0 \0b\0\n\0", "UTF-16"),
    ],
)
def test_what_is_no_yaml_has_a_hint_for_what_people_do_wrong(text: str, hint: str) -> None:
    (problem,) = problems(text)
    assert hint in problem.hint
    assert problem.line


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: [1\n", 3, "not YAML"),
        ("a:\n\tb: 1\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 1\nb: *nothing\n", 2, "undefined alias"),
        ("a: &a b\nc: &a d", 2, "anchor &a is there twice"),
        ("a: &a [*a]", 1, "recursive"),
        ("a: &a {b: *a}", 1, "recursive"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tag"),
        ("a: !!binary aGk=", 1, "tag"),
        ("a: !!timestamp 2020-01-01", 1, "tag"),
        ("a: !!set {b}", 1, "tag"),
        ("a: 1\nb: !mine x", 2, "tag"),
        ("a: 1\nversion: !!bool abc", 2, "tag"),
        ("a: !!bool true", 1, "tag"),
        ('a: !!int ""', 1, "tag"),
        ("a: !!float x", 1, "tag"),
        ("a: !!seq abc", 1, "tag"),
        ("a: !!map [b]", 1, "tag"),
        ("a: !!null b", 1, "tag"),
        ("!!str a: 1", 1, "tag"),
        ("a: !!seq [b]", 1, "tag"),
        ("a:\n  !!map\n  b: 1", 2, "tag"),
        ("a: ! b", 1, "tag"),
        ("a: 'b\n", 1, "not YAML"),  # where the quotes open, not where the file ends
        ("a: 1\nb: 'c\nd: 2\ne: 3\n", 2, "not YAML"),
        ("a: 1\nb:c\nd: 2\n", 2, "not YAML"),
        ("a: 1\nb: x\0y\n", 2, "U+0000"),
        ("a: 1\r\nb: x\x1by\r\n", 2, "U+001B"),
        ("a: 1\nb: " + "9" * 5000, 2, "5000 digits"),
        ("a: b: c\n", 1, "not YAML"),
        ('a: "\\ud800"', 1, "not YAML"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(text: str, line: int, reason: str) -> None:
    (problem,) = problems(text)
    assert problem.line == line
    assert reason in problem.reason


@pytest.mark.parametrize("text", ["a: \0", "a: \x07", "a: " + "9" * 5000, "a: \ud800"])
def test_other_junk_is_no_yaml_either(text: str) -> None:
    assert "not YAML" in problems(text)[0].reason


LARGE = f"a: 1\n#{'x' * 100_000}\n"  # large enough for a process of its own
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "aliases"),
        (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 200)}]", "aliases"),
        ("[" * 100_000, "too deep"),
        ("{a: " * 100_000, "too deep"),
        ("- " * 100_000, "too deep"),
        ("a:\n  - [[[[\n" + "[" * 100_000, "too deep"),
        ("['" + "[" * 100_000 + "', }", "not YAML"),
        ("[" * 500 + "]" * 500, "too deep"),
    ],
    ids=["laughs", "long scalar", "brackets", "braces", "dashes", "both", "quoted brackets", "balanced"],
)
async def test_what_would_fill_memory_or_stack_is_refused_fast(text: str, reason: str) -> None:
    began = time.process_time()
    (problem,) = problems(text)
    assert reason in problem.reason
    assert time.process_time() - began < 5
    for padded in (text, text + LARGE[4:]):
        with pytest.raises(Problems, match="1 problem") as caught:
            await parse_apart(padded)
        assert caught.value.items == [problem]


def test_a_long_chain_of_aliases_is_too_deep_and_ends_nothing() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))
    (problem,) = problems(chain)
    assert "aliases (*name) written out it is nested deeper" in problem.reason


def test_a_chain_of_aliases_under_one_key_is_a_key_that_is_there_twice() -> None:
    chain = "a: &a0 [x]\n" + "".join(f"a: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))
    assert len(problems(chain)) == 2999


def test_aliases_that_stay_small_are_followed() -> None:
    assert parse("a: &x {b: [1]}\nc: *x").data == {"a": {"b": [1]}, "c": {"b": [1]}}


TEXT = """\
# a comment
version: 1

routes:
  - name: a
    timeouts: { total: 1,
                connect: 2 }
  - name: b
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("version",), 2),
        (("routes",), 4),
        (("routes", 0), 5),
        (("routes", 0, "timeouts"), 6),
        (("routes", 0, "timeouts", "connect"), 7),
        (("routes", 0, "timeouts", "absent"), 6),
        (("routes", 1, "name"), 8),
        (("routes", 1, "target"), 8),
        (("routes", 9), 4),
        (("absent", "deeper"), 2),
    ],
)
async def test_a_problem_stands_on_its_line_or_that_of_the_nearest_part(
    path: tuple[str | int, ...], line: int
) -> None:
    problem = Problem(path, "reason", "hint")
    assert parse(TEXT).locate(problem) == problem.at_line(line)
    for padding in ("", LARGE[4:]):
        assert (await parse_apart(TEXT + padding)).locate(problem) == problem.at_line(line)


def test_a_line_that_is_known_stays() -> None:
    assert parse(TEXT).locate(Problem(("version",), "", "", 99)).line == 99
