"""gateway documents, as an operator runs it: what it prints, its exit codes, and what it leaves behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import process_config
from gateway.cli.documents.engine import Unusable, open_engine
from gateway.cli.documents.meter import Meter
from gateway.cli.main import main
from gateway.core.model import TenantId
from gateway.store.model import collection as collections
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.conf import write_conf
from tests.store import docs
from tests.store.mongo import server
from tests.support.ports import free_port

SETTINGS = {"indexes": [{"name": "by_n", "fields": ["n"], "unique": True}], "require_if_match": False}
COMMANDS = ["tenants", "export", "import", "backup", "restore", "verify"]


class Operator:
    """Runs commands on a config of its own, and looks at what they print."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], uri: str = "sqlite:documents"
    ) -> None:
        self.conf = str(write_conf(folder, extra=f"[store]\nuri = {uri}\n"))
        self.data = folder / "var" / "documents"
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        name, *rest = map(str, arguments)
        code = main(["documents", name, "-c", self.conf, *rest])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def json(self, *arguments: object) -> tuple[int, Any]:
        code, out, err = self(*arguments, "--json")
        assert err == ""
        return code, json.loads(out)

    def fill(self, tenant: str, count: int, settings: dict[str, Any] | None = None) -> None:
        async def fill(store: SQLiteDocumentStore) -> None:
            documents = store.tenant(TenantId(tenant))
            if settings is not None:
                await documents.put_collection("orders", collections.from_data(settings))
            for n in range(count):
                await docs.replace(documents, "orders", f"{n:04}", {"n": n, "text": "x" * 500})

        self.run(fill)

    def run(self, work: Any) -> Any:
        async def run() -> Any:
            store = SQLiteDocumentStore(self.data, b"k" * 32)
            await store.start()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def exported(self, tenant: str, collection: str = "orders") -> list[str]:
        code, out, _ = self("export", tenant, collection)
        assert code == 0
        return out.splitlines()


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(tmp_path / "gateway", capsys)


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["documents", command, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  gateway documents {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    ["", "fly", "export", "import acme", "import acme c x --from-line 0", "backup", "export A", "verify a/b"],
)
def test_wrong_usage_is_exit_code_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["documents", *arguments.split()])
    assert caught.value.code == 2
    assert "gateway documents" in capsys.readouterr().err


# --- tenants -----------------------------------------------------------------------------------------


def test_tenants_are_shown_with_what_they_hold(operator: Operator) -> None:
    code, out, err = operator("tenants")
    assert (code, out) == (0, "")
    assert "no tenant has documents in" in err
    operator.fill("globex", 2)
    operator.fill("acme", 3)
    code, out, _ = operator("tenants")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line[:3] for line in lines[1:3]] == [["acme", "1", "3"], ["globex", "1", "2"]]
    assert lines[3][:4] == ["2", "tenants", "2", "5"]
    code, shown = operator.json("tenants")
    assert [(row["tenant"], row["collections"], row["documents"]) for row in shown["tenants"]] == [
        ("acme", 1, 3),
        ("globex", 1, 2),
    ]
    files = {path.name for path in operator.data.iterdir()}
    assert files == {"acme.db", "globex.db"}  # looking leaves nothing behind
    assert shown["tenants"][0]["stored_bytes"] == (operator.data / "acme.db").stat().st_size


def test_a_tenant_that_cannot_be_read_does_not_hide_the_others(operator: Operator) -> None:
    operator.fill("acme", 1)
    (operator.data / "broken.db").write_bytes(b"no database " * 1000)
    spoil(operator.data / "foreign.db", "CREATE TABLE theirs (a)")
    code, out, err = operator("tenants")
    assert code == 1
    assert "acme" in out
    assert f"error: {operator.data}/broken.db: " in err
    assert "put a backup in its place" in err
    assert f"{operator.data}/foreign.db: it is another program's database; move it away" in err
    code, shown = operator.json("tenants")
    assert (code, [row["tenant"] for row in shown["failed"]]) == (1, ["broken", "foreign"])


# --- export and import -------------------------------------------------------------------------------


