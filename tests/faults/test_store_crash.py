"""kill -9 under write load: every acknowledged write is there, with what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from gateway.core.errors import NotFound
from gateway.core.model import TenantId
from gateway.store.sqlite.engine import SQLiteDocumentStore

ROUNDS = 5
TENANTS = ("acme", "globex", "initech")
WRITERS = 8  # of each tenant; each owns one document that it replaces, patches and deletes in turn

# Each writer prints a line when it begins a write and one when the write was acknowledged.
CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from gateway.core.model import TenantId
from gateway.store.model.patch import MergePatch
from gateway.store.model.write import Create, Delete, Replace, Update
from gateway.store.sqlite.engine import SQLiteDocumentStore

def say(*line):
    os.write(1, (json.dumps(line) + "\\n").encode())  # one write: lines stay whole

async def write(tenant, name, number, round):
    own, step, there = f"own-{number}", 0, None
    while True:
        step += 1
        data = {"round": round, "step": step, "fill": "x" * (step * 37 % 3000)}
        kind = ("create", "replace", "patch", "create", "delete")[step % 5]
        if kind == "create":
            document = (await tenant.write("made", Create(data))).document
            say("made", name, document.id, document.etag, data)
            continue
        say("began", name, own, kind, data)
        if kind == "replace":
            write = Replace(own, data)
        elif kind == "patch":
            write = Update(own, MergePatch(data))
        else:
            write = Delete(own)
        written = await tenant.write("owned", write)
        document = written and written.document
        say("acknowledged", name, own, document and document.etag, document and document.data)

async def main(folder, round, tenants, writers):
    store = SQLiteDocumentStore(Path(folder), b"k" * 32)
    await store.start()
    work = []
    for name in tenants.split(","):
        tenant = store.tenant(TenantId(name))
        for number in range(writers):
            await tenant.write("owned", Replace(f"own-{number}", {}))  # the first step may be a patch
            work.append(write(tenant, name, number, round))
    await asyncio.gather(*work)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
"""


def run_until_killed(folder: Path, number: int, seconds: float) -> list[list]:
    """What the child said before it was killed, so many seconds after its first acknowledged write."""
    command = [sys.executable, "-c", CHILD, str(folder), str(number), ",".join(TENANTS), str(WRITERS)]
    said = folder.parent / f"said-{number}"
    with said.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, env={**os.environ, "PYTHONWARNINGS": "error"})
    try:
        for _ in range(6000):
            if b'"made"' in said.read_bytes():
                break
            assert child.poll() is None, "the child ended by itself"
            signal.sigtimedwait([], 0.01)
        signal.sigtimedwait([], seconds)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    return [json.loads(line) for line in said.read_bytes().split(b"\n")[:-1]]


class Ledger:
    """What must be in the store, from what the children said."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], tuple[str, dict]] = {}
        self.owned: dict[tuple[str, str], tuple[str, dict] | None] = {}
        self.begun: dict[tuple[str, str], tuple[str, dict]] = {}

    def read(self, lines: list[list]) -> None:
        self.owned.clear()
        self.begun.clear()
        for word, *rest in lines:
            if word == "made":
                name, identifier, tag, data = rest
                self.made[name, identifier] = (tag, data)
            elif word == "began":
                name, identifier, kind, data = rest
                self.begun[name, identifier] = (kind, data)
            elif word == "acknowledged":
                name, identifier, tag, data = rest
                self.owned[name, identifier] = (tag, data) if tag else None
                del self.begun[name, identifier]


async def check(folder: Path, ledger: Ledger) -> None:
    store = SQLiteDocumentStore(folder, b"k" * 32)
    await store.start()
    try:
        for (name, identifier), (tag, data) in ledger.made.items():
            document = await store.tenant(TenantId(name)).read("made", identifier)
            assert (document.etag, document.data) == (tag, data)
        for (name, identifier), expected in ledger.owned.items():
            try:
                document = await store.tenant(TenantId(name)).read("owned", identifier)
                found = (document.etag, document.data)
            except NotFound:
                found = None
            if found != expected:  # then it is the write that had begun and was not acknowledged, whole
                kind, data = ledger.begun[name, identifier]
                assert found is None if kind == "delete" else found is not None and found[1] == data
    finally:
        await store.close()
    for path in folder.glob("*.db"):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    folder, ledger = tmp_path / "documents", Ledger()
    for number in range(ROUNDS):
        before = len(ledger.made)
        ledger.read(run_until_killed(folder, number, moments.uniform(0.02, 0.4)))
        assert len(ledger.made) > before, "the child wrote nothing"
        asyncio.run(check(folder, ledger))
    print(f"{len(ledger.made)} acknowledged creations, none lost")
