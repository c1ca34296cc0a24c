"""Kinto on PostgreSQL: the document store over HTTP that is nearest to ours and can be installed here."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.sites.contenders import Site
from tests.bench.sites.servers import Server, ServerFailed
from tests.support.ports import free_port

REQUIREMENT = "kinto[postgresql]==26.5.0"
THREADS = 8  # four make no difference: the core is the limit
_POSTGRES = Path("/usr/lib/postgresql")  # where Debian's postgresql puts its programs, by version
_USER = "postgres"  # PostgreSQL refuses to run as root
_INSTALL_SECONDS = 300.0
_BATCH = 25  # requests in one of Kinto's batches, its default limit
COLLECTION, CREATED = (f"/v1/buckets/bench/collections/{name}/records" for name in ("orders", "created"))


@dataclass(frozen=True)
class Running:
    """A Kinto that serves. headers: what a request needs."""

    server: Server
    headers: dict[str, str]


def missing(venv: Path) -> str:
    """What is not there, and how to get it; empty when Kinto can run. Installs Kinto, once."""
    if programs() is None:
        return "PostgreSQL is not installed (apt install postgresql)"
    if os.geteuid() == 0 and not _has_user():
        return f"there is no user {_USER}, and PostgreSQL refuses to run as root"
    if (venv / "bin" / "kinto").exists():
        return ""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True)
        command = [str(venv / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", REQUIREMENT]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.SubprocessError as error:
        shutil.rmtree(venv, ignore_errors=True)
        told = getattr(error, "stderr", "") or str(error)
        return f"{REQUIREMENT} could not be installed: {str(told).strip()[-300:]}"
    return ""


@contextmanager
def running(site: Site, venv: Path, documents: list[dict[str, Any]]) -> Iterator[Running]:
    """PostgreSQL and Kinto on the server core, and these documents in a collection. Raises ServerFailed."""
    with _postgres() as url:
        port = free_port()
        config = site.fill("kinto.ini", port, URL=url, THREADS=THREADS)
        program = str(venv / "bin" / "kinto")
        done = subprocess.run(
            [program, "migrate", "--ini", str(config)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ServerFailed(f"kinto migrate: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        command = [program, "start", "--ini", str(config)]
        with Server("kinto", command, port, site.folder, machine.SERVER_CORE) as server:
            authorization = b64encode(b"bench:" + site.secret.encode()).decode()
            headers = {"Authorization": f"Basic {authorization}", "Content-Type": "application/json"}
            _fill(port, headers, documents)
            yield Running(server, headers)


def _fill(port: int, headers: dict[str, str], documents: list[dict[str, Any]]) -> None:
    collections = COLLECTION, CREATED
    for path in ("/v1/buckets/bench", *(one.removesuffix("/records") for one in collections)):
        _send(port, "PUT", path, headers, {})
    for at in range(0, len(documents), _BATCH):
        requests = [
            {"method": "PUT", "path": f"{COLLECTION}/{one['id']}", "body": {"data": one}}
            for one in documents[at : at + _BATCH]
        ]
        answers = _send(port, "POST", "/v1/batch", headers, {"requests": requests})["responses"]
        if any(answer["status"] not in (200, 201) for answer in answers):
            raise ServerFailed(f"kinto took not all documents: {str(answers)[:300]}")


def _send(port: int, method: str, path: str, headers: dict[str, str], value: Any) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, json.dumps(value), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise ServerFailed(f"kinto: {method} {path} answered {answer.status} {text[:300]}")
    return json.loads(text)


@contextmanager
def _postgres() -> Iterator[str]:
    """A new cluster with Debian's settings, in a folder that its user may enter. Gives its URL."""
    folder_of_programs = programs()
    assert folder_of_programs is not None
    with tempfile.TemporaryDirectory(prefix="gateway-bench-postgres-") as name:
        folder, port = Path(name), free_port()
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
        data = str(folder / "data")
        _as_user([str(folder_of_programs / "initdb"), "-D", data, "-A", "trust", "-U", _USER, "-E", "UTF8"])
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control = [str(folder_of_programs / "pg_ctl"), "-D", data, "-w", "-s"]
        start = [*control, "-l", str(folder / "log"), "-o", options, "start"]
        _as_user(machine.pinned(machine.SERVER_CORE) + start)
        try:
            yield f"postgresql://{_USER}@127.0.0.1:{port}/{_USER}"
        finally:
            _as_user([*control, "-m", "immediate", "stop"])


def _as_user(command: list[str]) -> None:
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", *command]
    # A file and no pipe: the server that pg_ctl starts keeps what it has for its output.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
        if done.returncode:
            output.seek(0)
            raise ServerFailed(f"{command[-1]}: {output.read()[-1000:]}")


def programs(installed: Path = _POSTGRES) -> Path | None:
    """The folder of the newest PostgreSQL's programs; None when there is none."""
    found = sorted(installed.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    return found[-1].parent if found else None


def _has_user() -> bool:
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return False
    return True