def test_what_is_exported_can_be_imported_with_its_settings(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 450, SETTINGS)
    code, _, err = operator("export", "acme", "-o", tmp_path / "all")
    assert code == 0
    assert "exported 450 documents of orders" in err
    exported, settings = tmp_path / "all" / "orders.ndjson", tmp_path / "all" / "orders.settings.json"
    assert exported.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in exported.parent.iterdir()} == {exported.name, settings.name}
    code, out, err = operator("import", "copy", "orders", exported, "--settings", settings)
    assert code == 0
    assert out == "imported 450 created, 0 replaced, 0 skipped (there already), 0 failed\n"
    assert err == "note: copy had no documents until now\n"
    assert operator.exported("copy") == operator.exported("acme") == exported.read_text().splitlines()
    assert operator("verify", "copy")[0] == 0

    async def declared(store: SQLiteDocumentStore) -> Any:
        return (await store.tenant(TenantId("copy")).collection("orders")).settings.data

    assert operator.run(declared)["indexes"] == SETTINGS["indexes"]


def test_documents_that_are_there_are_only_replaced_when_told_so(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 2)
    (tmp_path / "in").write_text('{"id":"0000","n":7}\n\n{"id":"new"}\n')
    code, shown = operator.json("import", "acme", "orders", tmp_path / "in")
    assert (code, shown["created"], shown["skipped"], shown["replaced"]) == (0, 1, 1, 0)
    assert '{"id":"0000","n":0,' in operator.exported("acme")[0]
    code, shown = operator.json("import", "acme", "orders", tmp_path / "in", "--replace")
    assert (code, shown["created"], shown["skipped"], shown["replaced"]) == (0, 0, 0, 2)
    assert operator.exported("acme")[0] == '{"id":"0000","n":7}'


BAD = '{"id":"a"}\n\n{"id":"b","$x":1}\nnot json\n{"id":"c"}\n{"id":""}\n'


def test_lines_that_fail_are_told_with_file_line_and_reason(operator: Operator, tmp_path: Path) -> None:
    source = tmp_path / "in.ndjson"
    source.write_text(BAD)
    code, out, err = operator("import", "acme", "c", source)
    assert (code, out.split()[1:3]) == (1, ["2", "created,"])
    told = err.splitlines()
    assert [line for line in told if line.startswith(str(source))] == [f"{source}:{n}" for n in (3, 4, 6)]
    assert "/$x the member's name: must not begin with $" in told[told.index(f"{source}:3") + 1]
    assert "hint: " in told[-1]
    assert len(operator.exported("acme", "c")) == 2


def test_lines_keep_their_numbers_when_an_import_begins_later(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 1)
    (tmp_path / "in").write_text(BAD)
    code, shown = operator.json("import", "acme", "c", tmp_path / "in", "--from-line", 4)
    assert (code, [error["line"] for error in shown["errors"]], shown["created"]) == (1, [4, 6], 1)


