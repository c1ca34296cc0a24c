"""What every change of the live config goes through: check, rehearsal, consent, the change, confirmation."""

from __future__ import annotations

import select
import sys
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import quote

from rich.markup import escape

from gateway.cli import console
from gateway.cli.config import show
from gateway.cli.config.client import V1, Refused, Reply, problems_of
from gateway.cli.config.session import Live, Session, ask, print_json
from gateway.config.ports import ConfigRefused
from gateway.runtime.moments import moment

_STALE = 412
_PENDING = "confirmation_pending"
_REHEARSAL = "3s"  # for a rehearsal that nobody is asked about
_QUIET = 1.0  # seconds of a rehearsal until it is said what is waited for
_AFTER, _PAUSE = 10.0, 0.2  # seconds after the countdown in which the gateway goes back; between two looks


@dataclass(frozen=True, slots=True)
class Proposal:
    """A config that may become live. name: of its text, for messages. changes: to what is live, as the admin
    API gives them. rehearsal: of the last requests, None where there is none."""

    text: str
    name: str
    changes: list[dict[str, Any]]
    rehearsal: dict[str, Any] | None

    @property
    def refuses(self) -> int:
        """How many of the last requests it would refuse that were served."""
        kinds = self.rehearsal["kinds"] if self.rehearsal else {}
        return int(kinds.get("refused", {}).get("count", 0))


def live_as_expected(session: Session) -> Live:
    """The live config, which is what --if-match says, if that says anything. Raises Refused."""
    live, wanted = session.live(), session.arguments.if_match
    if wanted is None or wanted.strip('"') == live.digest or wanted == str(live.number):
        return live
    revisions = [live.revision]
    if wanted.isdecimal():
        page = session.client.get(f"{V1}/revisions", {"limit": 100}).json()["revisions"]
        revisions = [one for one in page if one["number"] > int(wanted)]
    raise _stale(session, f"revision {live.number} is live, and not {wanted}", revisions, wanted)


def propose(session: Session, text: str, name: str) -> Proposal:
    """Check a text, and rehearse it. Raises ConfigRefused with its problems."""
    checked = session.client.send_text("POST", f"{V1}/config:check", text).json()
    if not checked["ok"]:
        raise ConfigRefused(name, problems_of(checked["problems"]))
    changes = checked["changes"]
    return Proposal(text, name, changes, _rehearse(session, text) if changes else None)


def _rehearse(session: Session, text: str) -> dict[str, Any] | None:
    """Where nobody is asked about its outcome, nobody waits for it: on a machine that is busy, which is when
    a change is urgent, it takes half a minute."""
    within = _REHEARSAL if session.arguments.yes else None
    query, hint = {"within": within}, "" if within else "; with --yes nobody waits for it"
    told = Timer(_QUIET, console.err.print, [f"[yellow]note:[/] rehearsing it with the last requests{hint}"])
    told.start()
    try:
        reply = session.client.send_text("POST", f"{V1}/config:rehearse", text, query)
        outcome: dict[str, Any] = reply.json()
        return outcome
    except Refused as refused:  # it is switched off, perhaps: the change is not bad for that
        console.err.print(f"[yellow]note:[/] no rehearsal: {escape(str(refused))}")
        return None
    finally:
        told.cancel()


def show_proposal(session: Session, proposal: Proposal) -> None:
    """Print what it changes, and what it would have done to the last requests."""
    printed = console.err if session.json else console.out
    for line in show.changes(proposal.changes, printed.width):
        printed.print(line)
    if not proposal.changes:
        printed.print("Only comments, order or notation differ: it means the same.", style="dim")
    if proposal.rehearsal is not None:
        for line in show.rehearsal(proposal.rehearsal):
            printed.print(line)


def agreed(session: Session, proposal: Proposal, question: str, *, always: bool = False) -> bool:
    """Whether it may be made live: asks where it refuses what was served, or always. Raises Refused where
    nobody can be asked."""
    if session.arguments.yes or not (proposal.refuses or always):
        return True
    why = ""
    if proposal.rehearsal is not None and proposal.refuses:
        last = console.count(proposal.rehearsal["requests"], "request")
        why = f"{proposal.refuses:,} of the last {last} would be refused that were served. "
    if not session.interactive:
        detail = f"{why}Nothing was changed; say --yes if it is to be done all the same"
        asked = {"code": "not_agreed", "detail": detail}
        raise Refused(detail, 0, {**asked, "changes": proposal.changes, "rehearsal": proposal.rehearsal})
    if ask(f"{why}{question}"):
        return True
    console.err.print("Nothing was changed.")
    if session.json:
        print_json({"code": "not_agreed", "detail": "Nothing was changed."})
    return False


def put(session: Session, proposal: Proposal, live: Live) -> int:
    """Make a proposal live in place of what was, and tell. Raises Refused, ConfigRefused."""
    query = {
        "reason": session.arguments.message or None,
        "confirm_within": session.arguments.confirm_within,
    }
    headers = {"If-Match": f'"{live.digest}"'}
    try:
        reply = session.client.send_text("PUT", f"{V1}/config", proposal.text, query, headers)
    except Refused as refused:
        raise _explained(session, refused, proposal, live) from None
    return _tell(session, reply, proposal, live)


def put_back(session: Session, number: int, proposal: Proposal, live: Live) -> int:
    """Make the text of a revision live again, and tell. Raises Refused, ConfigRefused."""
    wanted = {"reason": session.arguments.message, "confirm_within": session.arguments.confirm_within}
    body = {"expected": live.number, **{name: value for name, value in wanted.items() if value}}
    try:
        reply = session.client.post(f"{V1}/revisions/{number}:rollback", body)
    except Refused as refused:
        raise _explained(session, refused, proposal, live) from None
    return _tell(session, reply, proposal, live)


