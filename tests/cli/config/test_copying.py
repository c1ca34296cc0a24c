"""gateway config copy, between the sources that need no server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.cli.config.conftest import ROUTING, SLOWER
from tests.cli.config.test_commands import HEAVY
from tests.conf import write_conf


def test_a_file_is_copied_to_the_store_and_back_and_what_it_had_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = write_conf(tmp_path, ROUTING, extra="[config]\nsource = store\n")
    routing, words = tmp_path / "routing.yaml", ["config", "copy", "-c", str(conf)]
    to_file, to_store = (
        [*words, "--from", "store", "--to", "file"],
        [*words, "--from", "file", "--to", "store"],
    )
    assert main([*to_file, "--yes"]) == 1  # nothing is there yet
    assert routing.read_text() == ROUTING
    assert main([*to_store, "-m", "it moves", "--yes"]) == 0
    assert "store has no config that could be read" in capsys.readouterr().out
    assert main(to_store) == 0  # there is nothing to ask about
    assert "Nothing to do" in capsys.readouterr().out
    routing.write_text(SLOWER)
    assert main(to_file) == 1
    shown = capsys.readouterr()
    assert "~ timeouts.total  9s -> 5s" in shown.out and "say --yes" in shown.err
    assert routing.read_text() == SLOWER
    assert main([*to_file, "--yes"]) == 0
    assert routing.read_text() == ROUTING
    (kept,) = tmp_path.glob("routing.yaml.before-*")
    assert kept.read_text() == SLOWER
    shown = capsys.readouterr()
    assert "copied  " in shown.out and kept.name in shown.out


def test_a_source_that_the_process_config_does_not_name_is_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = write_conf(tmp_path, ROUTING)
    assert main(["config", "copy", "-c", str(conf), "--from", "file", "--to", "zookeeper"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: --to zookeeper: gateway.conf says [config] source = file; ")
    assert "Write source = zookeeper there first" in shown


def test_the_help_of_copy_imports_nothing_that_serves() -> None:
    text = (
        "import runpy, sys\n"
        "sys.argv = ['gateway', 'config', 'copy', '--help']\n"
        "try:\n    runpy.run_module('gateway', run_name='__main__')\n"
        f"finally:\n    print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert ran.returncode == 0
    assert ran.stdout.startswith("usage: gateway config copy") and ran.stdout.endswith("\n\n")
