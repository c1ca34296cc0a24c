"""HAProxy, nginx and Caddy as config/edge says, with the ports and files of a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.eventually import END

RECIPES = Path(__file__).parents[2] / "config" / "edge"
FILES = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "caddy": "Caddyfile"}
REQUIRED = os.environ.get("EDGE_PROXIES") == "required"


def program(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        assert not REQUIRED, f"EDGE_PROXIES=required, and {name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def running(name: str, folder: Path, changes: dict[str, str]) -> Iterator[None]:
    """One of them with its recipe, in which each text is replaced by another, wherever it stands."""
    text = (RECIPES / FILES[name]).read_text()
    for before, after in changes.items():
        assert before in text, f"{FILES[name]} has no {before}"
        text = text.replace(before, after)
    path = folder / FILES[name]
    path.write_text(text)
    commands = {
        "haproxy": ["-db", "-f", str(path)],
        "nginx": ["-c", str(path), "-p", str(folder), "-e", str(folder / "log"), "-g", "daemon off;"],
        "caddy": ["run", "--config", str(path), "--adapter", "caddyfile"],
    }
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [program(name), *commands[name]], stdout=out, stderr=out, env={**os.environ, **own}
        )
        try:
            yield
            assert process.poll() is None, (folder / "out").read_text()
        finally:
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
