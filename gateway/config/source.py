"""Reading the routing config's text, and editing it, while requests are served.

libyaml keeps the interpreter lock for its whole run: 1,000 routes in a thread stopped the event loop for
120 ms (measured, 1 ms for each 2 KiB). So a text that is not small is parsed in a process of its own,
strict_yaml as a program, and edited in one, edit/splice.py as a program.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.config import strict_yaml
from gateway.config.edit import splice
from gateway.config.edit.splice import NotEditable, rewrite
from gateway.config.strict_yaml import YamlDocument
from gateway.core.config import differences
from gateway.core.config.differences import Change
from gateway.core.config.revision import digest_of
from gateway.core.routing.problems import Problem, Problems
from gateway.runtime import threads

_TIMEOUT = 30.0  # seconds
_KEPT = 4  # texts: the live one, and those that are compared with it
_KEPT_LENGTH = 32 * 1024 * 1024  # characters of them together: two of the largest
_SMALL = 8 * 1024  # characters: 4 ms of a thread cost less than a process


class TransientProblems(Problems):
    """The text could not be parsed: another try may work with the same text."""


def plain(text: str) -> str:
    """Without a byte order mark, which is no part of a text."""
    return text.lstrip("\ufeff")


class Comparison(NamedTuple):
    """changes: what differs between two texts by meaning. views: the JSON of each."""

    changes: list[Change]
    views: list[dict[str, Any]]


_SAME = Comparison([], [])


class Texts:
    """What was read last: an apply, its response and its line in the audit ask for the same texts, and each
    costs a process. Nothing of it is to be changed by whoever gets it. kept: texts at most."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._read: dict[str, tuple[int, YamlDocument]] = {}  # by digest: the text's length, and what it says
        self._compared: tuple[str, str, Comparison] = "", "", _SAME

    async def document(self, text: str) -> YamlDocument:
        """As `parse_apart`."""
        return (await self._known(text))[1]

    async def compare(self, before: str, after: str) -> Comparison:
        """Raises as `parse_apart`."""
        if before == after:
            return _SAME
        (one, old), (other, new) = await self._known(before), await self._known(after)
        if self._compared[:2] != (one, other):
            found = await threads.run(threads.CONFIG, _compare, old.data, new.data)
            self._compared = one, other, found
        return self._compared[2]

    async def _known(self, text: str) -> tuple[str, YamlDocument]:
        """Its digest, and what it says."""
        digest = await threads.run(threads.CONFIG, digest_of, text)
        length, document = self._read.pop(digest, (len(text), None))
        if document is None:
            document = await parse_apart(text)
        self._read[digest] = length, document  # the one that was asked for last
        while len(self._read) > self._kept or sum(one for one, _ in self._read.values()) > _KEPT_LENGTH:
            del self._read[next(iter(self._read))]
        return digest, document


def _compare(before: Any, after: Any) -> Comparison:
    found = differences.differences(before, after)
    return Comparison(found, [differences.view(one) for one in found])


async def parse_apart(text: str) -> YamlDocument:
    """As `strict_yaml.parse`, without holding the event loop up. Raises TransientProblems too."""
    if len(text) <= _SMALL:
        return await threads.run(threads.CONFIG, strict_yaml.parse, text)
    # As it is: to make JSON of one large text holds the interpreter lock until it is done.
    output = await _run_apart(strict_yaml.__name__, text.encode(errors="surrogatepass"))
    result = await threads.run(threads.CONFIG, json.loads, output)
    if "problems" in result:
        raise Problems([Problem(tuple(path), *rest) for path, *rest in result["problems"]])
    return YamlDocument(**result)


async def rewrite_apart(text: str, wanted: Mapping[str, Any]) -> str:
    """As `rewrite`, without holding the event loop up. Raises TransientProblems too."""
    if len(text) <= _SMALL:
        return await threads.run(threads.CONFIG, rewrite, text, wanted)
    given = await threads.run(threads.CONFIG, json.dumps, [text, wanted])
    found = json.loads(await _run_apart(splice.__name__, given.encode()))
    if found is None:
        raise NotEditable
    return str(found)


async def _run_apart(module: str, given: bytes) -> bytes:
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
