"""A text is parsed without holding the event loop up: a large one by a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gateway.config import source, strict_yaml
from gateway.config.edit import splice
from gateway.config.source import Texts, parse_apart
from gateway.config.strict_yaml import YamlDocument, parse
from gateway.core.routing.problems import Problems

LARGE = f"a: 1\n#{'x' * 100_000}\n"  # large enough for a process of its own


@pytest.mark.parametrize("padding", ["", LARGE.replace("a: 1", "")], ids=["small", "large"])
async def test_apart_gives_what_is_given_here(padding: str) -> None:
    text = "a: [1, 2.5, null, true, é, {b: '\U0001f600'}]" + padding
    assert (await parse_apart(text)).data == parse(text).data


@pytest.mark.parametrize("program", [strict_yaml, splice])
def test_a_program_that_starts_for_each_text_imports_little(program: ModuleType) -> None:
    """Nothing of pydantic nor asyncio: either takes longer than most texts."""
    text = f"import sys, {program.__name__}\nprint({{'asyncio', 'pydantic'}} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


async def test_a_reader_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_TIMEOUT", 0.01)
    with pytest.raises(Problems) as caught:
        await parse_apart(LARGE)
    assert "in time" in caught.value.items[0].reason


@pytest.mark.parametrize(
    ("program", "how"), [("exit 3", "exit code 3"), ("kill -9 $$", "signal 9")], ids=["exit", "killed"]
)
async def test_a_reader_that_dies_is_said_to_have_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, how: str
) -> None:
    reader = tmp_path / "reader"
    reader.write_text(f"#!/bin/sh\n{program}\n")
    reader.chmod(0o700)
    monkeypatch.setattr(source.sys, "executable", str(reader))
    with pytest.raises(Problems) as caught:
        await parse_apart(LARGE)
    assert f"ended with {how}" in caught.value.items[0].reason


async def test_a_reader_that_cannot_start_is_a_problem_and_not_the_end_of_the_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source.sys, "executable", "/nonexistent/python")
    with pytest.raises(Problems) as caught:
        await parse_apart(LARGE)
    assert "no process could be started" in caught.value.items[0].reason


async def test_a_text_is_read_once_while_it_is_among_the_last_and_they_are_not_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    async def counted(text: str) -> YamlDocument:
        read.append(text[0])
        return await parse_apart(text)

    monkeypatch.setattr(source, "parse_apart", counted)
    texts, all_ = Texts(), [f"{name}: 1\n" for name in "abcde"]
    for text in (*all_[:4], *all_[:4], all_[4], all_[1], all_[0]):
        assert (await texts.document(text)).data == {text[0]: 1}
    assert "".join(read) == "abcdea"
    monkeypatch.setattr(source, "_KEPT_LENGTH", 12)
    for text in all_:
        await texts.document(text)
    assert (await texts.compare(*all_[3:])).views == (await texts.compare(*all_[3:])).views
    await texts.document(all_[2])
    assert "".join(read) == "abcdea" + "cde" + "c"
    none = Texts(kept=0)
    for _ in range(2):
        await none.document("f: 1")
    assert "".join(read).endswith("ff")
