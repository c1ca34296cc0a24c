"""The parser of the commands that ask a running gateway, and what it costs to begin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.config import LIGHT
from gateway.cli.main import main
from tests.conf import write_conf
from tests.support.ports import free_port

WORDS = {"apply": ["-"], "console": ["--no-browser"], "diff": ["1"]}
HEAVY = ("aiohttp", "asab", "pydantic", "cryptography", "asyncio", "sqlite3")


@pytest.mark.parametrize("command", LIGHT)
def test_it_begins_without_what_serves(command: str, tmp_path: Path) -> None:
    """Importing that takes longer than the answer."""
    port = free_port()
    conf = write_conf(tmp_path, admin=f"127.0.0.1:{port}")
    words = [command, *WORDS.get(command, []), "-c", str(conf)]
    text = (
        "import runpy, sys\n"
        f"sys.argv = ['gateway', *{words!r}]\n"
        "try:\n    runpy.run_module('gateway', run_name='__main__')\n"
        f"finally:\n    print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", text], input="version: 1\n", capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "\n")
    assert f"127.0.0.1:{port}: connection refused; does the gateway run? " in ran.stderr
    assert f"{conf} has it at 127.0.0.1:{port}" in ran.stderr


def test_without_a_process_config_they_say_where_they_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gateway.cli.process_config.PLACES", ("gateway.conf", "/nowhere/gateway.conf"))
    assert main(["revisions"]) == 1
    shown = capsys.readouterr().err
    assert "there is no process config" in shown and "name it with -c" in shown


def test_with_json_what_went_wrong_is_json_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "gateway.conf"
    bad.write_text("[gateway]\nworker = 2\n")
    nobody = "http://127.0.0.1:1"
    for words, said in (
        (["revisions", "--admin", nobody], "connection refused"),
        (["revisions", "--text", "--admin", nobody], "name the revision"),
        (["apply", "/nowhere/routing.yaml", "--admin", nobody], "/nowhere/routing.yaml"),
        (["revisions", "-c", str(bad)], "worker"),
    ):
        assert main([*words, "--json"]) == 1
        shown = capsys.readouterr()
        assert said in json.dumps(json.loads(shown.out)) and said in shown.err


@pytest.mark.parametrize(
    "words",
    [
        ["apply"],
        ["rollback", "x"],
        ["revisions", "0"],
        ["revisions", "1", "--pin", "--unpin"],
        ["audit", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: gateway" in capsys.readouterr().err


def test_what_needs_a_number_asks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["revisions", "--text", "--admin", "http://127.0.0.1:1"]) == 1
    assert "name the revision" in capsys.readouterr().err
