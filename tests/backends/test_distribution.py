"""backends/identity is a distribution of its own: `pip install ./backends/identity[django]`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.backends import signing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "backends" / "identity"
_APP = """
import os, sys
from flask import Flask
from gateway_identity.flask import identity, init_app
import gateway_identity.asgi, gateway_identity.asab, gateway_identity.fastapi, gateway_identity.wsgi
app = Flask("app")
init_app(app)
app.get("/mine")(lambda: {"tenant": identity().tenant})
client = app.test_client()
print(client.get("/mine", headers=%r).json, client.get("/mine", headers={"X-Tenant": "acme"}).status_code)
foreign = [name for name in sys.modules if name.startswith(("gateway.", "backends"))]
print(os.path.dirname(gateway_identity.__file__), foreign)
"""


def test_it_is_installed_by_itself_and_works_without_the_gateway(tmp_path: Path) -> None:
    source, site = tmp_path / "identity", tmp_path / "site"
    shutil.copytree(FOLDER, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", site, source]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _APP % signing.caller()],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env={**signing.ENVIRONMENT, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert ran.stdout == f"{{'tenant': 'acme'}} 401\n{site}/gateway_identity []\n", ran.stderr


def test_it_needs_one_package_and_has_an_extra_for_each_framework() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    assert [name.partition(">")[0] for name in project["dependencies"]] == ["pyjwt[crypto]"]
    assert project["optional-dependencies"].keys() == {"django", "drf", "flask", "fastapi", "asab"}
