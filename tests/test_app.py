"""The composition root: what it tells the backends that it runs, and what it does with folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.process import Command
from tests import harness

ROUTING = harness.routing([harness.route("docs", "documents")])


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::", "http://[::1]:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")],
)
async def test_a_backend_is_told_a_url_that_it_can_call(tmp_path: Path, host: str, expected: str) -> None:
    async with harness.running(tmp_path, ROUTING, listen=((host, 0),)) as gateway:
        spec = gateway._spec(Command("app", ("x",), str(tmp_path)))
        assert spec.env["GATEWAY_URL"] == f"{expected}{harness.address(gateway)[1]}"
