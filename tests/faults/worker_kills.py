"""Workers are killed under load: `kill -9` again and again, while a backend counts what is inside it.

    python -m tests.faults.worker_kills FOLDER KILLS [WORKERS] [--shared redis://...]

A gateway with workers, and a backend of 8 threads that takes note of the most requests that it ever had at
once; clients keep twice as many under way. Each kill is of a random worker at a random moment. Prints one
JSON line: kills, responses by status, connections that the kills cut, the most that was inside, and how many
seconds after a kill all 8 threads had work again. Meanwhile it says on standard error how far it is.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.eventually import meanwhile, poll
from tests.process.test_serve import Serving

SEATS = 8
_CLIENTS = 16
_SERVICE = (0.005, 0.06)  # seconds that a request takes
_TOLD = 10  # kills from one word about them to the next
_CALM = 5.1  # seconds between two kills: three in ten were a storm, and replaced later
_ROUTING = """version: 1
backends:
  slow: {{ kind: gunicorn, threads: 8, addresses: ["unix:{}"] }}
routes:
  - {{ name: slow, path: "/{{rest*}}", target: slow, public: true, timeouts: {{ queue: 30s }} }}
"""


class CountingBackend(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A backend with threads: what one has begun, it ends, whether its client is there or not. most: inside
    at once, ever."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.inside = self.most = self.served = 0
        self._chance = chance
        self._lock = threading.Lock()
        super().__init__(str(path), Connection)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def work(self) -> None:
        """What a request takes."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            seconds = self._chance.uniform(*_SERVICE)
        meanwhile(seconds)
        with self._lock:
            self.inside -= 1
            self.served += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is none."""


class Connection(socketserver.StreamRequestHandler):
    """Serves what comes over one connection."""

    server: CountingBackend

    def handle(self) -> None:
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            self.server.work()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Clients:
    """Ask without a pause, each on a connection of its own."""

    def __init__(self, url: str, number: int) -> None:
        self.found: Counter[str] = Counter()
        self._host = urlsplit(url).netloc
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(number)]
        for thread in self._threads:
            thread.start()

    def _ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=60)
        while not self._over.is_set():
            try:
                connection.request("GET", "/x")
                response = connection.getresponse()
                response.read()
                self.found[str(response.status)] += 1
            except (OSError, http.client.HTTPException):
                self.found["cut"] += 1
                keep_now = False
                meanwhile(0.01)
            else:
                keep_now = keep
            if not keep_now:
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def workers_of(master: int) -> list[int]:
    """Children of the fork server, which is a child of the master."""
    return [worker for server in _children(master) for worker in _children(server)]


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def run(
    folder: Path,
    kills: int,
    workers: int = 2,
    seed: int = 1,
    say: Callable[[str], None] = lambda text: None,
    shared: str = "",
) -> dict[str, Any]:
    """What the line says. folder: made, if it is not there. shared: `[shared] uri`, "" for none."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    backend = CountingBackend(folder / "backend.sock", chance)
    serving = Serving(folder, _ROUTING.format(folder / "backend.sock"), f"workers = {workers}")
    if shared:
        serving.conf.write_text(f"{serving.conf.read_text()}\n[shared]\nuri = {shared}\n")
    recoveries: list[float] = []
    try:
        with serving.started() as process:
            serving.until_ready(process)
            clients = Clients(serving.public, _CLIENTS)
            try:
                for number in range(1, kills + 1):
                    recoveries.append(_kill(serving, process, backend, chance, workers))
                    if number % _TOLD == 0:
                        say(f"{number} of {kills} kills, at most {backend.most} of {SEATS} seats taken")
                    if number < kills and kills > 2:
                        meanwhile(max(0.0, _CALM - recoveries[-1]))
            finally:
                clients.stop()
            process.terminate()
            process.wait(60)
    finally:
        backend.shutdown()
        backend.server_close()
    recoveries.sort()
    return {
        "kills": kills, "responses": dict(clients.found), "most": backend.most, "served": backend.served,
        "recovery_p50": round(recoveries[len(recoveries) // 2], 3), "recovery_max": round(recoveries[-1], 3),
    }  # fmt: skip


def _kill(
    serving: Serving,
    process: subprocess.Popen[bytes],
    backend: CountingBackend,
    chance: random.Random,
    workers: int,
) -> float:
    """Kill a worker once all are there. Returns the seconds after which all threads had work again."""
    serving.until(process, lambda: len(workers_of(process.pid)) == workers)
    serving.until_ready(process)
    poll(lambda: backend.inside == SEATS)
    meanwhile(chance.uniform(0.0, 0.1))
    os.kill(chance.choice(workers_of(process.pid)), signal.SIGKILL)
    began = time.monotonic()
    meanwhile(_SERVICE[1])  # until then, what is inside may be of the dead one
    poll(lambda: backend.inside == SEATS)
    return time.monotonic() - began


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.worker_kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of the gateway and the backend; made, if it is not there")
    parser.add_argument("kills", type=count, help=f"one every {_CALM:g} s")
    parser.add_argument("workers", type=count, nargs="?", default=2, help="default 2")
    parser.add_argument("--shared", metavar="URI", default="", help="of the Redis that keeps the seats")
    given = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    done = run(given.folder.absolute(), given.kills, given.workers, say=say, shared=given.shared)
    print(json.dumps(done))


def count(text: str) -> int:
    """At least one. Raises ValueError."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    main()
