"""The YAML of the routing config, read strictly: plain data, and the line that each part of it stands on.

YAML 1.1's surprises are off: only true and false are booleans (`no` is a text), there are no dates and no
base-60 numbers, no tags (`!!int`), and a key that is there twice is an error instead of a silent loss.
Aliases are followed as far as the text written out would still be a config (and not "a billion laughs").
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import yaml

from gateway.core.routing.problems import Path, Problem, Problems, by_line

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32  # the config has 5 levels; 100,000 brackets overflow libyaml's stack, which ends the process
_MAX_DIGITS = 100  # of a whole number
_TAGGED = (yaml.ScalarEvent, yaml.CollectionStartEvent)

# Where the entries of a mapping or list stand: each has its line, 1-based, of a mapping that of the key; and
# behind it, where the entry has entries itself, the lines of these.
Line: TypeAlias = "int | tuple[int, Lines]"
Lines: TypeAlias = "Mapping[str, Line] | Sequence[Line]"


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A text as read. line: where the data begins, 1-based; 0 in an empty text."""

    data: Any
    line: int = 0
    lines: Lines = ()

    def locate(self, problem: Problem) -> Problem:
        """The problem with the line that its path, or the nearest part of it, stands on. A line that is known
        stays."""
        if problem.line:
            return problem
        line, lines = self.line, self.lines
        for step in problem.path:
            try:
                found = lines[step]  # type: ignore[index]
            except (LookupError, TypeError):
                break
            line, lines = (found, ()) if isinstance(found, int) else found
        return problem.at_line(line)


class _Loader(yaml.CSafeLoader):
    """libyaml's loader with the scalars of the YAML 1.2 core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"null|~|", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


_STR, _INT = "tag:yaml.org,2002:str", "tag:yaml.org,2002:int"
_CORE = ("str", "int", "float", "bool", "null")
_Loader.yaml_constructors = {
    **{tag: make for tag, make in _Loader.yaml_constructors.items() if str(tag).rpartition(":")[2] in _CORE},
    _INT: lambda _, node: int(node.value),
}


def parse(text: str) -> YamlDocument:
    """Read a text. Raises Problems, each with its line."""
    _check_characters(text)
    try:
        _check_events(text)
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return YamlDocument(None)
        reader = _NodeReader(loader)
        found = reader.read(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        begin = mark
        if isinstance(error, yaml.scanner.ScannerError):  # an open quote is reported where it opens
            begin = error.context_mark or mark
        hint = _hint(text, [one.line for one in (begin, mark) if one is not None])
        raise _problem(f"it is not YAML: {error.problem}", hint, begin) from None
    except (yaml.YAMLError, ValueError):
        raise Problems([Problem((), "it is not YAML", "check that the file is complete text")]) from None
    if reader.problems:
        raise Problems(by_line(reader.problems))
    if found.size > MAX_BYTES or found.depth > MAX_DEPTH:
        what = (
            f"larger than {MAX_BYTES} bytes" if found.size > MAX_BYTES else f"nested deeper than {MAX_DEPTH}"
        )
        reason = f"with its aliases (*name) written out it is {what}"
        raise _problem(reason, "use fewer aliases", root.start_mark)
    return YamlDocument(found.data, root.start_mark.line + 1, found.lines)


class _Value(NamedTuple):
    """What a node holds. size, depth: about how many characters it takes, and how deep it is nested, with
    each alias written out."""

    data: Any
    lines: Lines
    size: int
    depth: int

    def line(self, number: int) -> Line:
        """Its line among those of the entries beside it. number: where it stands."""
        return (number, self.lines) if self.lines else number


class _NodeReader:
    """The one pass over the composed nodes. problems: keys that are no text or there twice, and numbers that
    are too long, each at its first place; an alias does not repeat it.

    What stands at such a key is not read. Else an alias comes after what it repeats, which is known by then:
    this goes no deeper than the text does.
    """

    def __init__(self, loader: _Loader) -> None:
        self.problems: list[Problem] = []
        self._loader = loader
        self._known: dict[int, _Value] = {}  # by id() of the node

    def read(self, node: yaml.Node, path: Path) -> _Value:
        """The value of a node, which stands at this path."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = self._read(node, path)
        return found

    def _read(self, node: yaml.Node, path: Path) -> _Value:
        if len(path) > MAX_DEPTH:  # by an alias of what was not read
            return _Value(None, (), 0, 0)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> _Value:
        if node.tag == _STR:
            return _Value(node.value, (), len(node.value) + 1, 0)
        digits = len(node.value)
        if node.tag == _INT and digits > _MAX_DIGITS:  # Python refuses to read some thousand of them
            reason = f"it is not YAML that is understood: a number of {digits} digits"
            hint = "write a smaller number, or put a text in quotes"
            self.problems.append(Problem((), reason, hint, node.start_mark.line + 1))
            return _Value(None, (), 0, 0)
        return _Value(self._loader.construct_object(node), (), 1, 0)

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> _Value:
        values = [self.read(entry, (*path, index)) for index, entry in enumerate(node.value)]
        lines = [
            value.line(entry.start_mark.line + 1) for entry, value in zip(node.value, values, strict=True)
        ]
        size, depth = 1 + sum(value.size for value in values), max((v.depth for v in values), default=0)
        return _Value([value.data for value in values], lines, size, depth + 1)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> _Value:
        data: dict[str, Any] = {}
        lines: dict[str, Line] = {}
        size, depth = 1, 0
        for key, entry in node.value:
            wrong = _wrong_key(key, path, lines)
            if wrong is not None:
                self.problems.append(wrong)
                continue
            value = self.read(entry, (*path, key.value))
            data[key.value] = value.data
            lines[key.value] = value.line(key.start_mark.line + 1)
            size += len(key.value) + 1 + value.size
            depth = max(depth, value.depth)
        return _Value(data, lines, size, depth + 1)


