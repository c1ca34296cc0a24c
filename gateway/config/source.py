"""The routing config's text: YAML by libyaml, read strictly, and where in the text a path stands.

YAML 1.1's surprises are off: only true and false are booleans (`no` is a text), there are no dates and no
base-60 numbers, no tags (`!!int`), and a key that is there twice is an error instead of a silent loss.
Aliases are followed as far as the text written out would still be a config (and not "a billion laughs").

libyaml keeps the interpreter lock for its whole run: 1,000 routes in a thread stopped the event loop for
120 ms (measured, 1 ms for each 2 KiB). So while requests are served a text that is not small is parsed in a
process of its own, this module as a program.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, cast

import yaml

from gateway.core.routing.problems import Path, Problem, Problems
from gateway.runtime import threads

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32  # the config has 5 levels; 100,000 brackets overflow libyaml's stack, which ends the process
_MAX_DIGITS = 100  # of a whole number
_APART_TIMEOUT = 30.0  # seconds
_TAGGED = (yaml.ScalarEvent, yaml.CollectionStartEvent)
_NESTING = (dict, list)
_SMALL = 8 * 1024  # characters: 4 ms of a thread cost less than a process


class NotNow(Problems):
    """The text could not be looked at: another try may work with the same text."""


class _Loader(yaml.CSafeLoader):
    """libyaml's loader with the YAML 1.2 core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"null|~|", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(item, deep=True) for item in node.value]


_CORE = ("str", "int", "float", "bool", "null")
_Loader.yaml_constructors = {
    **{tag: make for tag, make in _Loader.yaml_constructors.items() if str(tag).rpartition(":")[2] in _CORE},
    "tag:yaml.org,2002:map": _mapping,
    "tag:yaml.org,2002:seq": _sequence,
}


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _MAX_DIGITS:  # Python refuses to read some thousand of them
        reason = f"it is not YAML that is understood: a number of {len(node.value)} digits"
        raise _problem(reason, "write a smaller number, or put a text in quotes", node.start_mark)
    return int(node.value)


_Loader.yaml_constructors["tag:yaml.org,2002:int"] = _integer


