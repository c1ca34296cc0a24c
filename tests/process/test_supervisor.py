"""The supervisor, with real child processes on real unix sockets."""

import asyncio
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gateway.process import supervisor as supervisor_module
from gateway.process.child_process import LINE_LIMIT
from gateway.process.supervisor import ChildSpec, Supervisor, back_off
from tests.eventually import AT_ONCE, eventually, nothing_for

SERVER = """
import os, signal, socket, sys
path, *flags = sys.argv[1:]
print("hello from", os.getpid(), flush=True)
if "deaf" in flags:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "fork" in flags and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("worker", os.getpid(), flush=True)
    signal.pause()
if "daemon" in flags and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("daemon", os.getpid(), flush=True)
        os.close(1), os.close(2)
        signal.pause()
    os._exit(0)
if "leaves" in flags:
    os._exit(0)
if "noisy" in flags:
    sys.stderr.buffer.write(b"caf\\xe9\\n" + b"x" * 200_000 + b"\\nafter\\n")
    sys.stderr.flush()
status = b"503 Away" if "sick" in flags else b"200 OK"
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    if "hangs" in flags:
        signal.pause()
    connection.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\n\\r\\n")
    connection.close()
"""

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(dir="/tmp"))  # short: a unix socket's path has at most 107 bytes
    (path / "server.py").write_text(SERVER)
    (path / "wsgi.py").write_text(WSGI)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def supervise():
    """A supervisor that is stopped when the test ends, however it ends."""
    made = []

    def make(*specs, **options):
        made.append(Supervisor(specs, **{"grace": 3.0, **options}))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop()


def spec(folder, name="one", *flags, **more):
    path = str(folder / f"{name}.sock")
    command = (sys.executable, str(folder / "server.py"), path, *flags)
    return ChildSpec(name, command, {}, str(folder), path, **more)


def gunicorn_spec(folder):
    path = str(folder / "wsgi.sock")
    command = (
        *(sys.executable, "-m", "gunicorn", "wsgi:application", "--bind", f"unix:{path}"),
        *("--worker-class", "gthread", "--threads", "2", "--no-control-socket"),
    )
    return ChildSpec("wsgi", command, {}, str(folder), path)


def alive(pid):
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs_again(supervisor):
    state = supervisor.states()[0]
    return state["restarts"] == 1 and state["state"] == "running"


until = eventually


async def test_all_children_are_healthy_when_start_returns_and_gone_when_stop_does(folder, supervise):
    supervisor = supervise(spec(folder, "one"), spec(folder, "two"))
    await supervisor.start()
    states = supervisor.states()
    assert [(state["name"], state["state"], state["restarts"]) for state in states] == [
        ("one", "running", 0),
        ("two", "running", 0),
    ]
    assert all(abs(state["started_at"] - time.time()) < 30 for state in states)
    await supervisor.stop()
    await supervisor.stop()
    assert not any(alive(state["pid"]) for state in states)
    assert not list(folder.glob("*.sock"))
    assert [(s["state"], s["pid"], s["last_exit"]) for s in supervisor.states()] == [
        ("stopped", None, "killed by SIGTERM")
    ] * 2


async def test_two_stops_at_once_both_return_when_nothing_is_left(folder, supervise):
    supervisor = supervise(spec(folder))
    await supervisor.start()
    pid = supervisor.states()[0]["pid"]
    await asyncio.gather(supervisor.stop(), supervisor.stop())
    assert not alive(pid)


async def test_a_killed_child_serves_again(folder, supervise):
    events = []
    supervisor = supervise(spec(folder), on_event=lambda name, event: events.append((name, event)))
    await supervisor.start()
    os.kill(supervisor.states()[0]["pid"], signal.SIGKILL)
    await until(lambda: runs_again(supervisor))
    assert supervisor.states()[0]["last_exit"] == "killed by SIGKILL"
    await supervisor.stop()
    assert events == [("one", e) for e in ("healthy", "exited", "restarting", "healthy", "stopped")]


async def test_a_worker_that_outlives_its_killed_master_is_gone_before_the_new_start(folder, supervise):
    alive_at_restart = []
    workers = []

    def on_event(name, event):
        if event == "restarting":
            alive_at_restart.append(alive(workers[0]))

    supervisor = supervise(spec(folder, "one", "fork"), on_event=on_event)
    await supervisor.start()
    master = supervisor.states()[0]["pid"]
    workers.extend(children_of(master))
    assert len(workers) == 1
    assert alive(workers[0])
    os.kill(master, signal.SIGKILL)
    await until(lambda: alive_at_restart)
    assert alive_at_restart == [False]


