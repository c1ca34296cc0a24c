"""Reading the routing config's text while requests are served.

libyaml keeps the interpreter lock for its whole run: 1,000 routes in a thread stopped the event loop for
120 ms (measured, 1 ms for each 2 KiB). So a text that is not small is parsed in a process of its own, this
module as a program.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import astuple
from typing import Any

from gateway.config import strict_yaml
from gateway.config.strict_yaml import YamlDocument
from gateway.core.routing.problems import Problem, Problems
from gateway.runtime import threads

_TIMEOUT = 30.0  # seconds
SMALL = 8 * 1024  # characters: 4 ms of a thread cost less than a process


class TransientProblems(Problems):
    """The text could not be parsed: another try may work with the same text."""


def plain(text: str) -> str:
    """Without a byte order mark, which is no part of a text."""
    return text.lstrip("\ufeff")


async def parse_apart(text: str) -> YamlDocument:
    """As `strict_yaml.parse`, without holding the event loop up. Raises TransientProblems too."""
    if len(text) <= SMALL:
        return await threads.run(threads.CONFIG, strict_yaml.parse, text)
    result = await threads.run(
        threads.CONFIG, json.loads, await run_apart(__spec__.name, json.dumps(text).encode())
    )
    if "problems" in result:
        raise Problems([Problem(tuple(path), *rest) for path, *rest in result["problems"]])
    return YamlDocument(**result)


async def run_apart(module: str, given: bytes) -> bytes:
    """What a module, as a program, prints when it is given these bytes. Raises TransientProblems."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        reason = f"it could not be read: no process could be started: {error.strerror}"
        raise TransientProblems(
            [Problem((), reason, "free memory or processes; it is tried again")]
        ) from None
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, _ = await process.communicate(given)
    except TimeoutError:
        raise TransientProblems(
            [Problem((), "it could not be read in time", "make the file smaller")]
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        reason = f"it could not be read: the process that does it ended with {how}"
        raise TransientProblems([Problem((), reason, "its message is in the log; memory may be short")])
    return output


def _result(text: str) -> dict[str, Any]:
    """What the program prints: the fields of the YamlDocument, or the problems."""
    try:
        document = strict_yaml.parse(text)
    except Problems as found:
        return {"problems": [astuple(problem) for problem in found.items]}
    return {"data": document.data, "line": document.line, "lines": document.lines}


if __name__ == "__main__":
    json.dump(_result(json.load(sys.stdin)), sys.stdout)
