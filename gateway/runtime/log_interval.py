"""Lines of the log about what may happen with each request or connection."""

from __future__ import annotations

from time import monotonic

LOG_INTERVAL = 60.0  # seconds between two lines that say the same


class LogInterval:
    """Whether a line that could repeat all the time is to be logged: the first, and then one in a minute."""

    __slots__ = ("_logged_at",)

    def __init__(self) -> None:
        self._logged_at: float | None = None

    def is_over(self) -> bool:
        """True at most once in LOG_INTERVAL seconds; then a line is logged."""
        now = monotonic()
        if self._logged_at is not None and now - self._logged_at < LOG_INTERVAL:
            return False
        self._logged_at = now
        return True
