"""What a process has in use, in memory that another process still reads when the first one is gone.

A table of numbered rows in a file without a name: how many requests are inside, and until when they may
last. Its owner writes each number as it changes; whoever has the descriptor, or inherits it, can read them
at any time, also after a kill -9.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

ROWS = 4095
_SIZE = (ROWS + 1) * 8


class InUse:
    """Counts and times; each is one aligned word, so that none is ever half written.

    descriptor: of the file; the table closes it. counts: by row. until: by row, seconds of the system's
    monotonic clock, which is one for all processes.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, 2 * _SIZE)
        self._whole = memoryview(self._map)
        self.counts = self._whole[:_SIZE].cast("q")
        self.until = self._whole[_SIZE:].cast("d")

    @classmethod
    def create(cls) -> InUse:
        """A new table of zeros. Pages that nobody writes take no memory."""
        descriptor = os.memfd_create("gateway-in-use")
        os.ftruncate(descriptor, 2 * _SIZE)
        return cls(descriptor)

    def own(self) -> None:
        """This process is the one that writes."""
        self.counts[ROWS] = os.getpid()

    @property
    def owner_ended(self) -> bool:
        """Whether the process that wrote has ended, and its connections with it."""
        try:
            state = Path(f"/proc/{self.counts[ROWS]}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state in "ZX"

    def close(self) -> None:
        """Let go of it."""
        self.counts.release()
        self.until.release()
        self._whole.release()
        self._map.close()
        os.close(self.descriptor)
