"""The routing config's text: YAML by libyaml, read strictly, and where in the text a path stands.

YAML 1.1's surprises are off: only true and false are booleans (`no` is a text), there are no dates and no
base-60 numbers, and a key that is there twice is an error instead of a silent loss.

libyaml keeps the interpreter lock for its whole run: 1,000 routes in a thread stopped the event loop for
120 ms (measured). So while requests are served it runs in a process of its own, this module as a program.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from typing import Any

import yaml

from gateway.core.problems import Path, Problem, Problems

MAX_BYTES = 16 * 1024 * 1024
_APART_TIMEOUT = 30.0  # seconds


class _Loader(yaml.CSafeLoader):
    """libyaml's loader with the YAML 1.2 core schema's scalars."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"null|~|", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _mapping(loader: yaml.CSafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise Problems(
                [Problem((), f"the key {key!r} on line {line} is not a text", "put it in quotes", line)]
            )
        if key in mapping:
            raise Problems([Problem((key,), f"the key {key!r} is there twice", "keep one of them", line)])
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str) -> Any:
    """The plain data of a YAML text. Raises Problems with the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader's subclass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise Problems(
            [Problem((), f"it is not YAML: {error.problem}", "correct the text at that line", line)]
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise Problems([Problem((), "it is not YAML", "check that the file is complete text")]) from None


def with_lines(text: str, problems: list[Problem]) -> list[Problem]:
    """The same problems, each with the line that its path (or the nearest part of it) stands on."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
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
    """`parse_yaml` in a process of its own."""
    answer = await _apart({"text": text})
    if "problems" in answer:
        raise Problems([Problem(tuple(path), *rest) for path, *rest in answer["problems"]])
    return answer["data"]


async def with_lines_apart(text: str, problems: list[Problem]) -> list[Problem]:
    """`with_lines` in a process of its own."""
    answer = await _apart({"text": text, "paths": [p.path for p in problems]})
    return [p if p.line else p.at_line(n) for p, n in zip(problems, answer["lines"], strict=True)]


async def _apart(question: dict[str, Any]) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __spec__.name,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_APART_TIMEOUT):
            output, _ = await process.communicate(json.dumps(question).encode())
        return await asyncio.to_thread(json.loads, output)
    except (TimeoutError, ValueError):
        raise Problems([Problem((), "it could not be read in time", "make the file smaller")]) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    text = question["text"]
    if "paths" in question:
        blank = [Problem(tuple(path), "", "") for path in question["paths"]]
        return {"lines": [problem.line for problem in with_lines(text, blank)]}
    try:
        return {"data": parse_yaml(text)}
    except Problems as found:
        return {"problems": [(p.path, p.reason, p.mend, p.line) for p in found.items]}


if __name__ == "__main__":
    os.nice(5)  # the requests come first
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
