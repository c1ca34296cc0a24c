"""The side of a holder in the book of seats (seats.py): what it has of a pool, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.shared.seats import Grant


class Holding:
    """The lease of one pool. lease: seats by address; held: all of them. part, reserve, even: as the
    book said last, see Grant. changed: the book has not heard what
    was given back."""

    def __init__(self) -> None:
        self.lease: dict[str, int] = {}
        self.held = 0
        self.part = 0
        self.reserve = 0
        self.even = 1
        self.scarce = False
        self.changed = True
        self._peak = 0

    def change(self) -> None:
        """There is something that the book has to hear."""
        self.changed = True

    def told(self) -> None:
        """There is nothing any more."""
        self.changed = False

    def drop(self) -> None:
        """Have nothing of it any more."""
        self.lease.clear()
        self.held = 0

    def observe(self, wanted: int) -> None:
        """Remember how many seats were wanted at once, until the next report."""
        self._peak = max(self._peak, wanted)

    def granted(self, grant: Grant, wanted: int) -> None:
        """The book has answered. wanted: how many are wanted now."""
        self.lease = dict(grant["lease"])
        self.held = sum(self.lease.values())
        self.part, self.reserve, self.even = grant["part"], grant["reserve"], grant["even"]
        self.scarce = grant["scarce"]
        self._peak = wanted

    def called(self, part: int) -> None:
        """The book says that others have less than their part."""
        self.part, self.scarce = part, True

    def give_back(self, busy: Mapping[str, int]) -> bool:
        """Give back free seats that are more than its part, first where most are free; where nobody is
        short, not those that were wanted since the last report. busy: by address. Returns whether it did."""
        keep = self.part if self.scarce else max(self.part, self._peak)
        surplus = self.held - keep
        before = surplus
        while surplus > 0:
            free = {address: count - busy.get(address, 0) for address, count in self.lease.items()}
            address = max(free, key=free.__getitem__, default=None)
            if address is None or free[address] <= 0:
                break
            self.lease[address] -= 1
            self.held -= 1
            surplus -= 1
        gave = surplus < before
        self.changed = self.changed or gave
        return gave
