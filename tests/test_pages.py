"""The README is short, no link is dead, nothing that a reader pastes litters his folder, no data is kept."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.compilation import compile_text
from gateway.core.routing.settings import RouteSettings
from gateway.process.folders import socket_folder
from tests.support import pages
from tests.support.pages import PAGES, ROOT


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in pages.links((ROOT / page).read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in pages.anchors(target.read_text()), link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_pasted_line_writes_outside_var(page: Path) -> None:
    for block in pages.blocks((ROOT / page).read_text()):
        for line in block.splitlines():
            for path in pages.written(line):
                assert path.startswith(("var/", "/dev/null")), line


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("curl $D/orders/export > orders.ndjson", ["orders.ndjson"]),
        ("curl $D/orders/export -o var/o.ndjson  # > not this", ["var/o.ndjson"]),
        ('curl -d \'{"a":{"$gt":5}} > x\' $D 2>/dev/null', []),
        ("gateway token >> token.txt", ["token.txt"]),
        ("export DATA=/tmp/catalog", ["/tmp/catalog"]),
        ("gateway documents verify && gateway documents backup /backups/$(date +%F)", ["/backups/$(date"]),
    ],
)
def test_what_a_line_writes_is_seen(line: str, files: list[str]) -> None:
    assert pages.written(line) == files


def fenced(page: str, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", fenced("config/README.md", "yaml"), ids=lambda block: block.split(":")[0])
def test_each_example_of_a_routing_config_is_accepted(block: str) -> None:
    """Put into a config that has the backend, the tenant and the route that the examples speak of."""
    backend = {"kind": "uvicorn", "addresses": ["http://127.0.0.1:9000"]}
    route = {"name": "it", "path": "/it", "target": "billing"}
    keycloak = {"issuer": "https://id.example", "audiences": "a", "discovery": True, "tenants": ["acme"]}
    config: dict[str, Any] = {
        "version": 1, "backends": {"billing": backend}, "tenants": {"acme": {}}, "routes": [route],
        "issuers": {"keycloak": keycloak},
    }  # fmt: skip
    example = yaml.safe_load(textwrap.dedent(block))
    if set(example) <= set(RouteSettings.model_fields) and not isinstance(example.get("issuers"), dict):
        route |= example
    else:
        config |= example
    compile_text(yaml.safe_dump(config), lambda backend: None, socket_folder("."))  # type: ignore[arg-type,return-value]


def test_the_application_of_the_page_runs_beside_a_copy_of_the_identity(tmp_path: Path) -> None:
    (application,) = fenced("backends/README.md", "python")
    shutil.copytree(ROOT / "backends" / "identity", tmp_path / "gateway_identity")
    (tmp_path / "app.py").write_text(application)
    call = "app.app.test_client().get('/invoices', headers={'X-Tenant': 'acme', 'X-Subject': 'me'}).json"
    ran = subprocess.run(
        [sys.executable, "-c", f"import app; print({call})"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "GATEWAY_IDENTITY_TRUST_HEADERS": "loopback"},
    )  # fmt: skip
    assert ran.stdout == "{'invoices': [], 'tenant': 'acme'}\n", ran.stderr


def test_no_page_is_missed() -> None:
    assert {"README.md", "config/README.md", "backends/README.md", "gateway/documents/README.md"} <= set(
        map(str, PAGES)
    )


def test_no_key_token_or_log_of_a_data_folder_is_kept_with_the_sources() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    kept = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [Path(line) for line in kept.stdout.splitlines()]
    assert Path("README.md") in paths
    of_data = {".jwks", ".key", ".header", ".log", ".db", ".sqlite", ".pem"}
    assert [path for path in paths if "var" in path.parts or path.suffix in of_data] == []
