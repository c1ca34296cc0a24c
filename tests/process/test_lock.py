"""One `gateway up` for each data folder, and what a second one is told."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.core.process.listeners import Listen
from gateway.process.lock import FolderInUse, FolderLock, acquire

LISTEN = (Listen("127.0.0.1", 8080),)
HOLD = """
import sys, time
from pathlib import Path
from gateway.core.process.listeners import Listen
from gateway.process.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), [Listen("127.0.0.1", 8080)])
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_up_is_told_who_runs_where_and_what_to_do(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, LISTEN)
    with pytest.raises(FolderInUse) as caught:
        FolderLock(tmp_path, (Listen("127.0.0.1", 9090),))
    pid = os.getpid()
    assert f"gateway up (pid {pid}, listening on 127.0.0.1:8080) runs on the data folder" in str(caught.value)
    assert f"kill {pid}" in str(caught.value)
    assert "[gateway] data" in str(caught.value)
    lock.release()
    FolderLock(tmp_path, LISTEN).release()


def test_the_lock_of_a_killed_process_is_gone_and_what_it_wrote_means_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse, match=f"pid {process.pid}"):
            FolderLock(tmp_path, LISTEN)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert json.loads((tmp_path / "up.lock").read_text())["pid"] == process.pid
    acquire(tmp_path, LISTEN, supervise=False)
    lock = FolderLock(tmp_path, LISTEN)
    assert json.loads((tmp_path / "up.lock").read_text())["pid"] == os.getpid()
    lock.release()


@pytest.mark.parametrize("left", ["", "no json", "[]", "{}", '{"pid": 7}'])
def test_whatever_is_in_the_file_a_held_lock_is_a_message(tmp_path: Path, left: str) -> None:
    lock = FolderLock(tmp_path, LISTEN)
    (tmp_path / "up.lock").write_text(left)
    with pytest.raises(FolderInUse, match="runs on the data folder"):
        FolderLock(tmp_path, LISTEN)
    acquire(tmp_path, LISTEN, supervise=False)
    lock.release()


def test_serve_may_share_the_folder_but_not_the_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert acquire(tmp_path, LISTEN, supervise=False) is None
    assert not (tmp_path / "up.lock").exists()
    lock = acquire(tmp_path, LISTEN, supervise=True)
    assert lock is not None
    assert acquire(tmp_path, (Listen("127.0.0.1", 9090),), supervise=False) is None
    assert f"shares the data folder {tmp_path} with gateway up (pid {os.getpid()})" in caplog.text
    with pytest.raises(FolderInUse, match="8080"):
        acquire(tmp_path, (Listen("0.0.0.0", 8080),), supervise=False)
    lock.release()


def test_the_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, LISTEN)
    assert (tmp_path / "up.lock").stat().st_mode & 0o777 == 0o600
    lock.release()


def test_who_only_looks_at_the_lock_keeps_no_up_from_its_start(tmp_path: Path) -> None:
    """`serve` holds it for the moment that its look takes."""
    FolderLock(tmp_path, LISTEN).release()
    looking = os.open(tmp_path / "up.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [looking]).start()
    FolderLock(tmp_path, LISTEN).release()
