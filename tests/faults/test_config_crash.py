"""kill -9 in the middle of changes of the live config: the old one or the new one, and nothing half."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from tests.eventually import END

ROUNDS = 20  # a few hundred with `python -m tests.faults.config_crash`


def test_a_kill_leaves_the_old_or_the_new_config_its_author_and_a_whole_audit(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    command = [sys.executable, "-m", "tests.faults.config_crash", str(tmp_path), str(ROUNDS), str(seed)]
    ended = subprocess.run(command, capture_output=True, timeout=3 * END, check=False)
    about = f"seed {seed}: {ended.stdout.decode()}{ended.stderr.decode()}"
    rounds = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(rounds) == ROUNDS, about
    assert not any(one["wrong"] for one in rounds), about
    assert rounds[-1]["head"] > ROUNDS / 4, about  # it was killed in changes, and not before them