async def test_gunicorn_is_restarted_after_its_master_is_killed_and_stops_with_its_worker(folder, supervise):
    supervisor = supervise(gunicorn_spec(folder))
    await supervisor.start()
    master = supervisor.states()[0]["pid"]
    (worker,) = children_of(master)
    os.kill(master, signal.SIGKILL)
    await until(lambda: runs_again(supervisor))
    assert not alive(worker)
    master = supervisor.states()[0]["pid"]
    (worker,) = children_of(master)
    await supervisor.stop()
    assert not alive(master)
    assert not alive(worker)
    assert supervisor.states()[0]["last_exit"] == "exited with code 0"


async def test_a_child_that_ignores_sigterm_is_killed_with_its_group_after_the_grace(folder, supervise):
    supervisor = supervise(spec(folder, "one", "deaf", "fork"), grace=0.3)
    await supervisor.start()
    pid = supervisor.states()[0]["pid"]
    group = [pid, *children_of(pid)]
    began = time.monotonic()
    await supervisor.stop()
    assert 0.3 <= time.monotonic() - began < AT_ONCE
    assert not any(map(alive, group))
    assert supervisor.states()[0]["last_exit"] == "killed by SIGKILL"


async def test_a_worker_that_ignores_sigterm_is_killed_though_its_master_ended(folder, supervise):
    supervisor = supervise(spec(folder, "one", "fork"), grace=0.3)
    await supervisor.start()
    (worker,) = children_of(supervisor.states()[0]["pid"])
    await supervisor.stop()
    assert not alive(worker)


async def test_output_is_logged_by_name_with_long_lines_in_pieces_and_bad_bytes_replaced(
    folder, supervise, caplog
):
    caplog.set_level(logging.INFO, "gateway.backend.one")
    supervisor = supervise(spec(folder, "one", "noisy"))
    await supervisor.start()
    await until(lambda: "after" in caplog.messages)
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.backend.one"]
    assert lines[0] == f"hello from {supervisor.states()[0]['pid']}"
    assert lines[1] == "caf\ufffd"
    assert "".join(lines[2:-1]) == "x" * 200_000
    assert max(map(len, lines)) == LINE_LIMIT


async def test_what_a_child_prints_is_logged_without_secrets(folder, supervise, caplog):
    caplog.set_level(logging.INFO)
    script = (
        "print('db=postgres://u:hunter2@h/d PASSWORD=hunter2 Authorization: Bearer hunter2hunter2', 'fine')"
    )
    broken = ChildSpec("broken", (sys.executable, "-c", script), {}, str(folder), str(folder / "b.sock"))
    supervisor = supervise(broken)
    await supervisor.start()
    (failure,) = supervisor.failures
    assert "fine" in caplog.text
    assert "fine" in str(failure)
    assert "hunter2" not in caplog.text + str(failure)


async def test_a_child_that_dies_at_its_first_start_fails_it_with_its_last_lines(folder, supervise):
    script = "for n in range(30): print('line', n)\nraise SystemExit(3)"
    broken = ChildSpec("broken", (sys.executable, "-c", script), {}, str(folder), str(folder / "b.sock"))
    supervisor = supervise(spec(folder, "one"), broken)
    await supervisor.start()
    (failure,) = supervisor.failures
    assert failure.name == "broken"
    assert failure.lines == tuple(f"line {n}" for n in range(10, 30))
    assert "exited with code 3" in str(failure)
    assert "\n    line 29" in str(failure)
    states = {state["name"]: state for state in supervisor.states()}
    assert (states["one"]["state"], states["one"]["failure"]) == ("running", None)
    assert states["broken"]["failure"] == failure.reason


async def test_a_child_that_is_not_healthy_in_time_fails_the_first_start_and_is_gone(folder, supervise):
    supervisor = supervise(spec(folder, "one", "sick", start_timeout=2.0))
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: supervisor.states()[0]["pid"])
    pid = supervisor.states()[0]["pid"]
    await starting
    (failure,) = supervisor.failures
    assert failure.reason == "/healthz did not answer 200 within 2 s (it answered 503)"
    assert "health and start_timeout in [backend:one]" in failure.hint
    assert not alive(pid)


async def test_a_daemon_that_a_child_made_is_gone_when_its_child_is(folder, supervise, caplog):
    caplog.set_level(logging.INFO)
    supervisor = supervise(spec(folder, "one", "daemon"))
    await supervisor.start()
    daemon = int((await until(lambda: re.search(r"daemon (\d+)", caplog.text)))[1])
    assert alive(daemon)
    await supervisor.stop()
    assert not alive(daemon)


async def test_a_child_that_makes_itself_a_daemon_is_told_to_stay(folder, supervise):
    supervisor = supervise(spec(folder, "one", "leaves"))
    await supervisor.start()
    (failure,) = supervisor.failures
    assert "exited with code 0" in failure.reason
    assert "foreground" in failure.hint