def _wrong_key(key: yaml.Node, path: Path, known: Mapping[str, Line]) -> Problem | None:
    """Why a key cannot stand in the mapping at this path. known: the keys before it, with their lines."""
    line = key.start_mark.line + 1
    if not isinstance(key, yaml.ScalarNode):
        hint = _TEMPLATE if isinstance(key, yaml.MappingNode) else _BRACKETED
        return Problem(path, "a key is a list or a mapping, and not a text", hint, line)
    if key.tag != _STR:
        return Problem(path, f"the key {key.value!r} is not a text", f'put it in quotes: "{key.value}"', line)
    if key.value in known:
        first = known[key.value]
        first = first if isinstance(first, int) else first[0]
        reason = f"the key {key.value!r} is there twice, first on line {first}"
        return Problem((*path, key.value), reason, "keep one of them", line)
    return None


def _check_characters(text: str) -> None:
    """Raises Problems for a character that no YAML text holds (YAML 1.2, c-printable), with its line."""
    found = _UNPRINTABLE.search(text)
    if found is None:
        return
    hint = "remove it; was the file written whole, and is it text?"
    if text.count("\0") > len(text) // 4:
        hint = "it looks like UTF-16: save it as UTF-8"
    line = len(_LINE_END.findall(text, 0, found.start())) + 1
    reason = f"it is not YAML: it holds the control character U+{ord(found[0]):04X}"
    raise Problems([Problem((), reason, hint, line)])


