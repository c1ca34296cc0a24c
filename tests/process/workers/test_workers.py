"""`gateway serve` with two workers, as processes: who serves, who is replaced, and that nothing is left."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.eventually import poll
from tests.process.test_serve import Serving

TWO = "workers = 2"
PATH = "/.well-known/jwks.json"


def pids(serving: Serving) -> list[int]:
    """Of the workers, in the order in which they served."""
    return [int(pid) for pid in re.findall(r"worker \d+ \(pid (\d+)\) serves", serving.log.read_text())]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Clients:
    """Ask without a pause until told to stop: one on a kept connection, one on a new one each time."""

    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port
        self.served = 0
        self.failed: list[str] = []
        self._over = threading.Event()

    def _ask(self, *, keep: bool) -> None:
        connection = None
        while not self._over.is_set():
            try:
                connection = connection or http.client.HTTPConnection(self.host, self.port, timeout=30)
                connection.request("GET", PATH)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    self.failed.append(str(response.status))
                self.served += 1
                if response.will_close or not keep:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection = None
        if connection is not None:
            connection.close()

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, kwargs={"keep": keep}) for keep in (True, False)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


@pytest.mark.whole
def test_workers_are_replaced_under_load_and_none_is_left(tmp_path: Path) -> None:
    serving = Serving(tmp_path, more=TWO)
    clients = Clients(serving.public)
    with serving.started() as process:
        serving.until_ready(process)
        first = pids(serving)
        assert len(set(first)) == 2
        with clients.asking():
            process.send_signal(signal.SIGHUP)
            serving.until_logged(process, "All 2 workers were replaced")
        assert clients.failed == []
        assert clients.served > 0
        assert not any(map(is_there, first))
        killed = pids(serving)[2]
        os.kill(killed, signal.SIGKILL)
        serving.until(process, lambda: len(pids(serving)) == 5)
        serving.until_ready(process)
        assert f"(pid {killed}) died (signal 9, SIGKILL) and is replaced" in serving.log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    assert "Traceback" not in serving.log.read_text()


@pytest.mark.whole
def test_a_worker_that_is_told_to_end_is_replaced_first_and_no_client_is_lost(tmp_path: Path) -> None:
    serving = Serving(tmp_path, more=TWO)
    clients = Clients(serving.public)
    with serving.started() as process:
        serving.until_ready(process)
        told = pids(serving)[0]
        with clients.asking():
            os.kill(told, signal.SIGTERM)
            serving.until(process, lambda: len(pids(serving)) == 3 and not is_there(told))
            seen = clients.served
            serving.until(process, lambda: clients.served >= seen + 40 or clients.failed)
        assert clients.failed == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "Traceback" not in serving.log.read_text()


@pytest.mark.whole
def test_workers_end_when_their_master_was_killed(tmp_path: Path) -> None:
    serving = Serving(tmp_path, more=TWO)
    with serving.started() as process:
        serving.until_ready(process)
        process.kill()
        process.wait(60)
        poll(lambda: not any(map(is_there, pids(serving))), serving.log.read_text)
        poll(lambda: not group_is_there(process), serving.log.read_text)


def group_is_there(process: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