def test_an_import_that_stops_says_where_and_goes_on_from_there(operator: Operator, tmp_path: Path) -> None:
    source = tmp_path / "in.ndjson"
    good = [json.dumps({"n": n}) for n in range(450)]  # without ids: none may be written twice
    bad = good.copy()
    bad[207] = bad[208] = "{"
    source.write_text("\n".join(bad))
    code, _, err = operator("import", "acme", "c", source, "--max-errors", "2")
    assert code == 1
    assert f"error: {source}: stopped before line 401: 2 lines failed (--max-errors)" in err
    again = shlex.split(err.splitlines()[-1].removeprefix("    go on with: "))
    assert again[:2] == ["gateway", "documents"]
    code, out, _ = operator(again[2], *[word for word in again[3:] if word not in ("-c", operator.conf)])
    assert (code, out.split()[1]) == (0, "50")
    assert len(operator.exported("acme", "c")) == 448


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("export nobody c", "nobody has no documents in"),
        ("export acme nope", "acme has no collection 'nope'; there are: orders"),
        ("export acme", "name one with -o"),
        ("export acme orders -o {tmp}/none/x", "{tmp}/none/x: {gone}; look at the name"),
        ("export acme orders -o {tmp}", "{tmp}: {folder}; name a file"),
        ("export acme -o {tmp}/file", "{tmp}/file is a file; all collections need a folder"),
        ("import acme a.b {tmp}/file", "'a.b': A collection's name is"),
        ("import acme c {tmp}/none", "{tmp}/none: {gone}; look at the name"),
        ("import acme c {tmp}", "{tmp} is a folder; name a file of NDJSON"),
        ("import acme c {tmp}/file --settings {tmp}/file", "{tmp}/file: The body is not JSON"),
        ("verify nobody", "nobody has no documents in"),
        ("backup {tmp}/b nobody", "nobody has no documents in"),
        ("backup {tmp}/file", "{tmp}/file is a file; name a folder"),
        ("backup {tmp}/there.db acme", "{tmp}/there.db is there already; name another"),
        ("backup {tmp}/file/x acme", "{tmp}/file/x: Not a directory; a part of the path is a file"),
        ("restore {tmp}/none", "there is no {tmp}/none"),
        ("restore {tmp}/empty", "{tmp}/empty holds no backups (TENANT.db)"),
        ("restore {tmp}/empty acme", "there is no {tmp}/empty/acme.db"),
        ("restore {tmp}/file", "name the tenant: gateway documents restore {tmp}/file TENANT"),
        ("restore {tmp}/file new", "{tmp}/file is not a whole backup of documents ("),
    ],
)
def test_what_cannot_be_done_is_told_with_its_place_and_reason(
    operator: Operator, tmp_path: Path, arguments: str, said: str
) -> None:
    operator.fill("acme", 1)
    (tmp_path / "file").write_text("no database " * 100)
    (tmp_path / "there.db").touch()
    (tmp_path / "empty").mkdir()
    code, out, err = operator(*(word.format(tmp=tmp_path) for word in arguments.split()))
    assert (code, out) == (1, "")
    gone, folder = os.strerror(errno.ENOENT), os.strerror(errno.EISDIR)
    assert said.format(tmp=tmp_path, gone=gone, folder=folder) in err
    assert "Traceback" not in err
    assert [path.name for path in operator.data.iterdir()] == ["acme.db"]


# --- backup and restore ------------------------------------------------------------------------------


def test_backups_restore_on_a_host_that_has_nothing(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.fill("acme", 30, SETTINGS)
    operator.fill("globex", 2)
    code, out, err = operator("backup", tmp_path / "today")
    assert (code, err) == (0, "")
    assert out.startswith(f"copied acme  {tmp_path}/today/acme.db  ")
    assert sorted(path.name for path in (tmp_path / "today").iterdir()) == ["acme.db", "globex.db"]
    assert (tmp_path / "today" / "acme.db").stat().st_mode & 0o777 == 0o600
    other = Operator(tmp_path / "other", capsys)
    code, shown = other.json("restore", tmp_path / "today")
    assert (code, [row["documents"] for row in shown["restored"]]) == (0, [30, 2])
    assert other.exported("acme") == operator.exported("acme")
    assert other("verify")[0] == 0
    assert other.data.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in other.data.iterdir()} == {"acme.db", "globex.db"}


def test_a_file_is_one_tenants_and_may_be_restored_for_another(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 3)
    operator.fill("globex", 1)
    code, _, err = operator("backup", tmp_path / "one.db")
    assert (code, "name one of them, or a folder" in err) == (1, True)
    assert operator("backup", tmp_path / "one.db", "acme")[0] == 0
    assert operator("restore", tmp_path / "one.db", "acme-test")[0] == 0
    assert operator.exported("acme-test") == operator.exported("acme")


def test_data_is_replaced_only_with_force_and_all_is_refused_before_any_is_touched(
    operator: Operator, tmp_path: Path
) -> None:
    operator.fill("acme", 3)
    operator.fill("globex", 3)
    operator("backup", tmp_path / "today")
    operator.fill("acme", 9)
    (operator.data / "globex.db").unlink()
    code, _, err = operator("restore", tmp_path / "today")
    assert code == 1
    assert "acme (9 documents); nothing was changed. Add --force" in err
    assert not (operator.data / "globex.db").exists()
    assert operator("restore", tmp_path / "today", "--force")[0] == 0
    assert (len(operator.exported("acme")), len(operator.exported("globex"))) == (3, 3)