def _check_events(text: str) -> None:
    """Raises Problems for what is YAML and no config: nested too deep to be read safely, a tag (`!!bool abc`,
    of which the constructors would make any exception), a second document, an alias of nothing or of what
    it stands in; YAMLError when it is not YAML."""
    loader = _Loader(text)
    check = _EventCheck()
    try:
        while loader.check_event():
            check.take(cast(yaml.Event, loader.get_event()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None or not check.too_deep(text[check.end : mark.index]):
            raise
        raise _problem(_DEEP, "is it the right file?", mark) from None


_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")  # of YAML 1.1, by which libyaml counts
_CONFLICT = re.compile(r"^(?:<{7}|>{7})(?: .*)?$", re.MULTILINE)
_BRACKETED = "a text that holds { } [ ] , # or a colon with a space stands in quotes"
_ODD_SPACE = "there is a space that is no plain one (of a word processor or a web page); type it anew"
_TEMPLATE = (
    "templates and variables are not filled in here: render the file before, and look: gateway check -"
)
_ANYWHERE = (
    (re.compile("[\u00a0\u2007\u202f\u3000\u200b-\u200d\u2060\ufeff]"), _ODD_SPACE),
    (re.compile("[\u201c-\u201f\u2018-\u201b\u00ab\u00bb]"), "the quotes are typographic; write \" or '"),
    (re.compile(r"\{\{|\{%|\$\{|\$\("), _TEMPLATE),
    (re.compile(r"^\s*\t|^ *- *\t"), "indent with spaces: there is a tab"),
)
_TRAPS = (
    (re.compile(r"[:-]\s+[*&!%@`|>]"), "a text that begins with * & ! % @ ` | or > stands in quotes"),
    (re.compile(r"^\s*(?:- +)?[\w-]+(?::[^\s:/]| *=)"), "a key is followed by a colon and a space"),
    (re.compile(r"^\s*(?:- +)?\w+ +[^:]*$"), "a key is followed by a colon and a space"),
    (re.compile(r"^[^'\"#]*[{\[].*[{\[]"), _BRACKETED),
    (re.compile(r"'[^']*'\w"), "in single quotes '' stands for one of them"),
    (re.compile(r":\s+[^'\"{\[#|>\s][^#]*:\s"), _BRACKETED),
    (re.compile(r"^[^'\"#]*(?:\"[^\"]*|'[^']*)$"), "close the quotes"),
    (re.compile(r"\""), "in double quotes a backslash is written \\\\; in single quotes it is itself"),
)


def _hint(text: str, near: list[int]) -> str:
    """What is probably wrong in these lines. near: their numbers, from 0; the line before may be it too."""
    conflict = _CONFLICT.search(text)
    if conflict is not None:
        number = len(_LINE_END.findall(text, 0, conflict.start())) + 1
        return f"line {number} marks a conflict of a merge ({conflict[0][:7]}): resolve it"
    lines = _LINE_END.split(text)
    candidates = [lines[n] for line in near for n in (line, line - 1) if 0 <= n < len(lines)]
    for pattern, hint in _ANYWHERE:
        if any(map(pattern.search, candidates)):
            return hint
    for line in candidates:
        for pattern, hint in _TRAPS:
            if pattern.search(line):
                return hint
    return "correct the text at that line, or the one before: indents, brackets, quotes"


_DEEP = f"it is nested too deep: more than {MAX_DEPTH} levels"


class _EventCheck:
    """Checks a text event by event. end: the index in it where the last event ended."""

    def __init__(self) -> None:
        self.end = 0
        self._open: list[str | None] = []  # the anchor, if any, of each mapping and list that is open
        self._anchors: set[str] = set()
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Check the next event. Raises Problems."""
        self.end = event.end_mark.index if event.end_mark else 0
        if type(event) is yaml.ScalarEvent and event.tag is None and event.anchor is None:
            return  # most of them
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _problem("there is another document (---)", "keep one of them", event.start_mark)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, _TAGGED):
            self._tagged(event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor
        if name in self._open:
            reason = f"the alias *{name} is recursive: it stands in what it repeats"
            raise _problem(reason, "write it out", event.start_mark)
        if name not in self._anchors:
            reason, hint = f"*{name} is an undefined alias", f"put &{name} before what it repeats"
            raise _problem(reason, hint + ", or the text in quotes", event.start_mark)

    def _tagged(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            reason = f"the tag {event.tag!r} is not understood"
            raise _problem(reason, "remove the tag; put a text in quotes", event.start_mark)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise _problem(f"the anchor &{event.anchor} is there twice", "rename one", event.start_mark)
            self._anchors.add(event.anchor)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append(event.anchor)
            if len(self._open) > MAX_DEPTH:
                raise _problem(_DEEP, "is it the right file?", event.start_mark)

    def too_deep(self, ahead: str) -> bool:
        """Whether the text that libyaml failed on is nested too deep. ahead: the text behind the last event.
        libyaml has a limit of its own and reads ahead: it may fail before it has reported one bracket. Its
        message differs from version to version, so the brackets are counted here."""
        depth = len(self._open)
        for bracket in _BRACKETS.findall(ahead):
            depth += 1 if bracket in "[{" else -1
            if depth > MAX_DEPTH:
                return True
        return False


_BRACKETS = re.compile(r"[\[\]{}]")


def _problem(reason: str, hint: str, mark: Any) -> Problems:
    """One problem at a mark of yaml (of which there are two types), or None for no line."""
    return Problems([Problem((), reason, hint, mark.line + 1 if mark else 0)])


def _result(text: str) -> dict[str, Any]:
    """What the program prints: the fields of the YamlDocument, or the problems."""
    try:
        document = parse(text)
    except Problems as found:
        return {"problems": [astuple(problem) for problem in found.items]}
    return {"data": document.data, "line": document.line, "lines": document.lines}


if __name__ == "__main__":  # see source.py; most of what it takes is what is imported above
    json.dump(_result(sys.stdin.buffer.read().decode(errors="surrogatepass")), sys.stdout)
