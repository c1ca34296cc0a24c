"""gateway config copy, between the sources that need no server."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.cli.config.conftest import ROUTING, SLOWER
from tests.conf import write_conf


def test_a_file_is_copied_to_the_store_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = write_conf(tmp_path, ROUTING, extra="[config]\nsource = store\n")
    words = ["config", "copy", "-c", str(conf)]
    assert main([*words, "--from", "store", "--to", "file"]) == 1  # nothing is there yet
    assert (tmp_path / "routing.yaml").read_text() == ROUTING
    assert main([*words, "--from", "file", "--to", "store", "-m", "it moves"]) == 0
    (tmp_path / "routing.yaml").write_text(SLOWER)
    assert main([*words, "--from", "store", "--to", "file"]) == 0
    assert (tmp_path / "routing.yaml").read_text() == ROUTING
    assert "copied  " in capsys.readouterr().out


def test_a_source_that_the_process_config_does_not_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = write_conf(tmp_path, ROUTING)
    assert main(["config", "copy", "-c", str(conf), "--from", "file", "--to", "zookeeper"]) == 1
    assert "zookeeper is not the source here" in capsys.readouterr().err
