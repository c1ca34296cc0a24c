"""A run of a gateway on a data folder: whether it goes on is seen by others, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from gateway.config.nodes.run import Run
from tests.eventually import END

_RUN = """
import sys, time
from pathlib import Path
from gateway.config.nodes.run import Run
run = Run(Path(sys.argv[1]), "folder")
run.start()
print(run.id, flush=True)
time.sleep(60)
"""


def run(folder: Path, name: str = "folder") -> Run:
    made = Run(folder, name)
    made.start()
    return made


def test_one_that_goes_on_has_not_ended_and_one_that_closed_has(tmp_path: Path) -> None:
    one = run(tmp_path)
    other = run(tmp_path)
    assert one.is_ours(other.id) and other.is_ours(one.id)
    assert not one.has_ended(other.id) and not other.has_ended(one.id) and not one.has_ended(one.id)
    other.close()
    other.close()
    assert one.has_ended(other.id)
    one.close()
    assert list((tmp_path / "runs").iterdir()) == []


def test_of_one_elsewhere_nobody_knows_and_what_is_no_id_is_none(tmp_path: Path) -> None:
    here = run(tmp_path)
    elsewhere = run(tmp_path / "other", "another")
    elsewhere.close()
    for id in (elsewhere.id, "", "folder", "folder/../folder", "folder/x", f"folder/../{'0' * 32}"):
        assert not here.has_ended(id)
    assert not here.is_ours(elsewhere.id) and not here.is_ours("")
    here.close()


def test_one_that_was_killed_has_ended_and_leaves_nothing_for_long(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _RUN, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        here = run(tmp_path)
        assert not here.has_ended(id)
        process.send_signal(signal.SIGKILL)
        process.wait(END)
    assert here.has_ended(id)
    again = run(tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(
        one.id.rpartition("/")[2] for one in (here, again)
    )
    again.close()
    here.close()
