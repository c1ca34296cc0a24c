"""The ini text of the process config: errors in words of ours, with lines, and without what stands there."""

from __future__ import annotations

import pytest

from gateway.core.process import ini
from gateway.core.routing.problems import Problem, Problems


def problems(text: str) -> list[Problem]:
    with pytest.raises(Problems) as caught:
        ini.read(text)
    return caught.value.items


def test_a_text_is_read_with_the_line_of_each_key() -> None:
    found = ini.read("# c\n[a]\nx = 1\nY: 2\n  3\n\n[b:c]\nz=%(x)s ${x}\n")
    assert found.sections == {"a": {"x": "1", "y": "2\n3"}, "b:c": {"z": "%(x)s ${x}"}}
    assert found.lines == {("a", ""): 2, ("a", "x"): 3, ("a", "y"): 4, ("b:c", ""): 7, ("b:c", "z"): 8}


@pytest.mark.parametrize(
    ("path", "line"),
    [(("[a]", "y"), 4), (("[a]", "not there"), 2), (("[b:c]",), 7), (("[d]", "x"), 0), ((), 0)],
)
def test_a_problem_stands_on_the_line_of_its_key_or_of_its_section(path: tuple[str, ...], line: int) -> None:
    found = ini.read("# c\n[a]\nx = 1\nY: 2\n  3\n\n[b:c]\nz=1\n")
    assert found.locate(Problem(path, "r", "m")).line == line


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("uri = s3cret\n", 1, "before any section"),
        ("version: 1 s3cret\n", 1, "before any section"),
        ("[a]\nx = s3cret\nx = s3cret\n", 3, "twice"),
        ("[a]\nx = s3cret\n[a]\n", 3, "twice"),
        ("[a]\nx = 1\n--s3cret\n", 3, "no key with a value"),
        ("[a]\n<<<<<<< s3cret\nx = 1\n", 2, "conflict"),
        ("[DEFAULT]\nx = s3cret\n[a]\n", 0, "every section"),
    ],
)
def test_what_is_no_ini_file_is_told_by_line_and_never_quoted(text: str, line: int, reason: str) -> None:
    (problem,) = problems(text)
    assert problem.line == line
    assert reason in problem.reason
    assert "s3cret" not in repr(problem)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[a]\rx = s3cret\r", 1, "carriage return stands alone"),
        ("[a]\r\nx = s3cret\r\ny = 1\rz = 2\r\n", 3, "carriage return stands alone"),
        ("[a] x = s3cret\n", 1, "behind the section's name"),
        ("[a]x = s3cret\n[b]\n", 1, "behind the section's name"),
        ("[a]\nx = s3cret\n[b] y = s3cret\n", 3, "behind the section's name"),
        (" [a] x = s3cret\n", 1, "behind the section's name"),
        ("[a]\n  [b] x = s3cret\n", 2, "behind the section's name"),
    ],
)
def test_nothing_is_without_effect_because_of_how_its_lines_end(text: str, line: int, reason: str) -> None:
    (problem,) = problems(text)
    assert (problem.line, reason in problem.reason) == (line, True), problem
    assert "s3cret" not in repr(problem)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("[a] # x\nx = 1\n", {"a": {"x": "1"}}),
        ("[a];x\nx = 1\n[b]   \n", {"a": {"x": "1"}, "b": {}}),
        ("[a]\r\nx = 1\r\n", {"a": {"x": "1"}}),
        ("[a]\nlisten = 1.1.1.1:1\n   [::1]:1\n", {"a": {"listen": "1.1.1.1:1\n[::1]:1"}}),
        ("[a]\nx = [b] c\n", {"a": {"x": "[b] c"}}),
    ],
)
def test_comments_and_brackets_in_values_are_no_mistakes(text: str, sections: dict[str, object]) -> None:
    assert ini.read(text).sections == sections
