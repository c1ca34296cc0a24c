"""What is printed once the gateway serves, and the token for trying it out."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.cli import banner
from tests import harness

SCOPES = {
    "read": ["docs:read", "gateway:admin"], "write": ["docs:write"], "DELETE": ["docs:drop"],
    "manage": ["docs:rule"],
}  # fmt: skip
ROUTING = harness.routing([harness.route("docs", "documents", scopes=SCOPES)])


def shown(gateway: Gateway, capsys: pytest.CaptureFixture[str], **more: Any) -> str:
    capsys.readouterr()
    banner.show(gateway, "gateway.conf", **more)
    return capsys.readouterr().out


def header(gateway: Gateway) -> Path:
    return Path(gateway.config.data) / "demo-token.header"


async def test_a_demo_token_may_do_all_that_routes_ask_for_but_not_rule_the_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        out = shown(gateway, capsys, with_demo=True)
        (curl,) = re.findall("^curl .*$", out, re.MULTILINE)
        assert f"-H @{header(gateway)}" in curl
        assert stat.S_IMODE(header(gateway).stat().st_mode) == 0o600
        token = header(gateway).read_text().removeprefix("Authorization: Bearer ").strip()
        assert token not in out
        who = await gateway.authentication.identity(token)
        assert (who.tenant.value, who.scope_text) == ("acme", "docs:drop docs:read docs:rule docs:write")


async def test_without_demo_only_the_addresses_are_shown_and_no_token_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        out = shown(gateway, capsys, with_demo=False)
        assert "http://127.0.0.1" in out
        assert re.search(r"^admin +http://127.0.0.1:\d+/  \(the console; ", out, re.MULTILINE)
        assert "curl" not in out
        assert not header(gateway).exists()


async def test_keys_that_cannot_sign_leave_the_curls_out_and_one_line_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        path = Path(gateway.config.keys)
        document = json.loads(path.read_text())
        del document["keys"][0]["d"]
        path.write_text(json.dumps(document))
        out = shown(gateway, capsys, with_demo=True)
        assert "curl" not in out
        (line,) = [line for line in out.splitlines() if "demo" in line]
        assert line == "No commands to try, for there is no demo token: no key can sign"
        assert not header(gateway).exists()


async def test_a_header_file_that_cannot_be_written_leaves_the_curls_out_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        header(gateway).mkdir()
        out = shown(gateway, capsys, with_demo=True)
        assert "curl" not in out
        assert "no demo token: " in out.replace("\n", "")
        assert "Ctrl-C stops" in out


async def test_it_is_not_said_to_be_ready_before_the_source_of_the_config_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        monkeypatch.setattr(gateway.live, "synced", False)
        out = shown(gateway, capsys, with_demo=False)
    assert "is ready" not in out
    assert "/readyz says 503" in out
