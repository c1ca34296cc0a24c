"""What a process has in use is read by another one, also when the first has been killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from gateway.runtime.processes.in_use import InUse

OWNER = """
import sys, time
from gateway.runtime.processes.in_use import InUse
table = InUse(int(sys.argv[1]))
table.own()
table.counts[7], table.until[7] = 3, 12.5
print("written", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_what_it_had_in_use() -> None:
    table = InUse.create()
    assert table.owner_ended  # none has begun
    command = [sys.executable, "-c", OWNER, str(table.descriptor)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[table.descriptor]) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"written\n"
        assert not table.owner_ended
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    assert table.owner_ended
    assert (table.counts[7], table.until[7], table.counts[6]) == (3, 12.5, 0)
    table.close()
