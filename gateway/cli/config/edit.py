"""gateway edit: the live config in an editor, until it is right or the operator gives up."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.cli import console
from gateway.cli.config import changing
from gateway.cli.config.given import read_config
from gateway.cli.config.session import Live, Session, print_json
from gateway.config.ports import ConfigRefused
from gateway.core.routing.problems import Problem

_MARK = "#! "  # begins a line of ours
_VARIABLES = ("VISUAL", "EDITOR")
_FALLBACK = "vi"
_AT_ONCE = 1.0  # seconds in which nobody edits anything
_WINDOW = (
    " If the editor has opened a window, it is to wait until that is closed, as in EDITOR='code --wait'."
)


class _GivenUp(Exception):
    """Nothing is to be done. Its text says why."""


def run(session: Session) -> int:
    """Edit what is live. Whatever goes wrong, an edited text is kept in a file."""
    live = changing.live_as_expected(session)
    if not live.whole:
        raise ValueError(
            "what may be a secret in the config is not shown to this operator, who may not edit it"
        )
    descriptor, name = tempfile.mkstemp(prefix="gateway-", suffix=".yaml")  # mode 0600
    os.close(descriptor)
    file = Path(name)
    kept = False  # whether the text in the file is worth keeping
    try:
        code = _edit(session, live, file)
        kept = code != 0
        return code
    except _GivenUp as why:
        console.err.print(str(why), markup=False)
        if session.json:
            print_json({"revision": live.revision, "changes": []})
        return 0
    except BaseException:
        kept = True
        raise
    finally:
        if kept and _read(file) not in (live.text.encode(), None):
            console.err.print(f"Your text is kept in {file}", markup=False)
        else:
            file.unlink(missing_ok=True)


def _edit(session: Session, live: Live, file: Path) -> int:
    text, problems = live.text, list[Problem]()
    while True:
        header = _header(problems)
        file.write_text(header + text, "utf-8")
        began = time.monotonic()
        try:
            _open_editor(session, file)
        finally:
            edited = _without(header, read_config(str(file)))
            file.write_text(edited, "utf-8")  # what may be kept is without our lines
        if not edited.strip():
            raise _GivenUp("The text is empty; nothing was changed.")
        if edited == live.text:
            at_once = time.monotonic() - began < _AT_ONCE
            raise _GivenUp(f"Nothing was changed.{_WINDOW if at_once else ''}")
        if problems and edited == text:
            raise ConfigRefused(file, problems)  # given up: the problems are still there
        text = edited
        try:
            proposal = changing.propose(session, text, str(file))
        except ConfigRefused as refused:
            problems = refused.problems
            continue
        changing.show_proposal(session, proposal)
        if not changing.agreed(session, proposal, "Apply it?"):
            return 1
        return changing.put(session, proposal, live)


def _header(problems: list[Problem]) -> str:
    """The problems as comment lines, with the lines as they are below these; "" for none."""
    if not problems:
        return ""
    top = [
        "This is not live: it has problems. Correct them, or leave it to give up.",
        "These lines are removed again.",
    ]
    height = len(top) + 2 * len(problems)
    told = []
    for one in problems:
        at = f"line {one.line + height}: " if one.line else ""
        told += [f"{at}{one.where}: {one.reason}", f"    hint: {one.hint}"]
    return "".join(f"{_MARK}{' '.join(line.split(chr(10)))}\n" for line in [*top, *told])


def _without(header: str, text: str) -> str:
    """The text without the lines of ours that are left at its top, which may be changed with the rest of it;
    others that look like them stay."""
    for _ in header.splitlines():
        if not text.startswith(_MARK):
            break
        text = text.partition("\n")[2]
    return text


def _open_editor(session: Session, file: Path) -> None:
    """Raises ValueError where it fails."""
    variable = next((name for name in _VARIABLES if os.environ.get(name, "").strip()), "")
    command = os.environ[variable] if variable else _FALLBACK
    try:
        words = shlex.split(command)
        with _interrupts_are_the_editors():
            ended = subprocess.run([*words, str(file)], stdout=sys.stderr if session.json else None)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}; write the editor's command as in a shell") from None
    except OSError as error:
        hint = f"name an editor in {_VARIABLES[0]} or {_VARIABLES[1]}"
        raise ValueError(f"the editor {command!r} cannot be run: {error.strerror}; {hint}") from None
    if ended.returncode:
        how = f"exit code {ended.returncode}" if ended.returncode > 0 else f"signal {-ended.returncode}"
        raise ValueError(f"the editor {command!r} ended with {how}; nothing was changed")


@contextmanager
def _interrupts_are_the_editors() -> Iterator[None]:
    """Ctrl-C in an editor is its own affair. A handler, and not SIG_IGN, which it would inherit."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _read(file: Path) -> bytes | None:
    with suppress(OSError):
        return file.read_bytes()
    return None
