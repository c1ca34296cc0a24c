"""Renews constraints.txt: every package that pyproject.toml asks for, direct or not, with all extras and with
what builds the wheel, at its newest version that goes together; the same pins for every platform and Python.

The resolver is uv, in an environment of its own that is removed again. The file names no registry.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
HEADER = """\
# Every package that `make up`, `make test` and docker-compose.yml install, direct or not, and what builds the
# wheel, at the version with which the tests passed. For Python 3.11 to 3.14. `make lock` renews it;
# `make test-newest` tests without it.
"""


def compile_pins(uv: Path, *arguments: str | Path) -> str:
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def resolve(folder: Path) -> str:
    """The pins, one a line, sorted by name. Says which of them would have to be built with one of the Pythons
    on a machine like this one."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", UV], check=True)
    uv, build, found = folder / "venv" / "bin" / "uv", folder / "build.in", folder / "found.in"
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    build.write_text("\n".join(requires) + "\n")
    everywhere = ("--universal", "--python-version", PYTHONS[0], "--upgrade")
    pins = compile_pins(uv, *everywhere, "--all-extras", "pyproject.toml", build)
    found.write_text(pins)
    for version in PYTHONS:
        try:
            compile_pins(uv, "--only-binary", ":all:", "--no-deps", "--python-version", version, found)
        except subprocess.CalledProcessError:
            print(f"note: with Python {version} the one above has no wheel, and is built", file=sys.stderr)
    return pins


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="gateway-lock-") as folder:
        try:
            pins = resolve(Path(folder))
        except subprocess.CalledProcessError as error:
            print(f"error: {error.cmd[0]} failed; constraints.txt is as it was", file=sys.stderr)
            return 1
    target = ROOT / "constraints.txt"
    old = set(target.read_text().splitlines()) if target.exists() else set()
    target.write_text(HEADER + pins)
    changed = sorted(set(pins.splitlines()) - old)
    print("\n".join(changed) if changed else "Nothing newer.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
