"""`gateway up` with backends that do not run: the rest is served, they are tried again, and it says so."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_serve import UP, Serving
from tests.process.test_supervisor import SERVER

pytestmark = pytest.mark.whole

BACKENDS = """
[backend:good]
command = {python} server.py {socket}
cwd = .

[backend:missing]
command = /nowhere/at/all --secret-argument
cwd = .

[backend:crashing]
command = {python} crash.py {socket}
cwd = .

[backend:sick]
command = {python} server.py {socket} sick
cwd = .
health = /status?full=1
start_timeout = 0.5
"""


def states(serving: Serving) -> dict[str, Any]:
    with urllib.request.urlopen(serving.admin + "/admin/backends", timeout=30) as response:
        return {state["name"]: state for state in json.load(response)["backends"]}


def test_broken_backends_are_said_and_tried_again_while_the_others_are_served(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.conf.write_text(serving.conf.read_text() + BACKENDS)
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "crash.py").write_text("raise SystemExit('no database, says the crashing one')\n")
    with serving.started(*UP) as process:
        serving.until_ready(process)
        serving.until_logged(process, "Ctrl-C stops all of it")
        banner = serving.log.read_text().partition("The gateway is ready")[2].replace("\n", " ")
        assert "Backend missing does not run: cannot run /nowhere/at/all" in banner
        assert "Backend crashing does not run: it exited with code 1" in banner
        assert "no database, says the crashing one" in banner
        assert "Backend sick does not run: /status?full=1 did not answer 200 within 0.5 s" in banner
        assert banner.count("All else is served") == 3
        assert "secret-argument" not in serving.log.read_text()
        assert states(serving)["good"]["state"] == "running"
        assert "exited with code 1" in states(serving)["crashing"]["failure"]
        (tmp_path / "crash.py").write_text(SERVER)
        serving.until_logged(process, "backend crashing is healthy again")
        assert states(serving)["crashing"]["failure"] is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_sigterm_while_a_backend_starts_ends_it_with_exit_code_0(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.conf.write_text(serving.conf.read_text() + "[backend:slow]\ncommand = sleep 60\n")
    with serving.started(*UP) as process:
        serving.until_logged(process, "waiting for backend slow to become healthy, at most 10 s")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_second_up_is_told_by_pid_before_it_touches_anything(tmp_path: Path) -> None:
    """It has ports of its own, so nothing else would tell."""
    first = Serving(tmp_path)
    good = "[backend:good]\ncommand = {python} server.py {socket}\ncwd = .\n"
    first.conf.write_text(first.conf.read_text() + good)
    (tmp_path / "server.py").write_text(SERVER)
    with first.started(*UP) as process:
        first.until_ready(process)
        second = Serving(tmp_path)
        second.conf.write_text(second.conf.read_text() + good)
        second.log = tmp_path / "log.second"
        with second.started(*UP) as other:
            assert other.wait(30) == 1
        shown = second.log.read_text()
        assert f"gateway up (pid {process.pid}, listening on {first.public.removeprefix('http://')}" in shown
        assert "Traceback" not in shown
        assert "backend good" not in shown
        state = states(first)["good"]
        assert (state["state"], state["restarts"]) == ("running", 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_two_serve_on_one_data_folder_are_served_both(tmp_path: Path) -> None:
    first = Serving(tmp_path)
    with first.started() as one:
        first.until_ready(one)
        second = Serving(tmp_path)
        second.log = tmp_path / "log.second"
        with second.started() as other:
            second.until_ready(other)
            for process in (one, other):
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
