"""Names that one process tells another through a folder."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from gateway.store.sqlite.told_names import ToldNames
from tests.eventually import eventually

TELLER = """
import asyncio, sys
from pathlib import Path
from gateway.store.sqlite.told_names import ToldNames
async def main():
    told = ToldNames(Path(sys.argv[1]), print)
    told.listen()
    told.tell("acme")
    told.tell("globex")
    print(len(list(Path(sys.argv[1]).iterdir())), flush=True)  # and dies with its socket
asyncio.run(main())
"""


async def test_another_process_tells_and_one_that_died_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / "feeds"  # beyond what a socket's path may have
    heard: list[str] = []
    told = ToldNames(folder, heard.append)
    told.tell("nobody")  # there is no folder yet
    told.listen()
    told.listen()
    command = [sys.executable, "-c", TELLER, str(folder)]
    assert await asyncio.to_thread(subprocess.check_output, command, text=True) == "2\n"
    await eventually(lambda: sorted(heard) == ["acme", "globex"])
    assert len(list(folder.iterdir())) == 2
    told.tell("acme")  # nobody is there, and not itself
    await eventually(lambda: len(list(folder.iterdir())) == 1)
    told.rest()
    assert list(folder.iterdir()) == []
    told.close()
    assert len(heard) == 2


async def test_who_does_not_listen_in_time_loses_names_and_holds_up_nobody(tmp_path: Path) -> None:
    heard: list[str] = []
    slow, quick = ToldNames(tmp_path, heard.append), ToldNames(tmp_path, print)
    slow.listen()
    for number in range(5000):
        quick.tell(f"tenant-{number}")
    await eventually(lambda: "tenant-0" in heard)
    assert len(heard) < 5000
    slow.close()
    quick.close()
