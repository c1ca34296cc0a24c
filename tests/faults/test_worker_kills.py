"""Seats are never over-committed, not even while workers are killed; worker_kills.py does it for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import worker_kills


@pytest.mark.whole
def test_a_killed_worker_leaves_no_seat_twice_and_none_behind(tmp_path: Path) -> None:
    done = worker_kills.run(tmp_path, 2)
    assert done["most"] == worker_kills.SEATS
    assert set(done["responses"]) <= {"200", "cut"}, done
