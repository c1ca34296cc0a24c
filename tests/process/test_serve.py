"""`gateway serve` as a process: what it says, how it ends, why it does not start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.keys import ensure_signing_key
from gateway.cli.main import main
from tests.cli.test_main import BAD, EXPECTED, ROUTING
from tests.conf import write_conf
from tests.eventually import END, meanwhile, poll
from tests.support.ports import free_port


class Serving:
    def __init__(self, folder: Path, routing: str = ROUTING, more: str = "") -> None:
        public, admin = free_port(), free_port()
        self.public, self.admin = f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}"
        self.conf = write_conf(folder, routing, listen=f"127.0.0.1:{public}", admin=f"127.0.0.1:{admin}")
        text = self.conf.read_text().replace("drain = 5", f"drain = 5\n{more}")
        self.conf.write_text(text.replace("workers = 1\n", "", "workers" in more))
        self.log = folder / "log"
        self.folder = folder

    @contextmanager
    def started(self, *program: str, stdout: Any = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run it: `gateway serve`, or the program given (its arguments end with the process config)."""
        program = program or ("-m", "gateway", "serve", "-c")
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program, str(self.conf)],
                stdout=stdout or log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        self.until(process, lambda: self.get("/readyz") == 200)

    def until_logged(self, process: subprocess.Popen[bytes], text: str) -> None:
        self.until(process, lambda: text in self.log.read_text())

    def until(self, process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
        """It has to come true while the process runs."""

        def holds() -> bool:
            if not (held := condition()) and process.poll() is not None:
                pytest.fail(f"it ended with {process.returncode}: {self.log.read_text()}")
            return held

        poll(holds, self.log.read_text, 2 * END)

    def get(self, path: str, **headers: str) -> int:
        """The status of the admin listener's answer; 0 when nothing listens."""
        try:
            asked = urllib.request.Request(self.admin + path, headers=headers)
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0


@pytest.mark.whole
def test_serve_says_where_it_is_and_sigterm_drains_it_with_exit_code_0(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        assert serving.get("/livez", Host="evil.example") == 403
        assert serving.get("/nothing") == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    shown = serving.log.read_text()
    assert serving.public in shown
    assert serving.admin in shown
    assert "Traceback" not in shown
    key = json.loads((tmp_path / "var" / "keys.jwks").read_text())["keys"][0]
    assert key["d"] not in shown
    assert "demo" not in shown
    assert not (tmp_path / "var" / "demo-token.header").exists()
    assert serving.get("/livez") == 0


def public_keys_only(folder: Path) -> None:
    path = folder / "var" / "keys.jwks"
    ensure_signing_key(path)
    document = json.loads(path.read_text())
    del document["keys"][0]["d"]
    path.write_text(json.dumps(document))


UP = ("-m", "gateway", "up", "-c")
RAISES = """
import sys
from gateway.application import run

def on_ready(gateway):
    raise LookupError("a bug of who is told")

sys.exit(run(sys.argv[1], supervise=False, on_ready=on_ready))
"""


@pytest.mark.whole
@pytest.mark.parametrize(
    ("program", "shown"),
    [(UP, "no key can sign"), (("-c", RAISES), "a bug of who is told")],
    ids=["public keys only", "a bug"],
)
def test_nothing_that_is_told_once_it_is_ready_ends_it(
    tmp_path: Path, program: tuple[str, ...], shown: str
) -> None:
    serving = Serving(tmp_path)
    public_keys_only(tmp_path)
    with serving.started(*program) as process:
        serving.until_ready(process)
        serving.until_logged(process, shown)
        assert serving.get("/readyz") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


HUPS = """
import sys
from gateway.application import GatewayApplication

async def buggy():
    raise LookupError("a bug of the reload")

application = GatewayApplication(sys.argv[1], supervise=False)
application._on_sighup()
application.gateway.reload = buggy
sys.exit(application.run())
"""


@pytest.mark.whole
def test_an_early_sighup_is_ignored_and_a_reload_that_fails_is_logged(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with serving.started("-c", HUPS) as process:
        serving.until_ready(process)
        assert "SIGHUP is ignored" in serving.log.read_text()
        process.send_signal(signal.SIGHUP)
        serving.until_logged(process, "a bug of the reload")
        assert "loading all again on SIGHUP failed" in serving.log.read_text()
        assert serving.get("/readyz") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "never retrieved" not in serving.log.read_text()


@pytest.mark.whole
def test_a_fifo_in_place_of_the_routing_config_holds_up_neither_it_nor_its_end(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    routing = tmp_path / "routing.yaml"
    good = routing.read_text()
    with serving.started() as process:
        serving.until_ready(process)
        routing.unlink()
        os.mkfifo(routing)
        serving.until_logged(process, "it is a FIFO (named pipe)")
        assert serving.get("/admin/config") == 200
        process.send_signal(signal.SIGHUP)
        routing.unlink()
        routing.write_text(good)
        serving.until_logged(process, "is as the live revision 1 again")
        routing.unlink()
        os.mkfifo(routing)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.whole
def test_routes_live_shows_what_the_process_has_and_why_the_file_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = Serving(tmp_path)
    routing = tmp_path / "routing.yaml"

    def live(*more: str) -> tuple[int, str, str]:
        code = main(["routes", "--live", "-c", str(serving.conf), *more])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    code, out, err = live()
    assert (code, out) == (1, "")
    assert f"{serving.admin}: connection refused; does the gateway run? {serving.conf} has it at" in err
    with serving.started() as process:
        serving.until_ready(process)
        code, out, err = live()
        assert code == 0
        assert "/fast/{id}" in out
        assert f"revision 1 of {routing}, live since " in err
        routing.write_text(ROUTING + "  - { name: x, path: /x/*, target: fast }\n")
        serving.until_logged(process, "was refused")
        code, out, err = live("--json")
        assert code == 1
        assert {row["name"] for row in json.loads(out)} == {"fast", "own", "open"}
        assert "the file differs: it was refused at " in err
        assert "routes[3].path" in err and "write path: /x/{rest*}" in err
        routing.unlink()
        routing.mkdir()
        code, out, err = live()
        assert code == 1
        assert "it is a directory" in err
        routing.rmdir()
        routing.write_text(ROUTING)
        serving.until_logged(process, "is as the live revision 1 again")
        assert live()[0] == 0


@pytest.mark.whole
def test_sighup_loads_the_config_again(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with serving.started() as process:
        serving.until_ready(process)
        (tmp_path / "routing.yaml").write_text("version: 1\n")
        process.send_signal(signal.SIGHUP)
        serving.until_logged(process, "Revision 2")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


ADMIN_FAILS = """
import sys
from gateway import application as app

def failing(*_):
    raise LookupError("the admin listener fails")

class Gateway(app.Gateway):
    async def drain(self):
        await super().drain()
        print("drained", self.listener.is_open, flush=True)

app.admin.install = failing
app.Gateway = Gateway
sys.exit(app.run(sys.argv[1], supervise=False))
"""


TERMINATED_EARLY = """
import os, signal, sys
from gateway.application import run

def on_ready(gateway):
    os.kill(os.getpid(), signal.SIGTERM)

sys.exit(run(sys.argv[1], supervise=False, on_ready=on_ready))
"""


@pytest.mark.whole
def test_a_sigterm_in_the_moment_when_it_gets_ready_is_not_lost(tmp_path: Path) -> None:
    """Whoever waits for /readyz may send it before ASAB's own run time has begun."""
    with Serving(tmp_path).started("-c", TERMINATED_EARLY) as process:
        assert process.wait(30) == 0


TERMINATED_WHILE_IT_IS_BUILT = """
import asyncio, os, signal, sys
from gateway import application as app

class Gateway(app.Gateway):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        os.kill(os.getpid(), signal.SIGTERM)

    async def start(self):
        await asyncio.Event().wait()

app.Gateway = Gateway
sys.exit(app.run(sys.argv[1], supervise=False))
"""


@pytest.mark.whole
def test_a_sigterm_before_its_event_loop_runs_is_not_lost(tmp_path: Path) -> None:
    """What starts may take long: a database that is away, a backend that does not get healthy."""
    with Serving(tmp_path).started("-c", TERMINATED_WHILE_IT_IS_BUILT) as process:
        assert process.wait(30) == 0


@pytest.mark.whole
def test_what_fails_after_the_start_drains_before_it_ends(tmp_path: Path) -> None:
    serving = Serving(tmp_path, more="pre_stop = 90")
    with serving.started("-c", ADMIN_FAILS) as process:
        assert process.wait(30) == 1
    assert "drained False" in serving.log.read_text()
    assert "the admin listener fails" in serving.log.read_text()


@pytest.mark.whole
def test_it_serves_on_when_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output, serving.started(*UP, stdout=output) as process:
        serving.until_ready(process)
        meanwhile(0.3)
        assert serving.get("/readyz") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.whole
def test_while_it_drains_it_is_alive_and_not_ready_and_a_second_sigterm_ends_it_at_once(
    tmp_path: Path,
) -> None:
    serving = Serving(tmp_path, more="pre_stop = 90")
    with serving.started() as process:
        serving.until_ready(process)
        process.send_signal(signal.SIGTERM)
        poll(lambda: serving.get("/readyz") == 503)
        assert serving.get("/livez") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1, "0 would be the end of the drain"


@pytest.mark.whole
@pytest.mark.parametrize("which", ["public", "admin"])
def test_a_port_in_use_is_a_clear_message_and_exit_code_1(tmp_path: Path, which: str) -> None:
    serving = Serving(tmp_path)
    port = int(getattr(serving, which).rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), serving.started() as process:
        assert process.wait(30) == 1
    shown = serving.log.read_text()
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use by " in shown
    assert f"(pid {os.getpid()})" in shown
    section = {"public": "gateway", "admin": "admin"}[which]
    assert f"choose another port ([{section}] listen in {serving.conf})" in shown.replace("\n", "")
    assert "Traceback" not in shown


@pytest.mark.whole
def test_ports_in_use_are_told_all_at_once(tmp_path: Path) -> None:
    """Who runs a second copy meets both: mending one must not only lead to the next."""
    serving = Serving(tmp_path)
    ports = [int(address.rpartition(":")[2]) for address in (serving.public, serving.admin)]
    one, other = (socket.create_server(("127.0.0.1", port)) for port in ports)
    with one, other, serving.started() as process:
        assert process.wait(30) == 1
    shown = serving.log.read_text()
    for port in ports:
        assert f"cannot listen on 127.0.0.1:{port}: the port is in use by " in shown
    assert "Traceback" not in shown


@pytest.mark.whole
def test_an_admin_address_that_is_the_public_one_by_another_name_ends_the_start(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    text, port = serving.conf.read_text(), serving.public.rpartition(":")[2]
    before, _, after = text.partition("[admin]")
    rest = after.partition("\n\n")[2]
    serving.conf.write_text(f"{before}[admin]\nlisten = localhost:{port}\n\n{rest}")
    with serving.started() as process:
        assert process.wait(30) == 1
    shown = serving.log.read_text().replace("\n", "")
    assert f"localhost:{port} is taken by [gateway] listen" in shown
    assert "is ready" not in shown


@pytest.mark.whole
def test_a_bad_routing_config_at_the_start_is_exit_code_1_with_its_problems(tmp_path: Path) -> None:
    serving = Serving(tmp_path, BAD)
    with serving.started() as process:
        assert process.wait(30) == 1
    shown = serving.log.read_text()
    for line, where, _ in EXPECTED:
        assert f"routing.yaml:{line}  {where}" in shown.replace("\n", "")
    assert "Traceback" not in shown


WITHOUT = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("redis", "hiredis", "kazoo", "motor", "pymongo", "bson"):
            print("WANTED", name, file=sys.stderr, flush=True)
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refuses())
sys.argv = ["gateway", "up", "-c", sys.argv[1]]
from gateway.__main__ import main
sys.exit(main())
"""


@pytest.mark.whole
def test_on_the_embedded_store_nothing_of_redis_zookeeper_or_mongodb_is_needed_or_imported(
    tmp_path: Path,
) -> None:
    serving = Serving(tmp_path)
    with serving.started("-c", WITHOUT) as process:
        serving.until_ready(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "WANTED" not in serving.log.read_text()
