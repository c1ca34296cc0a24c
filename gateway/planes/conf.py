"""Reads gateway.conf, for whoever runs by it."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

from gateway.config.refusal import describe
from gateway.core.process import ini
from gateway.core.process.settings import ProcessConfig, parse_process
from gateway.core.routing.problems import Problem, Problems, by_line
from gateway.runtime.files import not_utf8, read_file

_MAX = 1024 * 1024  # bytes
Unusable = (Problems, OSError, ValueError)  # what `read` raises


def why(path: str, error: Exception) -> str:
    """What `read` has raised, for people: all problems with their lines, each on one of ours where there are
    several."""
    if not isinstance(error, Problems):
        return str(error)
    text = describe(path, error.items)
    return f"\n{text}" if len(error.items) > 1 else text.strip()


def located(path: str, problems: Iterable[Problem]) -> list[Problem]:
    """Problems with their lines in a file that was read before. Raises as `read`."""
    return by_line(map(_ini(path).locate, problems))


def read(path: str) -> ProcessConfig:
    """The process config of a file. Raises Problems, each with its line; OSError, ValueError."""
    found = _ini(path)
    try:
        return parse_process(found.sections, str(Path(path).resolve().parent), path)
    except Problems as problems:
        raise Problems(by_line(map(found.locate, problems.items))) from None


def _ini(path: str) -> ini.Ini:
    try:
        raw = read_file(Path(path), _MAX)
        if raw.startswith(codecs.BOM_UTF8):  # ASAB, which reads it again, would stumble over it
            raise ValueError(f"{path} begins with a byte order mark; save it as UTF-8 without one")
        text = raw.decode()
    except UnicodeDecodeError as error:
        reason, hint = not_utf8(raw, error.start)
        raise ValueError(f"{path}: {reason}; {hint}") from None
    return ini.read(text)