def parse_yaml(text: str) -> Any:
    """The plain data of a YAML text. Raises Problems with the line."""
    _check_characters(text)
    try:
        _check_events(text)
        loader = _Loader(text)
        root = loader.get_single_node()
        wrong = list(_wrong_keys(root, (), set()))
        if wrong:
            raise Problems(wrong)
        data = loader.construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        begin = mark
        if isinstance(error, yaml.scanner.ScannerError):  # a quote that is not closed is told where it opens
            begin = error.context_mark or mark
        hint = _hint(text, [one.line for one in (begin, mark) if one is not None])
        raise _problem(f"it is not YAML: {error.problem}", hint, begin) from None
    except (yaml.YAMLError, ValueError):
        raise Problems([Problem((), "it is not YAML", "check that the file is complete text")]) from None
    size, depth = _written_out(data, {})
    if size > MAX_BYTES or depth > MAX_DEPTH:
        what = f"larger than {MAX_BYTES} bytes" if size > MAX_BYTES else f"nested deeper than {MAX_DEPTH}"
        reason = f"with its aliases (*name) written out it is {what}"
        raise Problems([Problem((), reason, "use fewer aliases")])
    return data


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
    events = _Events()
    try:
        while loader.check_event():
            events.take(cast(yaml.Event, loader.get_event()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None or not events.too_deep(text[events.end : mark.index]):
            raise
        raise _problem(_DEEP, "is it the right file?", mark) from None


def _wrong_keys(node: yaml.Node | None, path: Path, known: set[int]) -> Iterator[Problem]:
    """Keys that are no text, or there twice. known: what was looked at already; an alias repeats it."""
    if node is None or id(node) in known:
        return
    known.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            yield from _wrong_keys(entry, (*path, index), known)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                hint = _TEMPLATE if isinstance(key, yaml.MappingNode) else _BRACKETED
                yield Problem(path, "a key is a list or a mapping, and not a text", hint, line)
            elif key.tag != "tag:yaml.org,2002:str":
                hint = f'put it in quotes: "{key.value}"'
                yield Problem(path, f"the key {key.value!r} is not a text", hint, line)
            elif key.value in lines:
                reason = f"the key {key.value!r} is there twice, first on line {lines[key.value]}"
                yield Problem((*path, key.value), reason, "keep one of them", line)
            else:
                lines[key.value] = line
                yield from _wrong_keys(value, (*path, key.value), known)


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
    """What people do wrong in lines like those. near: their numbers, from 0; the one before may be it too."""
    conflict = _CONFLICT.search(text)
    if conflict is not None:
        number = len(_LINE_END.findall(text, 0, conflict.start())) + 1
        return f"line {number} marks a conflict of a merge ({conflict[0][:7]}): resolve it"
    lines = _LINE_END.split(text)
    looked_at = [lines[n] for line in near for n in (line, line - 1) if 0 <= n < len(lines)]
    for pattern, hint in _ANYWHERE:
        if any(map(pattern.search, looked_at)):
            return hint
    for line in looked_at:
        for pattern, hint in _TRAPS:
            if pattern.search(line):
                return hint
    return "correct the text at that line, or the one before: indents, brackets, quotes"


_DEEP = f"it is nested too deep: more than {MAX_DEPTH} levels"


class _Events:
    """What has been read of a text, event by event. end: where the last of them ended in it."""

    def __init__(self) -> None:
        self.end = 0
        self._open: list[
            str | None
        ] = []  # the anchors, if they have one, of the mappings and lists that are open
        self._anchors: set[str] = set()
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        self.end = event.end_mark.index if event.end_mark else 0
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
        """Whether what could not be read is nested too deep, with the brackets of the text `ahead` of the
        last event. libyaml has a limit of its own, and looks ahead: it may stop there before it has told of
        one bracket. Which error that is only its sentence says, which is another one in every version."""
        depth = len(self._open)
        for bracket in _BRACKETS.findall(ahead):
            depth += 1 if bracket in "[{" else -1
            if depth > MAX_DEPTH:
                return True
        return False


_BRACKETS = re.compile(r"[\[\]{}]")


def _problem(reason: str, hint: str, mark: Any) -> Problems:
    """mark: yaml's, of which there are two kinds, or None; where in the text it is."""
    return Problems([Problem((), reason, hint, mark.line + 1 if mark else 0)])


def _written_out(value: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """About how many characters the data takes with each alias written out, and how deep it is nested.

    An alias comes after what it repeats, which is known by then: this goes no deeper than the text does.
    """
    if isinstance(value, str):
        return len(value) + 1, 0
    if not isinstance(value, _NESTING):
        return 1, 0
    found = known.get(id(value))
    if found is None:
        size, depth = 1, 0
        for part in [*value.keys(), *value.values()] if isinstance(value, dict) else value:
            part_size, part_depth = _written_out(part, known)
            size += part_size
            depth = max(depth, part_depth)
        found = known[id(value)] = size, depth + 1
    return found


def with_lines(text: str, problems: list[Problem]) -> list[Problem]:
    """The same problems, each with the line that its path (or the nearest part of it) stands on."""
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, Problems):
        return problems
    return [p if p.line else p.at_line(_line(root, p.path)) for p in problems]


def _line(root: yaml.Node | None, path: Path) -> int:
    node, line = root, 0
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == step), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line or (root.start_mark.line + 1 if root is not None else 0)


async def parse_yaml_apart(text: str) -> Any:
    """`parse_yaml` without holding the event loop up."""
    if len(text) <= _SMALL:
        return await threads.run(threads.CONFIG, parse_yaml, text)
    answer = await _apart({"text": text})
    if "problems" in answer:
        raise Problems([Problem(tuple(path), *rest) for path, *rest in answer["problems"]])
    return answer["data"]


async def with_lines_apart(text: str, problems: list[Problem]) -> list[Problem]:
    """`with_lines` without holding the event loop up."""
    if len(text) <= _SMALL:
        return await threads.run(threads.CONFIG, with_lines, text, problems)
    answer = await _apart({"text": text, "paths": [p.path for p in problems]})
    return [p if p.line else p.at_line(n) for p, n in zip(problems, answer["lines"], strict=True)]


async def _apart(question: dict[str, Any]) -> Any:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __spec__.name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        reason = f"it could not be read: no process could be started: {error.strerror}"
        raise NotNow([Problem((), reason, "free memory or processes; it is tried again")]) from None
    try:
        async with asyncio.timeout(_APART_TIMEOUT):
            output, _ = await process.communicate(json.dumps(question).encode())
    except TimeoutError:
        raise NotNow([Problem((), "it could not be read in time", "make the file smaller")]) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        reason = f"it could not be read: the process that reads it ended with {how}"
        raise NotNow([Problem((), reason, "its message is in the log; memory may be short")])
    return await threads.run(threads.CONFIG, json.loads, output)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    text = question["text"]
    if "paths" in question:
        blank = [Problem(tuple(path), "", "") for path in question["paths"]]
        return {"lines": [problem.line for problem in with_lines(text, blank)]}
    try:
        return {"data": parse_yaml(text)}
    except Problems as found:
        return {"problems": [(p.path, p.reason, p.hint, p.line) for p in found.items]}


if __name__ == "__main__":
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
