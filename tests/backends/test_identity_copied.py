"""The middleware is a folder that works beside any application, under any name, alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["identity", "flask", "django", "fastapi", "asab"])
def test_a_copy_of_the_folder_works_under_another_name(tmp_path: Path, name: str) -> None:
    shutil.copytree(ROOT / "backends" / "identity", tmp_path / "who")
    foreign = "sorted(m for m in sys.modules if m.startswith(('backends', 'gateway')))"
    told = f"import sys; sys.path.insert(0, '.'); import who.{name}, who.log; print({foreign})"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", told],
        cwd=tmp_path, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
