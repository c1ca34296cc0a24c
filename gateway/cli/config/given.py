"""Texts that a command is given by name: a file, a pipe that is open already, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.config.ports import ConfigRefused
from gateway.config.strict_yaml import MAX_BYTES
from gateway.core.routing.problems import Problem
from gateway.runtime.files import FileUnusable, not_utf8, read_file

STDIN = "(standard input)"


def read_given(name: str, limit: int) -> bytes:
    """The content of a file named on the command line: `-` is standard input, and a pipe that is open already
    (`<(helm template ...)`) is read to its end. Raises FileUnusable."""
    path = Path(name)
    if name == "-":
        raw = sys.stdin.buffer.read(limit + 1)
    elif name.startswith(("/dev/fd/", "/proc/self/fd/")) and path.is_fifo():
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    else:
        return read_file(path, limit)
    if len(raw) > limit:
        raise FileUnusable(Path(shown(name)), f"it is larger than {limit} bytes", "is it the right text?")
    return raw


def read_config(name: str) -> str:
    """The text of a routing config named on the command line, as `read_given` takes it. Raises
    ConfigRefused."""
    path = Path(shown(name))
    try:
        raw = read_given(name, MAX_BYTES)
        return raw.decode("utf-8-sig")
    except FileUnusable as error:
        raise ConfigRefused(path, [Problem((), error.reason, error.hint)], transient=error.passing) from None
    except UnicodeDecodeError as error:
        raise ConfigRefused(path, [Problem((), *not_utf8(raw, error.start))]) from None


def shown(name: str) -> str:
    """The name for messages."""
    return STDIN if name == "-" else name
