"""Tickets and sessions of the console: for how long, how often and how many."""

from __future__ import annotations

import pytest

from gateway.admin.sessions import IDLE, LIFE, MOST, MOST_OF_ONE, MOST_TICKETS, TICKET_LIFE, Sessions
from gateway.core.errors import Unauthenticated


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_good_once_and_for_a_minute() -> None:
    clock = Clock()
    sessions = Sessions(clock, clock)
    ticket = sessions.ticket("credential")
    session = sessions.begin(ticket)
    assert sessions.use(session).credential == "credential"
    late = sessions.ticket("credential")
    clock.now += TICKET_LIFE
    for spent in (ticket, late, "gwct_made-up", "", session):
        with pytest.raises(Unauthenticated):
            sessions.begin(spent)


def test_a_session_ends_after_a_day_of_work_when_it_is_idle_and_when_it_is_told_to() -> None:
    clock = Clock()
    sessions = Sessions(clock, clock)
    used, idle, ended = (sessions.begin(sessions.ticket("a")) for _ in range(3))
    sessions.end(ended)
    began = clock.now
    assert sessions.use(used).until == began + LIFE
    while clock.now < began + LIFE - 1:
        assert sessions.use(used)
        clock.now += IDLE - 1
    clock.now = began + LIFE
    for gone in (used, idle, ended, "gwcs_made-up"):
        with pytest.raises(Unauthenticated):
            sessions.use(gone)
    assert len(sessions) == 0


def test_there_are_at_most_so_many_and_the_one_that_was_idle_for_longest_goes_first() -> None:
    clock = Clock()
    sessions = Sessions(clock, clock)
    tickets = [sessions.ticket(f"credential {number}") for number in range(MOST_TICKETS + 1)]
    with pytest.raises(Unauthenticated):
        sessions.begin(tickets[0])
    all_ = [sessions.begin(ticket) for ticket in tickets[1:]]
    sessions.use(all_[0])
    sessions.begin(sessions.ticket("a"))
    assert len(sessions) == MOST
    assert sessions.use(all_[0])
    with pytest.raises(Unauthenticated):
        sessions.use(all_[1])


def test_a_credential_with_many_ends_its_own_and_not_those_of_others() -> None:
    sessions = Sessions()
    ticket, session = sessions.ticket("a"), sessions.begin(sessions.ticket("a"))
    for _ in range(MOST_OF_ONE + 1):
        last = sessions.begin(sessions.ticket("b"))
    assert len(sessions) == 1 + MOST_OF_ONE
    for _ in range(MOST_TICKETS + 1):
        sessions.ticket("b")
    assert sessions.use(session) and sessions.use(last) and sessions.begin(ticket)


def test_nothing_that_is_shown_of_it_holds_a_secret() -> None:
    sessions = Sessions()
    ticket = sessions.ticket("the-credential")
    session = sessions.begin(ticket)
    text = f"{vars(sessions)} {sessions.use(session)}"
    assert not any(secret in text for secret in (ticket, session, "the-credential"))
