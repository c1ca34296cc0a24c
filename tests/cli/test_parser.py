"""What a command imports: what it needs itself, and nothing that another one needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conf import write_conf

HEAVY = ("aiohttp", "asab", "cryptography", "jwt", "motor", "pydantic", "sqlite3", "yaml")
IMPORTED = """\
import runpy, sys
try:
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
finally:
    print(sorted(sys.modules), file=sys.stderr)
"""


def imported(words: list[str], conf: Path) -> list[str]:
    command = [sys.executable, "-c", IMPORTED, *words]
    ran = subprocess.run(command, cwd=conf.parent, capture_output=True, text=True, check=True)
    return [name for name in HEAVY if f"'{name}'" in ran.stderr]


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("--help", []),
        ("--version", []),
        ("documents import --help", []),
        ("schema", ["pydantic"]),
        ("check", ["pydantic", "yaml"]),
    ],
)
def test_a_command_imports_what_it_needs_alone(words: str, needed: list[str], tmp_path: Path) -> None:
    assert imported(words.split(), write_conf(tmp_path)) == needed
