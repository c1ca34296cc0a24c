"""Tickets in the query of a request: what they are is in auth/oauth/tickets.py."""

from __future__ import annotations

import re

PREFIX = "gwt_"  # tells ours from what a backend calls a ticket
_NAME = len("ticket=")
MARK = "ticket=" + PREFIX
_ours = re.compile(r"gwt_[A-Za-z0-9_-]{43}", re.ASCII).fullmatch


def tickets_of(query: str) -> list[str]:
    """The tickets of ours in a query."""
    return [part[_NAME:] for part in query.split("&") if _is_ticket(part)]


def without_tickets(query: str) -> str:
    """The query as a backend gets it, without tickets of ours."""
    return "&".join(part for part in query.split("&") if not _is_ticket(part))


def _is_ticket(part: str) -> bool:
    return part.startswith(MARK) and _ours(part[_NAME:]) is not None
