"""What a worker may ask its master for, beside its config: the services that are one on a host.

Each is a handler of the channel, by its name. `Services` is made once, in the master; what a worker asks them
with is made in planes/worker.py.
"""

from __future__ import annotations

from functools import partial

from gateway.runtime.channel import Handler
from gateway.shared.books import Books


class Services:
    """books: what is leased to workers."""

    def __init__(self) -> None:
        self.books = Books({})

    def of(self, member: str) -> dict[str, Handler]:
        """The handlers for one worker. member: its id."""
        return {"exchange": partial(self.books.settle, member)}

    def gone(self, member: str) -> None:
        """A worker has ended: what it held goes back."""
        self.books.gone(member)
