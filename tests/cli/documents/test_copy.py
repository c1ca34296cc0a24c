"""gateway documents copy, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from gateway.core.model import TenantId
from gateway.store.model.write import Replace
from gateway.store.moving import collection
from gateway.store.port import Moved
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.conf import write_conf
from tests.eventually import poll
from tests.store.mongo import server

ROOT = Path(__file__).resolve().parents[3]
SECRET = "p4ss"
AWAY = "mongodb://u:p4ss@127.0.0.1:1/d?serverSelectionTimeoutMS=100"
DOCUMENTS = 12 * collection.PAGE


class Operator:
    """Runs the command on a config of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], extra: str = "") -> None:
        self.conf = write_conf(folder, extra=f"[store]\n{extra}\n")
        self.data = folder / "var"
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["documents", "copy", "-c", str(self.conf), *arguments])
        shown = self._capsys.readouterr()
        return code, shown.out, " ".join(shown.err.split())

    def json(self, *arguments: str) -> tuple[int, Any]:
        code, out, _ = self(*arguments, "--json")
        return code, json.loads(out)

    def fill(self, tenant: str, count: int) -> None:
        self.run(lambda store: write(store, tenant, range(count)))

    def run(self, work: Any, folder: str = "documents") -> Any:
        async def run() -> Any:
            store = SQLiteDocumentStore(self.data / folder, b"k" * 32)
            await store.start()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())


async def write(store: SQLiteDocumentStore, tenant: str, numbers: range) -> None:
    writes = [Replace(f"{number:05}", {"n": number, "text": "x" * 200}) for number in numbers]
    for at in range(0, len(writes), 1000):
        await store.tenant(TenantId(tenant)).bulk("orders", writes[at : at + 1000])


def test_tenants_are_copied_to_mongodb_and_back_with_the_same_digests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path, capsys)
    operator.fill("acme", 5)
    operator.fill("globex", 2)
    with server.serve(tmp_path) as uri:
        uri = server.database(uri)
        code, there = operator.json("--to", uri)
        assert (code, there["failed"]) == (0, [])
        done = [(tenant["tenant"], tenant["written"], tenant["moved"]) for tenant in there["tenants"]]
        assert done == [("acme", 5, False), ("globex", 2, False)]
        code, back = operator.json("--from", uri, "--to", "sqlite:back", "acme")
    assert (code, len(back["tenants"])) == (0, 1)
    assert back["tenants"][0]["collections"] == there["tenants"][0]["collections"]


def test_all_tenants_are_moved_and_what_to_do_next_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path, capsys, "next = sqlite:other")
    operator.fill("acme", 3)
    operator.fill("globex", 2)
    code, out, err = operator("--move", "acme")
    assert code == 0 and "moved acme 3 written" in " ".join(out.split())
    code, out, err = operator("--move")
    assert code == 0 and "acme" not in out and "moved globex" in out
    assert "make it [store] uri, remove [store] next, and restart the gateways" in err
    for tenant in ("acme", "globex", "newcomer"):
        with pytest.raises(Moved):
            operator.run(lambda store, tenant=tenant: write(store, tenant, range(1)))
        operator.run(lambda store, tenant=tenant: write(store, tenant, range(1)), "other")


@pytest.mark.parametrize(
    ("arguments", "extra", "said"),
    [
        ((), "", "there is no target: name it with --to, or as [store] next in the config"),
        (("--to", "sqlite:documents"), "", "source and target are the same"),
        (("--to", "postgres://u:p4ss@h/d"), "", "--to: this store is not offered; write sqlite:"),
        (("--to", "mongodb://u:p4ss@h:27017:1/d"), "", "--to:"),
        (("--to", AWAY), "", "no server answers"),
        (("--to", "sqlite:other", "--move"), "", "both stores must be in the config"),
        (("--to", "sqlite:other", "nobody"), "", "nobody has no documents in"),
        ((), f"next = {AWAY}", "mongodb://127.0.0.1:1/d cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], extra: str, said: str
) -> None:
    operator = Operator(tmp_path, capsys, extra)
    operator.fill("acme", 1)
    code, out, err = operator(*arguments)
    assert code == 1
    assert said in err
    assert SECRET not in out + err


def test_a_copy_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path, capsys)
    operator.fill("acme", DOCUMENTS)
    command = [sys.executable, "-m", "gateway", "documents", "copy", "-c", str(operator.conf)]
    copy = subprocess.Popen([*command, "--to", "sqlite:other"], cwd=ROOT, stdout=subprocess.DEVNULL)
    written = tmp_path / "var" / "other" / "acme.db-wal"
    try:
        poll(lambda: written.exists() and written.stat().st_size > 200_000)
    finally:
        copy.kill()
        copy.wait()
    code, report = operator.json("--to", "sqlite:other")
    (tenant,) = report["tenants"]
    assert code == 0
    assert tenant["written"] + tenant["unchanged"] == DOCUMENTS
    assert tenant["unchanged"] >= collection.PAGE
    assert operator.json("--to", "sqlite:other")[1]["tenants"][0]["written"] == 0
