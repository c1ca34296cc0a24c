"""The operator's handbook says what is there, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.core import errors
from gateway.core.errors import GatewayError

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_the_runbook_has_every_error_code_with_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (CONFIG / "runbook.md").read_text("utf-8"), re.MULTILINE)
    found = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {(kind.code, str(kind.status)) for kind in found if issubclass(kind, GatewayError)}
    assert sorted(rows) == sorted(codes)
