"""Processes that the bench starts: pinned to a core, awaited until they answer, stopped by their group."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

from tests.bench import machine

_TICKS = os.sysconf("SC_CLK_TCK")
_READY, _STOP = 60.0, 8.0  # seconds


class ServerFailed(Exception):
    """A server did not start; the text holds the end of what it printed."""


class Server:
    """A process with its children, in a group of its own. Started by `with`, gone after it.

    It is ready when it answers HTTP on the port, whatever the status. Output goes to a file in the folder.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        folder: Path,
        core: int | None = machine.SERVER_CORE,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"{name}.out"
        self._command = machine.pinned(core) + command
        self._env = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def cpu_seconds(self) -> float:
        """CPU time that the processes of the group have used so far."""
        assert self._process is not None
        return sum(ticks for _, group, ticks in _processes() if group == self._process.pid) / _TICKS

    def cpu_of_each(self) -> dict[int, float]:
        """The same for each process of the group that is there."""
        assert self._process is not None
        return {pid: ticks / _TICKS for pid, group, ticks in _processes() if group == self._process.pid}

    def pids(self) -> list[int]:
        """The processes of the group."""
        assert self._process is not None
        return [pid for pid, group, _ in _processes() if group == self._process.pid]

    def _await_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if answers(self.port):
                return
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise ServerFailed(f"{self.name} does not answer on 127.0.0.1:{self.port}; it printed:\n{tail}")

    def _stop(self) -> None:
        process = self._process
        assert process is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(_STOP)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait()


def answers(port: int) -> bool:
    """Whether an HTTP server answers on this port of loopback."""
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
        return True
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _processes() -> list[tuple[int, int, int]]:
    """Process id, process group and used clock ticks of each process (proc(5), /proc/pid/stat)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text(errors="replace")
        except OSError:
            continue  # it has ended
        fields = text.rpartition(") ")[2].split()  # the name before it may hold anything
        found.append((int(entry.parent.name), int(fields[2]), int(fields[11]) + int(fields[12])))
    return found
