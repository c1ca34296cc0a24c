"""The project's pages as a reader meets them: their words, their links, and the lines that he pastes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / name for name in ("gateway", "backends", "config")]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(found for folder in FOLDERS for found in folder.rglob("*.md"))]
)


def blocks(text: str) -> list[str]:
    """The fenced blocks of shell commands: those that name no other language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in ("", "sh", "bash")]


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """The names under which GitHub's reader finds the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def written(line: str) -> list[str]:
    """The files that a pasted line writes: by redirection, by `-o` or `tee`, as a backup or a DATA."""
    line = re.sub(r"(?<!\S)#.*", "", line)
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", line)
    found = re.findall(r"(?<![0-9&<=-])>>?\s*([^\s|&;<>]+)", bare)
    found += re.findall(r"\bDATA=(\S+)", bare)  # the folder of a backend
    return found + re.findall(r"(?:-o|--output|\btee|\bbackup)[ =]([^\s|&;<>-][^\s|&;<>]*)", bare)
