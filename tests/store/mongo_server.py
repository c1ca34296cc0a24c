"""A server that speaks MongoDB's protocol: the one that GATEWAY_TEST_MONGODB_URI names, or nx-27017 (a server in
Python over SQLite) on a free port of loopback.

nx-27017 has transactions, and says that it is no replica set. Its gaps are listed in test_mongo_conformance.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.servers import free_port

REAL = os.environ.get("GATEWAY_TEST_MONGODB_URI", "")


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """A URI without a database."""
    if REAL and not port:
        yield REAL
        return
    port = port or free_port()
    command = [sys.executable, "-m", "nx_27017.nx_27017", "--data-dir", "memory", "--port", str(port)]
    command += ["--pid-file", str(folder / "nx.pid"), "--log-file", str(folder / "nx.log")]
    with (folder / "nx.out").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        _await_port(process, port)
        yield f"mongodb://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)


def database(uri: str) -> str:
    """The URI of a database that nobody else uses."""
    before, _, options = uri.partition("?")
    base = before.rstrip("/") if before.count("/") > 2 else before
    name = f"test_{uuid.uuid4().hex[:12]}"
    return f"{base}/{name}" + (f"?{options}" if options else "")


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("nx-27017 did not start; see nx.out") from None
            time.sleep(0.02)
