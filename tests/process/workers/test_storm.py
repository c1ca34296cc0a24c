"""When a worker that died is started again."""

from __future__ import annotations

import pytest

from gateway.process.workers.workers import Storm


@pytest.mark.parametrize(
    ("deaths", "delays"),
    [
        ([0.0], [0.0]),
        ([0.0, 1.0, 2.0], [0.0, 0.0, 1.0]),
        ([0.0, 6.0, 12.0], [0.0, 0.0, 0.0]),
        ([0.0, 1.0, 2.0, 4.0, 8.0, 14.0, 26.0, 46.0, 80.0], [0, 0, 1, 2, 4, 8, 16, 30, 30]),
        ([0.0, 1.0, 2.0, 13.1], [0.0, 0.0, 1.0, 0.0]),
    ],
    ids=["one", "three in 10 s", "three in 12 s", "a storm", "a storm that is over"],
)
def test_three_deaths_in_ten_seconds_begin_a_back_off(deaths: list[float], delays: list[float]) -> None:
    storm = Storm()
    assert [storm.died(at) for at in deaths] == delays
