"""Rounds of `kill -9` in the middle of changes of the live config; a program, so that each round is a fork.

    python -m tests.faults.config_crash FOLDER ROUNDS SEED

In each round a process starts on the folder, undoes what is not confirmed, changes the config again and
again, and is killed: after a random time, or at a random one of the things that audit hooks of Python tell (a
file is opened, renamed, a database connected). Then another process looks at what is left, and starts on it.
Prints one JSON line for each round.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from gateway.config.audit.log import AuditLog
from gateway.config.compilation import Compiler
from gateway.config.live import LiveConfig
from gateway.config.nodes.run import Run
from gateway.config.ports import Waits
from gateway.config.revisions.sqlite import SQLiteRevisions
from gateway.config.sources.file import FileSource
from gateway.core.config.revision import Draft, Origin
from tests.eventually import meanwhile
from tests.fakes import NOWHERE

FIRST = "# the first\r\nversion: 1\nroutes:\n  - {name: a, path: /a, target: documents}  # größer\n# no end"
_MOST_EVENTS = 400  # of audit hooks, in two or three changes
_MOST_TIME = 0.25  # seconds


def config_text(number: int) -> str:
    """A config of two pages, so that a torn file would show; what is small is parsed in the process."""
    return FIRST.replace("the first", f"{number} " + "x" * 6000 + f" {number}")


async def started(folder: Path) -> LiveConfig:
    """The live config of a gateway on this folder, without the gateway."""
    revisions = SQLiteRevisions(folder / "config.sqlite")
    audit = AuditLog(folder / "audit.log", folder / "config.sqlite")
    await revisions.start()
    await audit.start()
    compiler = Compiler(lambda backend: NOWHERE, "")
    run = Run(folder, "folder")
    run.start()
    live = LiveConfig(FileSource(folder / "routing.yaml"), revisions, audit, revisions, compiler, run=run)
    await live.load_first()
    return live


def say(*line: Any) -> None:
    """One write, so that lines stay whole."""
    os.write(1, (json.dumps(line) + "\n").encode())


async def change_until_killed(folder: Path, chance: random.Random) -> None:
    live = await started(folder)
    say("up", live.head.number)
    if chance.random() < 0.5:
        die_at_event(chance.randrange(_MOST_EVENTS))
    number = 0
    while True:
        number += 1
        origin = Origin(f"author {number}", f"reason {number} of {live.head.number}", "api", "192.0.2.1")
        confirm_by = time.time() + 60 if chance.random() < 0.3 else 0.0
        kind = chance.choice(("apply", "apply", "apply", "same", "back", "confirm"))
        if kind == "apply":
            draft = Draft(config_text(chance.randrange(10**6)), origin, time.time(), 0, confirm_by)
        elif kind == "same":
            draft = Draft(live.text, origin, time.time())
        elif kind == "back":
            restores = chance.randrange(1, live.head.number + 1)
            draft = Draft(await live.revisions.text(restores), origin, time.time(), restores, confirm_by)
        else:
            if live.pending is not None:
                await live.confirm(origin, live.pending.number)
                say("confirmed", live.head.number)
            continue
        waits = live.pending
        if waits is not None and (kind != "back" or draft.restores != waits.back_to):
            try:
                await live.apply(draft, live.head.number)
            except Waits:
                continue
            raise AssertionError("a change was made while another one waited")
        say("began", draft.digest, origin.author, origin.reason, draft.restores)
        if kind == "back":
            made = await live.roll_back(draft.restores, origin, live.head.number, confirm_by)
        else:
            made = await live.apply(draft, live.head.number)
        say("done", made.number, draft.digest, bool(made.confirm_by))


def die_at_event(number: int) -> None:
    left = [number]

    def hook(event: str, args: object) -> None:
        if event in ("open", "os.rename", "sqlite3.connect", "os.remove", "sqlite3.connect/handle"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


async def look(folder: Path, said: list[list[Any]]) -> dict[str, Any]:
    """What is left after a kill, and after the next start; `wrong` says in words what must not be."""
    wrong = []
    in_file = (folder / "routing.yaml").read_bytes().decode()
    begun = [line for line in said if line[0] == "began"]
    live = await started(folder)
    kept = {one.number: one for one in await live.revisions.page(0, 1000)}
    texts = {one.digest for one in kept.values()}
    digest = Draft(in_file, Origin("", "", ""), 0.0).digest
    if digest not in texts:
        wrong.append("the file has a text that is no revision")
    if live.text != (folder / "routing.yaml").read_bytes().decode():
        wrong.append("what is live is not what the file has")
    if live.head.number != max(kept) or live.pending is not None or live.head.confirm_by:
        wrong.append(f"what is live: {live.head}, {live.pending}")
    for line in said:
        if line[0] == "done" and kept[line[1]].digest != line[2]:
            wrong.append(f"what was acknowledged is not there: {line}")
    last = begun[-1] if begun else None
    after = max([line[1] for line in said if line[0] in ("up", "done")], default=0)
    new = [one for number, one in sorted(kept.items()) if number > after]
    for one in new:
        named = one.origin.source == "api" and last is not None and [one.digest, *last[2:4]] == [
            *last[1:2], one.origin.author, one.origin.reason]  # fmt: skip
        undone = one.origin.source == "gateway" and one.restores and one.digest == kept[one.restores].digest
        if after and not named and not undone:
            wrong.append(f"a revision of nobody: {one}")
    if any(kept[number].parent != number - 1 for number in kept):
        wrong.append("a revision has the wrong parent")
    waited = [one for one in kept.values() if one.confirm_by and one.number < live.head.number]
    for one in waited:  # confirmed later by nothing: the next is the undoing of it, or an operator's
        if one.number + 1 not in kept:
            wrong.append(f"not undone: {one}")
    wrong += await live.audit.verify()  # type: ignore[attr-defined]
    lines = await live.audit.page(0, 10_000)
    missing = set(kept) - {line["to"] for line in lines if line["outcome"] == "done"}
    if missing:
        wrong.append(f"not in the audit: {sorted(missing)}")
    return {
        "head": live.head.number,
        "new": [[one.number, one.origin.source] for one in new],
        "recovered": sum(line["action"] == "recovered" for line in lines),
        "undone": sum(line["action"] == "unconfirmed" for line in lines),
        "wrong": wrong,
    }


def forked(work: Any, *args: Any) -> tuple[int, int]:
    """The id of a process that does this, and the reading end of its output."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return process, reader
    code = 1
    try:
        os.dup2(writer, 1)
        found = asyncio.run(work(*args))
        if found is not None:
            say(found)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def killed_round(folder: Path, chance: random.Random) -> list[list[Any]]:
    """What the process said until it was killed."""
    process, reader = forked(change_until_killed, folder, chance)
    with open(reader, "rb") as output:
        said = output.readline()
        meanwhile(chance.random() * _MOST_TIME)
        os.kill(process, signal.SIGKILL)
        said += output.read()
    os.waitpid(process, 0)
    return [json.loads(line) for line in said.decode().splitlines()]


def main(folder: Path, rounds: int, seed: int) -> None:
    (folder / "routing.yaml").write_bytes(FIRST.encode())
    for number in range(rounds):
        chance = random.Random(seed * 100_000 + number)
        said = killed_round(folder, chance)
        process, reader = forked(look, folder, said)
        with open(reader, "rb") as output:
            found = output.read()
        os.waitpid(process, 0)
        (state,) = json.loads(found) if found else ({"wrong": ["the next start failed"]},)
        os.write(1, (json.dumps({"round": number, "said": len(said), **state}) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
