"""The command line of a backend, as gateway.conf has it: split into words as a shell would, and run without
one.

What only a shell understands would reach the program literally, or be taken for the program: it is refused
outside of quotes. `sh -c '...'` takes it in quotes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_KNOWN = frozenset({"python", "socket", "data"})
_LITERAL = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\[^\n]", re.DOTALL)  # quoted, or behind a backslash
_OPERATOR = re.compile(  # a single & or ( inside a word, as in a URL, is literal
    r"[0-9]*(?:&>>?|>>|>\||>&|<<<?|<&|<>|[<>])&?[0-9-]*|&&|\|\|?&?|;+|(?<!\S)&|&(?!\S)|(?<!\S)\("
)
_SUBSTITUTION = re.compile(r"`|\$\(")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9?#@*$!-])")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
# Words of the shell itself: there is no such program, or one that changes nothing but itself.
_BUILTINS = frozenset(
    {".", "alias", "case", "cd", "eval", "exec", "export", "for", "function", "if", "pushd", "set", "shopt"}
    | {"source", "trap", "ulimit", "umask", "unset", "until", "while"}
)
_WRITE_SH = "no shell reads it: write sh -c '...', or set cwd; in quotes it is taken as it stands"
_WRITE_IT = "no shell reads it: write it out, or sh -c '...'; in single quotes it is taken as it stands"


@dataclass(frozen=True, slots=True)
class Command:
    """How a supervised backend is run. argv holds the placeholders {python}, {socket} and {data}.

    sample: a public path that a newcomer may GET, shown at the start; empty for none. health: the path on its
    unix socket that answers 200 when it can serve, or for a backend on TCP a whole URL. start_timeout: the
    seconds from its start until it has to.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    sample: str = ""
    health: str = "/healthz"
    start_timeout: float = 10.0

    def expand(self, *, python: str, socket: str, data: str) -> tuple[str, ...]:
        """The words to run, with the placeholders filled in."""
        values = {"python": python, "socket": socket, "data": data}
        return tuple(_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in self.argv)


def read(text: str) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """The words, and the problems with them: pairs of reason and hint."""
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        return (), [(f"it is not a command line: {error}", "close the quotes")]
    if not argv:
        return (), [("it is missing", "write the command that runs the backend")]
    return argv, [*_of_shells(text), *_placeholders(argv)]


def _of_shells(text: str) -> Iterator[tuple[str, str]]:
    """The first construct that only a shell understands."""
    bare = _LITERAL.sub(lambda found: "'" * len(found[0]), text)  # of the same length, and of no meaning
    first, *_ = words = bare.split()
    if re.search(r"\\\n", bare):
        reason = "a backslash at the end of a line would be handed to the program"
        yield reason, "remove it: an indented line goes on with the value"
    elif found := _OPERATOR.search(bare):
        yield f"{found[0]} would be handed to the program", _WRITE_SH
    elif any(word.startswith("#") for word in words):
        yield "a comment would be handed to the program", "give it a line of its own"
    elif found := _SUBSTITUTION.search(bare):
        yield f"{found[0]} would be handed to the program", _WRITE_SH
    elif "${" in text:
        yield "variables are not filled in here", "{python}, {socket} and {data} stand without a dollar sign"
    elif found := _VARIABLE.search(bare):
        yield f"{found[0]} would be handed to the program: variables are not filled in here", _WRITE_IT
    elif any(word.startswith("~") for word in words):
        yield "~ would be handed to the program", _WRITE_IT
    elif found := _ASSIGNMENT.match(first):
        yield (
            f"{found[0]} would be taken for the program: only a shell sets variables so",
            f"write env {found[0]}... before the program",
        )
    elif first in _BUILTINS:
        yield f"{first} would be taken for a program, and is the shell's own", _WRITE_SH


def _placeholders(argv: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word in argv:
        if "${" in word:
            return  # reported by _of_shells
        for name in _PLACEHOLDER.findall(word):
            if name not in _KNOWN:
                yield f"{{{name}}} is unknown", "use {python} {socket} {data}"
