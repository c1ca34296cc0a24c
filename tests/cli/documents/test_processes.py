"""gateway documents beside processes that write, and killed in the middle of its work."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.core.model import TenantId
from gateway.store.sqlite.files import restore
from gateway.store.sqlite.operator import SQLiteOperator
from tests.conf import write_conf
from tests.eventually import meanwhile, poll

ROOT = Path(__file__).resolve().parents[3]
ACME = TenantId("acme")
ROUNDS = 12


def gateway_documents(conf: Path, *arguments: object) -> list[str]:
    name, *rest = map(str, arguments)
    return [sys.executable, "-m", "gateway", "documents", name, "-c", str(conf), *rest]


def run(conf: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        gateway_documents(conf, *arguments), cwd=ROOT, capture_output=True, text=True, check=False
    )


class Writer:
    """What a steady writer has acknowledged so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._out = process.stdout
        self._rest = b""
        self.acknowledged: dict[int, int] = {}

    def look(self) -> dict[int, int]:
        """How many documents of each client are acknowledged."""
        *lines, self._rest = (self._rest + (self._out.read() or b"")).split(b"\n")
        for line in lines:
            _, client, turn = line.split()
            self.acknowledged[int(client)] = int(turn) + 1
        return dict(self.acknowledged)

    def wait(self, least: int) -> dict[int, int]:
        """Until each client has so many."""
        poll(lambda: len(self.look()) == 8 and min(self.acknowledged.values()) >= least)
        return dict(self.acknowledged)


@contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    command = [sys.executable, "-m", "tests.store.sqlite.steady_writer", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


def held(path: Path) -> dict[int, int]:
    """How many documents of each client a file holds; they are the client's first ones, without a gap."""
    found: dict[int, list[int]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for (text,) in connection.execute("SELECT data FROM documents WHERE collection = 'c' ORDER BY id"):
            data = json.loads(text)
            found.setdefault(data["client"], []).append(data["n"])
        changes = connection.execute("SELECT count(*), max(seq) FROM changes").fetchone()
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())
    total = sum(map(len, found.values()))
    assert changes == (total, total)  # one instant of all clients together: the first writes, and no others
    return {client: len(numbers) for client, numbers in found.items()}


def test_a_backup_under_heavy_writing_restores_to_one_instant(tmp_path: Path) -> None:
    conf = write_conf(tmp_path / "gateway")
    data = tmp_path / "gateway" / "var" / "documents"
    spans = []
    with writing(data) as writer:
        for turn in range(2):
            before = writer.wait(40 * (turn + 1))
            ended = run(conf, "backup", tmp_path / str(turn))
            assert (ended.returncode, ended.stderr) == (0, "")
            spans.append((before, writer.look()))
        refused = run(conf, "restore", tmp_path / "0", "--force")
        assert refused.returncode == 1
        assert f"{data}/acme.db is open elsewhere: stop the gateway first" in refused.stderr
        last = writer.wait(max(writer.look().values()) + 5)  # and it goes on writing
    after = held(data / "acme.db")
    assert all(after[client] >= last[client] for client in last)
    for turn, (before, until) in enumerate(spans):
        other = write_conf(tmp_path / f"other-{turn}")
        assert run(other, "restore", tmp_path / str(turn)).returncode == 0
        assert run(other, "verify").returncode == 0
        found = held(tmp_path / f"other-{turn}" / "var" / "documents" / "acme.db")
        # What was acknowledged before is there; of what came later, at most one write each was under way.
        assert all(before[client] <= found[client] <= until[client] + 1 for client in before)


_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM documents").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_damaged_file_that_somebody_has_open_is_not_replaced(tmp_path: Path) -> None:
    conf = write_conf(tmp_path / "gateway")
    path = tmp_path / "gateway" / "var" / "documents" / "acme.db"
    source = tmp_path / "in.ndjson"
    source.write_text('{"id":"a"}\n')
    run(conf, "import", "acme", "c", source)
    run(conf, "backup", tmp_path / "today")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        with path.open("r+b") as file:
            file.write(b"no database")
        refused = run(conf, "restore", tmp_path / "today", "--force")
        assert refused.returncode == 1
        assert f"{path} is open elsewhere: stop the gateway first" in refused.stderr
        assert path.read_bytes().startswith(b"no database")
        holder.communicate()
    assert run(conf, "restore", tmp_path / "today", "--force").returncode == 0
    assert run(conf, "export", "acme", "c").stdout == '{"id":"a"}\n'
    assert [found.name for found in path.parent.iterdir()] == ["acme.db"]


_RESTORE = """
import asyncio, sys
from pathlib import Path
from gateway.core.model import TenantId
from gateway.store.sqlite.operator import SQLiteOperator
print("ready", flush=True)
work = SQLiteOperator(Path(sys.argv[1])).restore(TenantId("acme"), Path(sys.argv[2]), replace=True)
asyncio.run(work)
"""


def test_a_restore_that_is_killed_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    conf = write_conf(tmp_path / "gateway")
    data = tmp_path / "gateway" / "var" / "documents"
    source = tmp_path / "in.ndjson"

    def fill(name: str, count: int) -> Path:
        source.write_text("".join(f'{{"id":"{n}","text":"{"x" * 2000}"}}\n' for n in range(count)))
        assert run(conf, "import", "acme", "c", source).returncode == 0
        asyncio.run(SQLiteOperator(data).backup(ACME, tmp_path / name))
        return tmp_path / name

    old, new = fill("old", 1000), fill("new", 3000)
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    operator = SQLiteOperator(data)
    sizes = set()
    for turn in range(ROUNDS):
        if turn % 4 == 3:
            restore.remove(data / "acme.db")  # with what a kill left: restored where there is none
        else:
            asyncio.run(operator.restore(ACME, old, replace=True))
        command = [sys.executable, "-c", _RESTORE, str(data), str(new)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            meanwhile(chance.uniform(0, 0.15))
            process.kill()
        if not (data / "acme.db").exists():
            continue
        assert asyncio.run(operator.verify(ACME)) == ()
        sizes.add(asyncio.run(operator.size(ACME)).documents)
    assert sizes <= {1000, 3000}
    asyncio.run(operator.restore(ACME, new, replace=True))
    assert asyncio.run(operator.size(ACME)).documents == 3000
    assert [path.name for path in data.iterdir()] == ["acme.db"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_import_ends_at_a_signal_between_two_writes(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    conf = write_conf(tmp_path / "gateway")
    path = tmp_path / "gateway" / "var" / "documents" / "acme.db"
    command = gateway_documents(conf, "import", "acme", "c", "--json")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b'{"n":1}\n' * 450 + b'{"n"')  # the batch that is not full has to wait
        process.stdin.flush()
        poll(lambda: _documents(path) >= 400)
        process.send_signal(number)
        shown = json.loads(process.stdout.read())
        assert process.wait() == code
    assert (shown["done"], shown["created"], shown["next_line"]) == (False, 400, 401)
    assert shown["reason"] == f"a signal ({number.name}) stopped it"
    assert _documents(path) == 400


def _documents(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM documents").fetchone()[0])
    except sqlite3.OperationalError:  # not yet
        return 0


def test_ctrl_c_ends_a_backup_without_a_trace(tmp_path: Path) -> None:
    conf = write_conf(tmp_path / "gateway")
    source = tmp_path / "in.ndjson"
    source.write_text("".join(f'{{"text":"{"x" * 200_000}"}}\n' for n in range(400)))
    run(conf, "import", "acme", "c", source)
    with subprocess.Popen(gateway_documents(conf, "backup", tmp_path / "today"), cwd=ROOT) as process:
        poll(lambda: list((tmp_path / "today").glob(".acme.db.*.part")))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert list((tmp_path / "today").iterdir()) == []


def test_who_has_read_enough_ends_an_export(tmp_path: Path) -> None:
    conf = write_conf(tmp_path / "gateway")
    source = tmp_path / "in.ndjson"
    source.write_text("".join(f'{{"id":"{n:05}","text":"{"x" * 2000}"}}\n' for n in range(1000)))
    assert run(conf, "import", "acme", "c", source).returncode == 0
    pipe = subprocess.PIPE
    with subprocess.Popen(
        gateway_documents(conf, "export", "acme", "c"), cwd=ROOT, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == "00000"
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 128 + signal.SIGPIPE)


def test_progress_is_shown_on_a_terminal_and_kept_out_of_the_output(tmp_path: Path) -> None:
    conf = write_conf(tmp_path / "gateway")
    source = tmp_path / "in.ndjson"
    source.write_text("".join(f'{{"id":"{n:05}"}}\n' for n in range(400)))
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        gateway_documents(conf, "import", "acme", "c", source, "--json"),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["created"] == 400
    shown = b""
    try:
        while chunk := os.read(controller, 65536):
            shown += chunk
    except OSError:  # the other side is closed
        pass
    os.close(controller)
    assert b"importing c" in shown
    assert shown.endswith(b"\x1b[2K\x1b[?25h\r")  # and erased