async def test_a_child_that_takes_the_request_and_does_not_answer_is_said_to(folder, supervise):
    supervisor = supervise(spec(folder, "one", "hangs", start_timeout=2.0))
    await supervisor.start()
    (failure,) = supervisor.failures
    assert "does not answer" in failure.reason


async def test_a_child_that_does_not_listen_is_told_where_it_should(folder, supervise):
    deaf = ChildSpec("deaf", ("sleep", "60"), {}, str(folder), str(folder / "d.sock"), start_timeout=0.2)
    supervisor = supervise(deaf)
    await supervisor.start()
    assert supervisor.failures[0].reason.endswith(f"(nothing listens on {folder}/d.sock)")
    assert "unix:{socket}" in supervisor.failures[0].hint


async def test_one_that_fails_at_first_is_tried_until_it_is_healthy_and_that_is_said(
    folder, supervise, caplog
):
    caplog.set_level(logging.WARNING, "gateway.supervisor")
    (folder / "server.py").rename(folder / "away.py")
    supervisor = supervise(spec(folder))
    await supervisor.start()
    assert "all else is served; it is started again in 0.1 s" in caplog.text
    await until(lambda: supervisor.states()[0]["restarts"] >= 2)
    assert caplog.text.count("all else is served") == 1  # the same reason again is not news
    (folder / "away.py").rename(folder / "server.py")
    await until(lambda: supervisor.states()[0]["state"] == "running")
    assert supervisor.failures == []
    assert "backend one is healthy again, after" in caplog.text


async def test_one_that_is_never_healthy_waits_longer_and_longer(folder, supervise):
    """However long each start took: it is the time in health that says that a child is well."""
    waits = []
    supervisor = supervise(spec(folder, "one", "sick", start_timeout=0.1))
    supervisor._children[0]._log.failed = lambda failure, delay: waits.append(delay)
    await supervisor.start()
    await until(lambda: len(waits) >= 3)
    assert waits[:3] == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(("status", "healthy"), [("204 No Content", True), ("302 Found", False)])
async def test_any_2xx_is_healthy_and_nothing_else(folder, supervise, status, healthy):
    server = (folder / "server.py").read_text().replace("200 OK", status)
    (folder / "server.py").write_text(server)
    supervisor = supervise(spec(folder, start_timeout=20.0 if healthy else 0.5))
    await supervisor.start()
    assert (supervisor.failures == []) is healthy


async def test_a_command_that_is_not_there_is_named(folder, supervise):
    gone = ChildSpec("gone", ("/nowhere/gunicorn",), {}, str(folder), str(folder / "g.sock"))
    supervisor = supervise(gone)
    await supervisor.start()
    (failure,) = supervisor.failures
    assert failure.reason == "cannot run /nowhere/gunicorn: there is no such program"
    assert "command and cwd in [backend:gone]" in failure.hint


async def test_a_folder_that_is_not_there_is_named(folder, supervise):
    gone = ChildSpec("gone", (sys.executable,), {}, "/nowhere/at/all", str(folder / "g.sock"))
    supervisor = supervise(gone)
    await supervisor.start()
    assert "/nowhere/at/all" in supervisor.failures[0].reason


async def test_the_socket_of_a_dead_process_is_removed_before_the_start(folder, supervise):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / "one.sock"))
    stale.close()
    supervisor = supervise(spec(folder))
    await supervisor.start()
    assert supervisor.states()[0]["state"] == "running"


async def test_the_socket_of_a_live_process_is_left_alone_and_fails_the_start(folder, supervise):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "one.sock"))
        other.listen()
        supervisor = supervise(spec(folder, start_timeout=0.2))
        await supervisor.start()
        assert "another process listens on" in supervisor.failures[0].reason
    assert (folder / "one.sock").is_socket()


async def test_a_file_in_the_socket_s_place_is_left_alone_and_fails_the_start(folder, supervise):
    (folder / "one.sock").write_text("precious")
    supervisor = supervise(spec(folder))
    await supervisor.start()
    assert "is in the way and is not a socket" in supervisor.failures[0].reason
    assert (folder / "one.sock").read_text() == "precious"


async def test_a_child_that_is_backing_off_is_not_started_again_once_stopped(folder, supervise):
    supervisor = supervise(spec(folder))
    await supervisor.start()
    (folder / "server.py").write_text("raise SystemExit(1)")
    os.kill(supervisor.states()[0]["pid"], signal.SIGKILL)
    await until(lambda: supervisor.states()[0]["state"] == "backing-off")
    await supervisor.stop()
    stopped = supervisor.states()[0]
    await nothing_for(0.4)
    assert supervisor.states()[0] == stopped
    assert (stopped["state"], stopped["pid"]) == ("stopped", None)