def test_a_tenant_that_only_looked_has_nothing_to_lose(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 3)
    operator("backup", tmp_path / "today")
    (operator.data / "acme.db").unlink()
    operator.fill("acme", 0)
    operator.run(lambda store: store.tenant(TenantId("acme")).collections())
    assert (operator.data / "acme.db").exists()
    assert operator("restore", tmp_path / "today")[0] == 0
    assert len(operator.exported("acme")) == 3


@pytest.mark.parametrize("kind", ["empty", "folder", "log", "text"])
def test_what_is_left_of_a_damaged_file_is_told_and_replaced_only_with_force(
    operator: Operator, tmp_path: Path, kind: str
) -> None:
    operator.fill("acme", 3)
    operator.fill("globex", 1)
    operator("backup", tmp_path / "today")
    file = operator.data / "acme.db"
    if kind == "log":
        file.rename(operator.data / "acme.db-wal")
    else:
        file.unlink()
        (operator.data / "acme.db").write_bytes(b"text " * 999 if kind == "text" else b"")
    if kind == "folder":
        file.unlink()
        file.mkdir()
    code, out, _ = operator("verify")
    assert code == 1 and "whole globex" in out
    assert str(file) in out and "gateway documents restore BACKUPS acme --force" in out
    assert "acme" in operator("tenants")[2]
    assert operator("restore", tmp_path / "today", "acme")[0] == 1
    restored = operator("restore", tmp_path / "today", "acme", "--force")
    if kind in ("folder", "log"):  # what is no tenant's file is for a person to look at
        assert restored[0] == 1 and "move it away" in restored[2]
    else:
        assert restored[0] == 0 and len(operator.exported("acme")) == 3


