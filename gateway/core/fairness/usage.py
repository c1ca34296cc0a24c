"""How much seat time somebody has used of late: a window that slides, at a constant cost for each step."""

from __future__ import annotations

from collections import deque

WINDOW = 5.0  # seconds
_SLOTS = 10
_SLOT = WINDOW / _SLOTS


class Usage:
    """The seat time (seconds x seats) of the last `WINDOW` seconds, what is still inside included.

    inside: seats held now. at: when that changed last; `advance` before it changes. The window moves in slots
    of half a second, and of its oldest one the part counts that it still covers.
    """

    __slots__ = ("_past", "_slots", "at", "inside", "slot", "slot_end")

    def __init__(self, now: float) -> None:
        self.inside = 0
        self.at = now
        self.slot = 0.0  # used in the slot that is not over yet
        self.slot_end = now + _SLOT
        self._slots: deque[float] = deque(maxlen=_SLOTS)
        self._past = 0.0

    def advance(self, now: float) -> None:
        """Count what was used until now."""
        if now >= self.slot_end:
            self._roll(now)
        self.slot += self.inside * (now - self.at)
        self.at = now

    def recent(self, now: float) -> float:
        """Seat time of the last `WINDOW` seconds."""
        self.advance(now)
        if len(self._slots) < _SLOTS:
            return self._past + self.slot
        covered = (self.slot_end - now) / _SLOT
        return self._past - self._slots[0] * (1.0 - covered) + self.slot

    def _roll(self, now: float) -> None:
        """Close the slots that are over."""
        if now - self.slot_end > WINDOW:  # none of what was counted is left
            self._slots.extend([self.inside * _SLOT] * _SLOTS)
            self.slot, self.at, self.slot_end = 0.0, now, now + _SLOT
        while now >= self.slot_end:
            self._slots.append(self.slot + self.inside * (self.slot_end - self.at))
            self.slot, self.at = 0.0, self.slot_end
            self.slot_end += _SLOT
        self._past = sum(self._slots)
