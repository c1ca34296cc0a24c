"""Operators who race for the live config under load: nobody else notices, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults import config_race

EDITS, RATE = 36, 100.0  # a thousand with `python -m tests.faults.config_race`


@pytest.mark.whole
def test_racing_operators_lose_no_edit_no_request_and_no_websocket(tmp_path: Path) -> None:
    seen = asyncio.run(config_race.race(tmp_path, EDITS, RATE))
    assert not seen["wrong"], seen
    assert seen["bad"] == EDITS // 3 and seen["accepted"] + seen["unchanged"] == EDITS - EDITS // 3, seen
    assert seen["stale"], "they did not race"
