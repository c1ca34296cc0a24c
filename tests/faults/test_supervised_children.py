"""`kill -9` of the process that supervises leaves no child behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.eventually import poll

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

PARENT = """
import asyncio, sys
from gateway.process.supervisor import ChildSpec, Supervisor

folder = sys.argv[1]

def gunicorn(name, *more):
    path = f"{folder}/{name}.sock"
    command = (sys.executable, "-m", "gunicorn", "wsgi:application", "--bind", f"unix:{path}",
               "--no-control-socket", *more)
    return ChildSpec(name, command, {}, folder, path)

async def main():
    threads = gunicorn("threads", "--worker-class", "gthread", "--threads", "2")
    supervisor = Supervisor([gunicorn("sync"), threads])
    await supervisor.start()
    print(*[state["pid"] for state in supervisor.states()], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def alive(pid):
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    (path / "wsgi.py").write_text(WSGI)
    yield path
    shutil.rmtree(path)


def test_kill_9_of_the_supervising_process_leaves_no_child(folder):
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        processes = []
        try:
            masters = [int(pid) for pid in parent.stdout.readline().split()]
            processes = masters + [worker for master in masters for worker in children_of(master)]
            assert len(processes) == 4
            assert all(map(alive, processes))
            parent.kill()
            parent.wait()
            poll(lambda: not any(map(alive, processes)), lambda: [pid for pid in processes if alive(pid)])
        finally:
            parent.kill()
            for pid in filter(alive, processes):
                os.kill(pid, signal.SIGKILL)
