"""gateway diff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.cli import console
from gateway.cli.config import show
from gateway.cli.config.client import V1, problems_of
from gateway.cli.config.given import read_config, shown
from gateway.cli.config.session import Session, print_json
from gateway.config import strict_yaml
from gateway.config.ports import ConfigRefused
from gateway.core.routing.problems import Problems

_DIFFERENT = 2  # the exit code, as decK and terraform have it
_LIVE = "live"


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two. key: as in the admin API's paths, "" for a file. text: None until it is needed."""

    name: str
    key: str
    file: str = ""


def run(session: Session) -> int:
    """Show what differs."""
    arguments = session.arguments
    live = _Side("live", _LIVE)
    if arguments.first is None:
        old, new = live, _file(session.config.routing)
    elif arguments.second is None:
        old, new = live, _side(arguments.first)
    else:
        old, new = _side(arguments.first), _side(arguments.second)
    if arguments.text:
        return _by_lines(session, old, new)
    if old.key and new.key:
        found = session.client.get(f"{V1}/revisions/{old.key}/diff/{new.key}").json()["changes"]
    elif old.key == _LIVE:
        found = _against_live(session, new)
    else:
        found = _of_texts(session, old, new)
    return _show(session, old, new, found)


def _side(given: str) -> _Side:
    if given == _LIVE:
        return _Side("live", _LIVE)
    if given.isascii() and given.isdecimal():
        return _Side(f"revision {given}", given)
    return _file(given)


def _file(given: str) -> _Side:
    return _Side(shown(given) if given == "-" else console.short(given), "", given)


def _against_live(session: Session, side: _Side) -> list[dict[str, Any]]:
    checked = session.client.send_text("POST", f"{V1}/config:check", read_config(side.file)).json()
    if not checked["ok"]:
        raise ConfigRefused(side.name, problems_of(checked["problems"]))
    found: list[dict[str, Any]] = checked["changes"]
    return found


def _of_texts(session: Session, old: _Side, new: _Side) -> list[dict[str, Any]]:
    """Compared here: the admin API compares a text with what is live only."""
    from gateway.core.config.differences import differences, view  # only here: it imports pydantic

    before, after = (_parsed(_text(session, side), side.name) for side in (old, new))
    return [view(one) for one in differences(before, after)]


def _parsed(text: str, name: str) -> Any:
    try:
        return strict_yaml.parse(text).data
    except Problems as found:
        raise ConfigRefused(name, found.items) from None


def _text(session: Session, side: _Side) -> str:
    if not side.key:
        return read_config(side.file)
    if side.key == _LIVE:
        return session.live().text
    return session.client.get(f"{V1}/revisions/{side.key}", {"text": ""}, "application/yaml").text


def _by_lines(session: Session, old: _Side, new: _Side) -> int:
    found = show.lines(_text(session, old), _text(session, new), (old.name, new.name))
    if session.json:
        print_json({"from": old.name, "to": new.name, "lines": found})
    else:
        for line in found:
            console.out.print(show.coloured(line))
    return _DIFFERENT if found else 0


def _show(session: Session, old: _Side, new: _Side, found: list[dict[str, Any]]) -> int:
    if session.json:
        print_json({"from": old.name, "to": new.name, "changes": found})
    elif found:
        console.err.print(f"from {old.name} to {new.name}:", style="dim", markup=False)
        for line in show.changes(found, console.out.width):
            console.out.print(line)
    else:
        console.err.print(f"{old.name} and {new.name} mean the same", style="dim", markup=False)
    return _DIFFERENT if found else 0
