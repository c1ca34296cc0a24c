"""How many wrong credentials the admin listener looks at before it tells who shows them to wait."""

from __future__ import annotations

import pytest

from gateway.admin.refusals import OF_ADDRESS, OF_ALL, Refusals
from gateway.core.config.audit import Entry
from gateway.core.errors import ClientLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def nowhere(entry: Entry) -> None:
    """No audit."""


def refused(refusals: Refusals, address: str) -> float:
    """The seconds after which to try again, 0 when it is not said."""
    try:
        refusals.count(address)
    except ClientLimit as error:
        return float(error.headers["Retry-After"])
    return 0.0


def test_an_address_has_ten_at_once_and_ten_a_minute_and_others_have_theirs() -> None:
    clock = Clock()
    refusals = Refusals(nowhere, clock)
    assert [refused(refusals, "127.0.0.1") for _ in range(OF_ADDRESS.burst)] == [0.0] * 10
    assert refused(refusals, "127.0.0.1") == 6
    assert refused(refusals, "127.0.0.2") == 0
    clock.now += 6
    assert [refused(refusals, "127.0.0.1") for _ in range(2)] == [0, 6]


def test_an_ipv6_network_counts_as_one_address() -> None:
    refusals = Refusals(nowhere, Clock())
    found = [refused(refusals, f"2001:db8::{number:x}") for number in range(1, 12)]
    assert found[:10] == [0.0] * 10 and found[10] > 0


def test_all_addresses_together_have_sixty_at_once_and_one_a_second() -> None:
    clock = Clock()
    refusals = Refusals(nowhere, clock)
    found = [refused(refusals, f"10.0.{number}.1") for number in range(OF_ALL.burst + 1)]
    assert found == [0.0] * 60 + [1]
    clock.now += 1
    assert refused(refusals, "10.1.0.1") == 0


@pytest.mark.parametrize("address", ["", "::ffff:10.0.0.1", "fe80::1%eth0"])
def test_any_peer_is_an_address(address: str) -> None:
    assert refused(Refusals(nowhere, Clock()), address) == 0