def _explained(session: Session, refused: Refused, proposal: Proposal, live: Live) -> Exception:
    """The error of a change: with the problems of its text, or with who was faster."""
    if refused.status == _STALE:
        since = refused.problem.get("since") or ()
        return _stale(session, f"revision {live.number} is not live any more", since, str(live.number))
    if refused.problem.get("code") == _PENDING:
        return _waiting(refused)
    if refused.problems:
        return ConfigRefused(Path(proposal.name), refused.problems)
    return refused


def _waiting(refused: Refused) -> Refused:
    """Whose change waits for its confirmation, and both ways to end that."""
    pending, revision = refused.problem["pending"], refused.problem["revision"]
    number, back_to = pending["number"], pending["back_to"]
    told = [
        f"revision {number} waits for its confirmation until {moment(pending['due'], exact=True)};"
        " nothing was changed:",
        f"  {show.by_whom(revision)}",
        f"Keep it with: {console.program()} confirm {number}",
        f"or end it with: {console.program()} rollback {back_to}; then try again.",
    ]
    return Refused("\n".join(told), refused.status, refused.problem)


def _stale(session: Session, what: str, since: Any, base: str) -> Refused:
    """Who changed what meanwhile. base: the revision on which the change was made, or a digest."""
    told = [f"{what}; nothing was changed. Since then:"]
    told += [f"  {show.by_whom(one)}" for one in since]
    if base.isdecimal():
        with suppress(Refused):  # it may not be kept any more
            found = session.client.get(f"{V1}/revisions/{quote(base)}/diff/live").json()["changes"]
            told += [f"    {line.plain}" for line in show.changes(found, console.err.width)]
        told.append(f"Look at it with: {console.program()} diff {base} live; then try again.")
    problem = {"status": _STALE, "code": "stale", "detail": what, "since": list(since)}
    return Refused("\n".join(told), _STALE, problem)


def _tell(session: Session, reply: Reply, proposal: Proposal, live: Live) -> int:
    done = reply.json()
    revision, pending = done["revision"], done.get("pending")
    number = revision["number"]
    if session.json:
        shown = {"revision": revision, "changes": done.get("changes", proposal.changes)}
        shown |= {name: done[name] for name in ("kept", "behind") if name in done}
        print_json({**shown, "rehearsal": proposal.rehearsal, "pending": pending})
    elif number == live.number:
        console.out.print(f"Nothing to do: revision {number} is live, and has this text.")
    else:
        restored = f", the text of {revision['restores']}" if revision["restores"] else ""
        console.out.print(f"[bold green]live[/]  revision {number}{restored} (before: {live.number})")
    if "kept" in done and not session.json:
        console.err.print(f"An edit by hand that was refused is kept in {done['kept']}", markup=False)
    if "behind" in done and not session.json:
        console.err.print(f"It is not yet in force in {', '.join(done['behind'])}; see: nodes", markup=False)
    if pending and pending["number"] == number:
        # The gateway's clock counts: by the revision that it has just made, else by what it sent.
        return _pending(session, pending, max(0.0, pending["due"] - max(revision["at"], reply.at)))
    return 0


def _pending(session: Session, pending: Mapping[str, Any], seconds: float) -> int:
    """Say how to confirm; on a terminal count down, and confirm on Enter."""
    number, back = pending["number"], pending["back_to"]
    how = f"{console.program()} confirm {number}"
    if session.json or not session.interactive:
        console.err.print(f"It goes back to revision {back} in {seconds:.0f} s unless confirmed: {how}")
        return 0
    if _count_down(f"revision {number} goes back to {back}", seconds, how):
        confirm(session, number)
        return 0
    end, live = time.monotonic() + _AFTER, session.live()
    while live.pending is not None and live.number == number and time.monotonic() < end:
        time.sleep(_PAUSE)
        live = session.live()
    if live.number == number:
        if live.pending is not None:
            raise ValueError(f"revision {number} is still live; look at the gateway's log")
        console.err.print(f"Revision {number} was confirmed by somebody else.")
        return 0
    console.err.print(f"[bold yellow]not confirmed[/]  revision {live.number} is live now")
    return 1


def confirm(session: Session, number: int) -> None:
    """Confirm a revision, and tell. Raises Refused."""
    done = session.client.post(f"{V1}/config:confirm", {"revision": number}).json()
    if session.json:
        print_json(done)
    else:
        console.out.print(f"[bold green]confirmed[/]  revision {number} stays")


def _count_down(what: str, seconds: float, how: str) -> bool:
    """Whether Enter was pressed in time. what: happens at the end. how: to confirm from elsewhere, shown when
    this is interrupted (KeyboardInterrupt)."""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before is no yes to this
    end, line = time.monotonic() + seconds, ""
    try:
        while (left := end - time.monotonic()) > 0:
            line = f"{what} in {left:3.0f} s; press Enter to confirm "
            sys.stderr.write(f"\r{line}")
            sys.stderr.flush()
            ready, _, _ = select.select([sys.stdin], [], [], left % 1 or 1.0)
            if ready and sys.stdin.readline():
                return True
            if ready:  # Ctrl-D, or the terminal is gone
                raise KeyboardInterrupt
        sys.stderr.write(f"\r{' ' * len(line)}\r")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        console.err.print(f"It still goes back in {end - time.monotonic():.0f} s unless confirmed: {how}")
        raise
    return False
