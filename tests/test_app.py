"""The composition root: what it tells the backends that it runs, and what it does with folders."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.core.process.command_line import Command
from gateway.core.process.listeners import Listen
from gateway.planes import data
from tests import harness
from tests.eventually import eventually

ROUTING = harness.routing([harness.route("docs", "documents")])


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::", "http://[::1]:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")],
)
async def test_a_backend_is_told_a_url_that_it_can_call(tmp_path: Path, host: str, expected: str) -> None:
    async with harness.running(tmp_path, ROUTING, listen=(Listen(host),)) as gateway:
        spec = gateway.control.spec(Command("app", ("x",), str(tmp_path)))
        assert spec.env["GATEWAY_URL"] == f"{expected}{harness.address(gateway)[1]}"


async def test_a_data_folder_that_was_there_keeps_its_mode_and_its_secrets_are_private(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    config = {"data": str(tmp_path), "keys": str(tmp_path / "keys.jwks")}
    async with harness.running(tmp_path, ROUTING, **config, store_uri=f"sqlite:{tmp_path}/docs") as gateway:
        gateway.control.spec(Command("app", ("x",), str(tmp_path)))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path, *tmp_path.rglob("*")]}
    assert modes[tmp_path.name] == 0o755
    assert [modes[name] for name in ("keys.jwks", "cursor.key")] == [0o600] * 2
    assert [modes[name] for name in ("docs", "backends", "app")] == [0o700] * 3


async def test_a_data_folder_that_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        assert stat.S_IMODE(Path(gateway.config.data).stat().st_mode) == 0o700


async def test_a_bug_while_keys_are_loaded_again_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(data, "KEYS_POLL", 0.005)
    async with harness.running(tmp_path, ROUTING) as gateway:
        looks = 0

        async def buggy(**more: Any) -> None:
            nonlocal looks
            looks += 1
            raise LookupError("a bug")

        monkeypatch.setattr(gateway.issuers, "refresh", buggy)
        await eventually(lambda: looks >= 3)
    assert "loading the keys again failed" in caplog.text
