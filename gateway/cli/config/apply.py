"""gateway apply | rollback | confirm."""

from __future__ import annotations

from typing import Any

from gateway.cli import console
from gateway.cli.config import changing, show
from gateway.cli.config.client import V1
from gateway.cli.config.given import read_config, shown
from gateway.cli.config.session import Live, Session


def run(session: Session) -> int:
    """Make the config of a file live."""
    given = session.arguments.file
    text = read_config(given)
    live = changing.live_as_expected(session)
    proposal = changing.propose(session, text, shown(given))
    if text != live.text:
        changing.show_proposal(session, proposal)
        if not changing.agreed(session, proposal, "Apply it?"):
            return 1
    return changing.put(session, proposal, live)


def roll_back(session: Session) -> int:
    """Make the text of an earlier revision live again. One that was not named is asked about: it is shown
    first which one it is."""
    live = changing.live_as_expected(session)
    named = session.arguments.number
    number = named if named is not None else _before(session, live)
    revision = _revision(session, number)
    text = session.client.get(f"{V1}/revisions/{number}", {"text": ""}, "application/yaml").text
    printed = console.err if session.json else console.out
    printed.print(f"Back from revision {live.number} to {show.by_whom(revision)}", markup=False)
    proposal = changing.propose(session, text, f"revision {number}")
    if text != live.text:
        changing.show_proposal(session, proposal)
        question = f"Roll back to revision {number}?"
        if not changing.agreed(session, proposal, question, always=named is None):
            return 1
    return changing.put_back(session, number, proposal, live)


def _before(session: Session, live: Live) -> int:
    """The revision before the live one. Where that is a rollback itself, the one before what it went back to:
    so that a second `gateway rollback` goes on, and does not bring the bad config back."""
    revision = live.revision
    while revision["restores"]:
        revision = _revision(session, revision["restores"])
    if not revision["parent"]:
        raise ValueError(f"revision {revision['number']} is the first one; there is none before it")
    return int(revision["parent"])


def _revision(session: Session, number: int) -> dict[str, Any]:
    found: dict[str, Any] = session.client.get(f"{V1}/revisions/{number}").json()
    return found


def confirm(session: Session) -> int:
    """Keep what waits for it."""
    number = session.arguments.number
    if number is None:
        live = session.live()
        if live.pending is None:
            raise ValueError(f"nothing waits to be confirmed; revision {live.number} is live, and stays")
        number = live.pending["number"]
    changing.confirm(session, number)
    return 0
