"""The middleware is a folder that works beside any application, under any name, alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["identity", "wsgi", "asgi", "flask", "django", "fastapi", "asab"])
def test_a_copy_of_the_folder_works_under_another_name(tmp_path: Path, name: str) -> None:
    shutil.copytree(ROOT / "backends" / "identity", tmp_path / "who")
    foreign = "sorted(m for m in sys.modules if m.startswith(('backends', 'gateway')))"
    told = f"import sys; sys.path.insert(0, '.'); import who.{name}, who.log; print({foreign})"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", told],
        cwd=tmp_path, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr


@pytest.mark.parametrize("name", ["wsgi", "asgi"])
def test_what_fits_any_application_needs_no_framework(name: str) -> None:
    frameworks = ("flask", "werkzeug", "django", "fastapi", "starlette", "aiohttp")
    told = (
        f"import sys; from backends.identity.{name} import GatewayMiddleware; "
        f"print([m for m in sys.modules if m.startswith({frameworks!r})])"
    )
    ran = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