async def test_a_child_that_cannot_be_started_again_is_tried_until_it_can(folder, supervise):
    supervisor = supervise(spec(folder))
    await supervisor.start()
    (folder / "server.py").rename(folder / "away.py")
    os.kill(supervisor.states()[0]["pid"], signal.SIGKILL)
    await until(lambda: supervisor.states()[0]["last_exit"] == "exited with code 2")
    (folder / "away.py").rename(folder / "server.py")
    await until(lambda: supervisor.states()[0]["state"] == "running")
    assert supervisor.states()[0]["restarts"] >= 2


async def test_stopping_while_starting_ends_the_start_and_the_child(folder, supervise):
    supervisor = supervise(spec(folder, "one", "sick"))
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: supervisor.states()[0]["pid"])
    pid = supervisor.states()[0]["pid"]
    await supervisor.stop()
    await starting
    assert supervisor.failures[0].reason == "it was stopped"
    assert not alive(pid)


async def test_cancelling_the_start_stops_what_was_started(folder, supervise):
    supervisor = supervise(spec(folder, "one", "sick"), spec(folder, "two"))
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: all(state["pid"] for state in supervisor.states()))
    pids = [state["pid"] for state in supervisor.states()]
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not any(map(alive, pids))


async def test_a_child_gets_its_own_environment_added_to_the_gateway_s(folder, supervise, monkeypatch):
    monkeypatch.setenv("FROM_GATEWAY", "passed on")
    script = "import os; print(os.environ['FROM_GATEWAY'], os.environ['OWN']); raise SystemExit(1)"
    command = (sys.executable, "-c", script)
    child = ChildSpec("env", command, {"OWN": "added"}, str(folder), str(folder / "e.sock"))
    supervisor = supervise(child)
    await supervisor.start()
    assert supervisor.failures[0].lines == ("passed on added",)


@pytest.mark.parametrize(("host", "in_url"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_a_child_on_tcp_is_ready_when_its_whole_health_url_answers(folder, supervise, host, in_url):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        try:
            free.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "http.server", "--bind", host, str(port))
    supervisor = supervise(ChildSpec("tcp", command, {}, str(folder), "", f"http://{in_url}:{port}/"))
    await supervisor.start()
    assert supervisor.states()[0]["state"] == "running"


async def test_without_pidfd_a_death_is_noticed_too(folder, supervise, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")  # as on macOS, and in sandboxes that refuse it
    supervisor = supervise(spec(folder))
    await supervisor.start()
    os.kill(supervisor.states()[0]["pid"], signal.SIGKILL)
    await until(lambda: runs_again(supervisor))
    assert supervisor.states()[0]["last_exit"] == "killed by SIGKILL"


def test_the_back_off_doubles_from_100_ms_to_10_s_and_begins_anew_after_10_s_of_running():
    delays = [0.0]
    for _ in range(9):
        delays.append(back_off(delays[-1], ran=0.5))
    assert delays[1:] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert back_off(10.0, ran=10.0) == 0.1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (((), {}, "/", "/tmp/s"), "no command"),
        ((("x",), {}, "/", "/tmp/" + "s" * 103), "over 107 bytes"),
        ((("x",), {}, "/", ""), "whole URL"),
        ((("x",), {}, "/", "", "https://127.0.0.1:9/"), "whole URL"),
        ((("x",), {}, "/", "", "http://127.0.0.1:0/"), "backend bad.*whole URL"),
        ((("x",), {}, "/", "", "http://127.0.0.1:99999/"), "backend bad.*whole URL"),
        ((("x",), {}, "/", "", "http://[::1:9/"), "backend bad.*whole URL"),
    ],
)
def test_a_spec_that_could_never_be_supervised_is_refused(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        ChildSpec("bad", *arguments)


def test_two_children_of_one_name_are_refused(folder):
    with pytest.raises(ValueError, match="one name"):
        Supervisor([spec(folder), spec(folder)])


@pytest.mark.parametrize("where", ["_becomes_healthy", "_exit", "on_event"])
async def test_a_bug_does_not_end_the_supervision_of_a_backend(folder, supervise, monkeypatch, where) -> None:
    failures = []

    def fails(*_: object) -> None:
        if len(failures) < 2:
            failures.append(where)
            raise KeyError("a bug")

    if where == "on_event":
        supervisor = supervise(spec(folder), on_event=fails)
    else:
        real = getattr(supervisor_module._Child, where)
        monkeypatch.setattr(supervisor_module._Child, where, lambda *a: fails() or real(*a))
        supervisor = supervise(spec(folder))
    await supervisor.start()
    await eventually(lambda: supervisor.states()[0]["state"] == "running")
    os.kill(supervisor.states()[0]["pid"], signal.SIGKILL)
    await eventually(lambda: supervisor.states()[0]["restarts"] > 0)
    await eventually(lambda: supervisor.states()[0]["state"] == "running" and failures)
