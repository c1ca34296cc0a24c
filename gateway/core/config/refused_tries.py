"""How many refused tries the audit takes in full: whoever can reach the listener could fill the disk."""

from __future__ import annotations

from gateway.core.config.audit import Entry

WINDOW = 60.0  # seconds
UNKNOWN = 10  # in a window, by all those together whom nobody knows
KNOWN = 100  # in a window, by one operator
_NOBODY = ("", "loopback")  # names of callers without a credential
_MAX = 1000  # authors with a count of their own; different addresses that are counted


class RefusedTries:
    """Counts the refused tries of each operator. now: a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def admit(self, entry: Entry, now: float) -> bool:
        """Whether it becomes a line; otherwise it is counted."""
        author = "" if entry.author in _NOBODY else entry.author
        if author not in self._windows and len(self._windows) >= _MAX:
            author = ""
        window = self._windows.setdefault(author, _Window(now))
        window.tries += 1
        if window.tries <= (KNOWN if author else UNKNOWN):
            return True
        window.held += 1
        if len(window.addresses) < _MAX:
            window.addresses.add(entry.address)
        return False

    def over(self, now: float) -> list[Entry]:
        """What was counted in the windows that have ended: an entry for each. They begin anew."""
        ended = {author: one for author, one in self._windows.items() if now - one.began >= WINDOW}
        for author in ended:
            del self._windows[author]
        return [one.entry(author) for author, one in ended.items() if one.held]


class _Window:
    """began: by the clock of `admit`. held: how many of the tries became no line."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.tries = self.held = 0
        self.addresses: set[str] = set()

    def entry(self, author: str) -> Entry:
        by = "" if author else " by callers whom nobody knows"
        several = len(self.addresses) > 1
        where = f", from {len(self.addresses)} addresses" if several else ""
        address = "" if several else next(iter(self.addresses))
        detail = f"{self.held} more refused tries{by} within a minute{where}"
        return Entry("refused", "refused", author=author, address=address, detail=detail)
