"""API keys and revocations of a gateway that runs as a process, is killed, and starts again."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.auth.store import FILE
from tests import harness
from tests.cli.test_keys import Shell
from tests.eventually import AT_ONCE, END, eventually, poll
from tests.fakes import Backend
from tests.process.test_serve import Serving
from tests.support.sockets import Peer, connect, websocket

ALLOWED = 404  # there is no such collection, and only who may read is told so


def status(serving: Serving, text: str) -> int:
    headers = {"Authorization": f"Bearer {text}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{serving.public}/documents/orders", headers=headers), timeout=END
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def routing(address: str = "http://127.0.0.1:1") -> str:
    scopes = {"read": ["r"], "write": ["w"], "manage": ["m"]}
    routes = [
        harness.route("documents", "documents", scopes=scopes),
        harness.route("app", "app", websocket=True),
    ]
    return yaml.safe_dump(harness.routing(routes, backends={"app": {"kind": "http", "addresses": [address]}}))


@pytest.mark.asyncio
async def test_a_key_works_as_soon_as_it_is_made_and_ends_as_soon_as_it_is_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play(peer: Peer) -> None:
        await peer.closed()
        peer.close(1008)

    async with Backend(websocket(play)) as backend:
        serving = Serving(tmp_path, routing(backend.address))
        with serving.started() as process:
            serving.until_ready(process)
            shell = Shell(serving.conf, capsys)
            text = shell.key("--scopes", "r")
            await eventually(lambda: status(serving, text) == ALLOWED, end=AT_ONCE)
            where = urlsplit(serving.public)
            assert where.hostname and where.port
            headers = {"X-API-Key": text}
            peer = await connect((where.hostname, where.port), "/app/ws", headers)
            shell("keys", "revoke", text)
            assert (await peer.closed())[0] == 1008
            peer.cut()
            assert status(serving, text) == 401
            # The log is written by a thread of its own.
            await eventually(lambda: "revoked the API key" in serving.log.read_text())
            log = serving.log.read_text()
            assert "created the API key" in log and text not in log


def test_what_was_made_and_revoked_is_there_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = Serving(tmp_path, routing())
    shell = Shell(serving.conf, capsys)
    with serving.started() as process:
        serving.until_ready(process)
        kept, revoked = shell.key("--scopes", "r"), shell.key("--scopes", "r")
        token = shell("token", "--tenant", "acme", "--scope", "r").strip()
        poll(lambda: status(serving, kept) == status(serving, token) == ALLOWED)
        shell("keys", "revoke", revoked)
        shell("revoke", "--token", token)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(END)
    with serving.started() as process:
        serving.until_ready(process)
        assert [status(serving, text) for text in (kept, revoked, token)] == [ALLOWED, 401, 401]
    assert [key["state"] for key in shell.listed()] == ["active", "revoked"]


def test_a_damaged_file_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    serving = Serving(tmp_path, routing())
    path = tmp_path / "var" / FILE
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"no database")
    path.chmod(0o600)
    with serving.started() as process:
        assert process.wait(END) == 1
    said = serving.log.read_text()
    assert f"{path}: it is damaged" in said and "backup" in said and "Traceback" not in said