@pytest.mark.parametrize("kind", ["torn", "overwritten", "miscounted"])
def test_a_damaged_backup_changes_nothing(operator: Operator, tmp_path: Path, kind: str) -> None:
    operator.fill("acme", 200, SETTINGS)
    operator("backup", tmp_path / "today")
    copy = tmp_path / "today" / "acme.db"
    if kind == "torn":
        os.truncate(copy, copy.stat().st_size // 2)
    elif kind == "overwritten":
        with copy.open("r+b") as file:
            file.seek(12 * 4096)
            file.write(b"torn" * 4096)
    else:
        spoil(copy, "UPDATE collections SET documents = 7")
    code, _, err = operator("restore", copy, "acme", "--force")
    assert code == 1
    assert f"error: {copy} is " in err
    assert "Not restored, and as they were: acme." in err
    assert len(operator.exported("acme")) == 200
    assert [path.name for path in operator.data.iterdir()] == ["acme.db"]


def test_a_damaged_file_is_no_backup_and_the_others_are_copied(operator: Operator, tmp_path: Path) -> None:
    for tenant in ("acme", "globex"):
        operator.fill(tenant, 200)
    with (operator.data / "acme.db").open("r+b") as file:
        file.seek(12 * 4096)
        file.write(b"torn" * 4096)
    code, out, err = operator("backup", tmp_path / "today")
    assert (code, out.split()[:2]) == (1, ["copied", "globex"])
    assert f"error: acme was not copied: {operator.data}/acme.db" in err
    assert [path.name for path in (tmp_path / "today").iterdir()] == ["globex.db"]
    code, out, _ = operator("verify")
    assert code == 1
    assert out.startswith("wrong acme\n    ")
    assert "hint: save what can be read (gateway documents export acme -o DIR)" in out
    assert "whole globex" in out
    operator("restore", tmp_path / "today" / "globex.db", "acme", "--force")
    assert operator("verify")[0] == 0


def test_who_opened_the_old_file_cannot_write_to_it_later(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 3)
    operator("backup", tmp_path / "today")
    operator.fill("acme", 9)
    with closing(sqlite3.connect(operator.data / "acme.db", isolation_level=None)) as late:
        assert operator("restore", tmp_path / "today", "--force")[0] == 0
        with pytest.raises(sqlite3.OperationalError) as caught:
            late.execute("PRAGMA journal_mode=WAL")
        assert caught.value.sqlite_errorname == "SQLITE_READONLY_DBMOVED"
    assert [path.name for path in operator.data.iterdir()] == ["acme.db"]


def test_a_log_without_its_file_is_not_given_a_new_one(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 3)
    operator("backup", tmp_path / "today")
    (operator.data / "acme.db").rename(operator.data / "acme.db-wal")
    code, _, err = operator("restore", tmp_path / "today", "--force")
    assert code == 1
    assert f"{operator.data}/acme.db-wal is left of a file that is gone" in err
    assert [path.name for path in operator.data.iterdir()] == ["acme.db-wal"]


def test_what_is_interrupted_undoes_itself(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 3)
    operator("backup", tmp_path / "old")
    operator.fill("acme", 9)
    engine = open_engine(process_config.load(operator.conf), Meter())
    engine.stopped.set()
    tenant = TenantId("acme")
    with pytest.raises(Unusable, match="interrupted"):
        asyncio.run(engine.operator.backup(tenant, tmp_path / "new.db"))
    with pytest.raises(Unusable, match="interrupted"):
        asyncio.run(engine.operator.restore(tenant, tmp_path / "old" / "acme.db", replace=True))
    assert {path.name for path in tmp_path.iterdir()} == {"gateway", "old"}
    assert [path.name for path in operator.data.iterdir()] == ["acme.db"]
    assert len(operator.exported("acme")) == 9


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_another_users_data_is_left_to_that_user(operator: Operator, tmp_path: Path) -> None:
    operator.fill("acme", 3)
    os.chown(operator.data, 1, -1)
    for command in (("tenants",), ("backup", tmp_path / "new"), ("import", "new", "c")):
        code, out, err = operator(*command)
        assert (code, out) == (1, "")
        assert f"{operator.data} belongs to daemon; run this as that user: sudo -u daemon" in err


# --- verify, other engines ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE collections SET documents = 7", "miscounted"),
        ("DELETE FROM entries WHERE id = '0001'", "The index by_n of orders misses the document 0001"),
        ("DELETE FROM uniques WHERE id = '0001'", "The index by_n of orders misses the values of 0001"),
    ],
)
def test_verify_says_what_is_wrong_to_people_and_programs(
    operator: Operator, statement: str, said: str
) -> None:
    operator.fill("acme", 3, SETTINGS)
    operator.fill("globex", 3)
    assert operator.json("verify") == (
        0,
        {
            "store": str(operator.data),
            "whole": True,
            "tenants": [{"tenant": name, "problems": []} for name in ("acme", "globex")],
        },
    )
    spoil(operator.data / "acme.db", statement)
    code, out, _ = operator("verify")
    assert code == 1
    assert said in out
    assert "    hint: " in out
    code, shown = operator.json("verify")
    assert (code, shown["whole"]) == (1, False)
    assert said in shown["tenants"][0]["problems"][0]
    assert operator("verify", "globex")[0] == 0


def test_on_mongodb_all_works_but_copies_which_are_the_servers_own(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.fill("acme", 250, SETTINGS)
    operator("export", "acme", "-o", tmp_path / "all")
    operator("backup", tmp_path / "today")
    with server.serve(tmp_path) as uri:
        other = Operator(tmp_path / "other", capsys, server.database(uri))
        source, settings = tmp_path / "all" / "orders.ndjson", tmp_path / "all" / "orders.settings.json"
        code, out, _ = other("import", "acme", "orders", source, "--settings", settings)
        assert (code, out.split()[1]) == (0, "250")
        assert other.exported("acme") == operator.exported("acme")
        code, shown = other.json("tenants")
        assert (code, shown["tenants"][0]["documents"]) == (0, 250)
        assert shown["store"].startswith("mongodb://")
        assert other("verify")[0] == 0
        for arguments in (("backup", tmp_path / "new"), ("restore", tmp_path / "today", "--force")):
            code, out, err = other(*arguments)
            assert (code, out) == (1, "")
            assert "use mongodump and mongorestore" in err
        assert not list((tmp_path / "new").glob("*"))


def test_a_server_that_is_away_is_named_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"mongodb://ann:secret@127.0.0.1:{free_port()}/own?serverSelectionTimeoutMS=100"
    code, out, err = Operator(tmp_path, capsys, uri)("tenants")
    assert (code, out) == (1, "")
    assert "error: " in err
    assert "127.0.0.1" in err
    assert "secret" not in err
