"""The threads that write the tenants' files, and who gets them.

A tenant has one at a time. With more tenants than threads, those that have written for long of late wait
behind the others, and leave one thread to them. Files are opened and closed in threads apart, so that a
tenant whose file is not open yet does not wait for what others write.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gateway import threads
from gateway.fair_seats import FairSeats

THREADS = 8  # some of them wait for a worker process
OPENING_THREADS = 2


class Writers:
    """seats: the right to use one of `threads`. On the event loop only."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(THREADS, "store-write")
        self.opening = ThreadPoolExecutor(OPENING_THREADS, "store-open")
        self.seats = FairSeats("writers of the store", THREADS)

    async def close(self) -> None:
        """Wait until what they do is done."""
        await threads.end(self.threads)
        await threads.end(self.opening)
