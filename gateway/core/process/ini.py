"""The text of an ini file: its sections, and on which line each key stands.

The messages of configparser are not used: they quote the broken line, which may hold a password.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.process.operators import Reader
from gateway.core.routing.problems import Problem, Problems

# A section's head, and the first character behind it that begins no comment.
_HEAD = re.compile(r"\s*\[[^\]]+\](?:\s*[#;]|\s*(\S?))")
_SECTION = re.compile(r"\[(.+)\]")
_KEY = re.compile(r"([^\s=:#;\[][^=:]*?)\s*(?:[=:]|$)")
_CONFLICT = re.compile(r"(?:<{7}|={7}|>{7})(?: |$)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_NO_KEY = "write key = value; a value that goes on is indented on its next line"


@dataclass(frozen=True, slots=True)
class Ini:
    """An ini file as read. sections: the keys of each, in lower case, with their values. lines: of (section,
    key), and of (section, "") for its head; 1-based."""

    sections: dict[str, dict[str, str]]
    lines: dict[tuple[str, str], int]

    def locate(self, problem: Problem) -> Problem:
        """The problem with its line, where the line of its path (`[section]`, key) is known."""
        section, key = (*map(str, problem.path), "", "")[:2]
        name = section.removeprefix("[").removesuffix("]")
        line = self.lines.get((name, key)) or self.lines.get((name, ""), 0)
        return problem if problem.line else problem.at_line(line)


def is_name(text: str) -> bool:
    """Whether it can be the name in the head of a section, [kind:NAME]."""
    return bool(_NAME.fullmatch(text))


def named(read: Reader, kind: str) -> Iterator[tuple[str, str]]:
    """The sections of a kind (`tls:`), each with the name behind that. Where it is not valid the section is
    left out, and a problem."""
    for section in read.sections:
        if section.startswith(kind):
            name = section.removeprefix(kind)
            if is_name(name):
                yield section, name
            else:
                read.wrong(section, "", "the name is not valid", "use letters, digits, . _ - (32 at most)")


def read(text: str) -> Ini:
    """Parse the text of an ini file. Raises Problems, each with its line."""
    alone = re.search(r"\r(?!\n)", text)
    if alone is not None:
        reason = "a carriage return stands alone there: what follows would be part of the same line"
        hint = "save it with line feeds as the ends of lines, as editors call it: LF"
        raise Problems([Problem((), reason, hint, text.count("\n", 0, alone.start()) + 1)])
    in_value = False  # whether an indented line would continue the value of a key
    for number, line in enumerate(text.split("\n"), 1):
        head = _HEAD.match(line)
        if head is not None and not (in_value and line[0].isspace()):
            in_value = False
            if head[1]:
                reason = "what stands behind the section's name would be ignored"
                raise Problems([Problem((), reason, "begin it on a line of its own", number)])
        elif _KEY.match(line):
            in_value = True
        if _CONFLICT.match(line):
            raise Problems([Problem((), "it marks a conflict of a merge", "resolve it", number)])
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        hint = "begin with a section, such as [gateway]; is it the right file?"
        raise Problems(
            [Problem((), "it is no ini file: a key before any section", hint, error.lineno)]
        ) from None
    except configparser.DuplicateSectionError as error:
        found = Problem((f"[{error.section}]",), "the section is there twice", "join them", error.lineno or 0)
        raise Problems([found]) from None
    except configparser.DuplicateOptionError as error:
        path = f"[{error.section}]", error.option
        raise Problems([Problem(path, "the key is there twice", "keep one", error.lineno or 0)]) from None
    except configparser.ParsingError as error:
        raise Problems(
            [Problem((), "it is no key with a value", _NO_KEY, n) for n, _ in error.errors]
        ) from None
    if parser.defaults():
        reason = "its keys would count in every section"
        raise Problems([Problem(("[DEFAULT]",), reason, "write them where they belong")])
    return Ini({name: dict(parser.items(name)) for name in parser.sections()}, _lines(text))


def _lines(text: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        head, key = _SECTION.match(line), _KEY.match(line)
        if head is not None:
            section = head[1]
            found[section, ""] = number
        elif key is not None:
            found[section, key[1].lower()] = number
    return found
