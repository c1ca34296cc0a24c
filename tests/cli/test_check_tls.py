"""`gateway check` looks at the certificates too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from tests.support.certificates import Authority

CONF = """[gateway]
listen = 127.0.0.1:8443 tls=public
[tls:public]
certificate = tls/a.pem
key = tls/a.key
"""


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.conf").write_text(CONF)
    (tmp_path / "routing.yaml").write_text("version: 1\n")
    return Authority(tmp_path / "tls")


def test_what_keeps_it_from_starting_is_an_error(ca: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    ca.pair("a")
    (ca.folder / "a.key").write_text("nothing")
    assert main.main(["check"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "error: [tls:public] in" in said
    assert "a.key: no private key is in it" in said


def test_what_should_be_known_is_a_note(ca: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    ca.pair("a", days=5)
    assert main.main(["check"]) == 0
    assert "it expires on" in " ".join(capsys.readouterr().err.split())
    assert main.main(["check", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["tls"]
    assert "it expires on" in note
