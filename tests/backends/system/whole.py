"""The whole system as a newcomer runs it: `gateway up` in a process of its own, the four real backends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.auth.keys import issue
from gateway.core.jwt.issuer import local_issuer
from tests.eventually import END, poll
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
SCOPES = " ".join(
    f"{name}:{verb}"
    for name in ("documents", "catalog", "reports", "pricing", "events")
    for verb in ("read", "write")
)


@dataclass
class Whole:
    """A running system. `folder` holds its config and its data."""

    folder: Path
    public: str
    admin: str
    process: subprocess.Popen[bytes]

    def url(self, path: str) -> str:
        return self.public + path

    def bearer(self, tenant: str = "acme", scope: str = SCOPES) -> dict[str, str]:
        token = issue(self.folder / "var" / "keys.jwks", local_issuer(""), tenant, scope, "alice", 3600)
        return {"Authorization": f"Bearer {token}"}

    @property
    def routing(self) -> Path:
        return self.folder / "routing.yaml"

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def children(self) -> list[int]:
        """The process ids of all that it started, grandchildren too."""
        return descendants(self.process.pid)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    """Running, and not a zombie that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def write_config(folder: Path) -> tuple[int, int]:
    """The project's own config with free ports and paths in `folder`. Gives both ports."""
    public, admin = free_port(), free_port()
    text = (ROOT / "config" / "gateway.conf").read_text()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{public}").replace(
        "127.0.0.1:8081", f"127.0.0.1:{admin}"
    )
    text = text.replace("workers = auto", "workers = 1")
    text = text.replace("data = ../var", "data = var").replace("cwd = ..", f"cwd = {ROOT}")
    (folder / "gateway.conf").write_text(text)
    for name in ("routing.yaml", "demo.yaml"):
        (folder / name).write_text((ROOT / "config" / name).read_text())
    return public, admin


def spawn(folder: Path, command: str = "up") -> subprocess.Popen[bytes]:
    log = (folder / "log").open("ab")
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", command, "-c", str(folder / "gateway.conf")],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
    finally:
        log.close()


@contextmanager
def whole(folder: Path) -> Iterator[Whole]:
    """The system, ready; stopped at the end, and all that it started with it."""
    public, admin = write_config(folder)
    system = Whole(folder, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}", spawn(folder))
    try:
        wait_ready(system)
        yield system
    finally:
        left = system.children() if system.process.poll() is None else []
        system.process.send_signal(signal.SIGTERM)
        try:
            system.process.wait(30)
        finally:
            for pid in left:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def wait_ready(system: Whole) -> None:
    def ready() -> bool:
        if system.process.poll() is not None:
            pytest.fail(f"it ended:\n{system.log()}")
        try:
            with urllib.request.urlopen(system.admin + "/readyz", timeout=30) as answer:
                return answer.status == 200
        except OSError:
            return False

    poll(ready, system.log, 2 * END)


def backend_pid(system: Whole, name: str) -> int:
    """The process id of a supervised backend, by the admin listener."""
    with urllib.request.urlopen(system.admin + "/admin/backends", timeout=30) as answer:
        found = re.search(rf'"name": "{name}",\s*"pid": (\d+)', answer.read().decode())
    assert found, name
    return int(found[1])
