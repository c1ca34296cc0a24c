"""A server that speaks MongoDB's protocol: the one that GATEWAY_TEST_MONGODB_URI names, or nx-27017 (a server
in Python over SQLite) on a free port of loopback.

What nx-27017 lacks is met in NxDriver, or is an expected failure with its reason where it shows.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.store.mongo.driver import Driver, Server
from gateway.store.mongo.rows import Row
from tests.eventually import END, poll
from tests.support.ports import free_port

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
        process.kill()  # its data is in memory, and at times it does not hear of SIGTERM
        process.wait()


class NxDriver(Driver):
    """The driver for nx-27017. transactions: whether to use them; it has them, one at a time, but does
    not say that it is a replica set. members: whether it is asked for the client's members, of which it
    finds less in arrays than MongoDB."""

    def __init__(self, uri: str, *, transactions: bool = False, members: bool = True) -> None:
        super().__init__(uri)
        self._transactions = transactions
        self._members = members

    async def connect(self) -> Server:
        return replace(await super().connect(), replica_set=self._transactions)

    def find(
        self, name: str, query: Any, *, fields: Sequence[str] = (), **more: Any
    ) -> AsyncGenerator[Row, None]:
        # It answers a projection of "d.a" as a member of that name.
        whole = tuple({field.partition(".")[0] for field in fields})
        if not self._members:
            query = _without_members(query) or {}
        return super().find(name, query, fields=whole, **more)


def driver(uri: str, *, database: str = "", **more: bool) -> Driver:
    """For a database of the server, a new one if not named. more: see NxDriver."""
    uri = in_database(uri, database or new_name())
    return Driver(uri) if REAL else NxDriver(uri, **more)


def _without_members(query: Row) -> Row | None:
    """The conditions that are not on the client's members; None when none is left."""
    left: Row = {}
    for name, condition in query.items():
        if name in ("$and", "$or"):
            parts = [_without_members(part) for part in condition]
            kept = [part for part in parts if part is not None]
            if kept and (name == "$and" or len(kept) == len(parts)):
                left[name] = kept
        elif not name.startswith("d."):
            left[name] = condition
    return left or None


def new_name() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


def in_database(uri: str, name: str) -> str:
    """The URI with this database."""
    before, _, options = uri.partition("?")
    base = "/".join(before.split("/")[:3])
    return f"{base}/{name}" + (f"?{options}" if options else "")


def database(uri: str) -> str:
    """The URI of a database that nobody else uses."""
    return in_database(uri, new_name())


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    def listens() -> bool:
        if process.poll() is not None:
            raise RuntimeError("nx-27017 did not start; see nx.out")
        try:
            socket.create_connection(("127.0.0.1", port), END).close()
        except OSError:
            return False
        return True

    poll(listens)
