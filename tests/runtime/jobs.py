"""Jobs for worker processes: functions of a module, as the pool wants them."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from gateway.runtime.processes.worker import phase


def fails() -> None:
    raise KeyError("a bug")


class Refused(Exception):
    pass


def refuses(_: bytes) -> None:
    raise Refused


class Unsendable(Exception):
    def __init__(self, one: object, two: object) -> None:
        super().__init__("one")


def fails_unsendably() -> None:
    raise Unsendable(1, 2)


def takes_memory(size: int) -> int:
    return len(bytearray(size).replace(b"\0", b"\1"))


def aborts() -> None:
    """As an allocator does that gives up."""
    os.abort()


def works_and_fails(seconds: float) -> None:
    works(seconds)
    raise KeyError("why")


def spins() -> None:
    while True:
        pass


def spins_in_a_part(number: int, seconds: float) -> None:
    phase(number, seconds)
    spins()


def works_in_parts(parts: int, seconds: float) -> None:
    """Each of them within its time."""
    for number in range(parts):
        phase(number, 2 * seconds)
        works(seconds)


def waits(path: Path) -> int:
    """Until the file is there; its process."""
    while not path.exists():
        select.select([], [], [], 0.01)
    return os.getpid()


def begins_and_waits(begun: Path, path: Path) -> int:
    begun.touch()
    return waits(path)


def touches(path: Path) -> None:
    path.touch()


def asks_its_own_end(number: int) -> int:
    os.kill(os.getpid(), number)
    return os.getpid()


def works(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def open_files() -> list[str]:
    """What a worker has open but for its three standard ones."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    links = [f"/proc/self/fd/{number}" for number in numbers if number > 2]
    return [os.readlink(link) for link in links if os.path.lexists(link)]


kept: list[bytearray] = []


def keeps_memory(size: int) -> None:
    kept.append(bytearray(b"x") * size)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
