"""A disk that is full, or does not give back what it took: proxying goes on, and who is affected is told."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from gateway.app import Gateway
from gateway.auth.store import NOTHING, AuthStore
from gateway.core.revocations import Revocation
from gateway.edge import spool
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests import harness
from tests.eventually import eventually, nothing_for
from tests.fakes import Backend, RawClient, always, answer

pytestmark = pytest.mark.asyncio
BIG = 1_000_000
SCOPES = {"read": ["documents:read"], "write": ["documents:write"], "manage": ["documents:manage"]}


def config(backend: Backend) -> dict[str, Any]:
    backends = {"app": {"kind": "gunicorn", "threads": 1, "addresses": [backend.address]}}
    return harness.routing([harness.route("svc", "app", public=True)], backends=backends)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every write beyond `size` bytes of a file fails (setrlimit(2), RLIMIT_FSIZE), as on a full disk."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def failing_after(monkeypatch: pytest.MonkeyPatch, reads: int) -> None:
    """Temporary files do not give back what they hold. Each one fails at the n-th read."""
    left: dict[int, int] = {}
    read_at = spool._read_at

    def read(file: IO[bytes], at: int, size: int) -> bytes:
        left[id(file)] = left.get(id(file), reads) - 1
        if left[id(file)] < 0:
            raise OSError(errno.EIO, "the disk of this test")
        return read_at(file, at, size)

    monkeypatch.setattr(spool, "_read_at", read)


async def post(gateway: Gateway, size: int) -> tuple[str, bytes]:
    client = await RawClient.connect(harness.address(gateway))
    client.send(f"POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size)
    try:
        return await client.answer()
    finally:
        client.close()


async def test_a_body_that_the_disk_has_no_room_for_is_507_and_what_needs_no_disk_goes_on(
    tmp_path: Path,
) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        with files_of_at_most(200_000):
            for _ in range(2):
                head, body = await post(gateway, BIG)
                assert head.startswith("HTTP/1.1 507 ")
                assert json.loads(body)["code"] == "insufficient_storage"
                head, _ = await post(gateway, 1000)
                assert head.startswith("HTTP/1.1 200 ")
        head, _ = await post(gateway, BIG)
        assert head.startswith("HTTP/1.1 200 ")
        assert [len(heard.body) for heard in backend.heard] == [1000, 1000, BIG]
        assert gateway.admission.in_use() == {"app": 0}


@pytest.mark.parametrize("reads", [0, 3])
async def test_a_body_that_cannot_be_read_again_is_500_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reads: int
) -> None:
    """And no 504 after the time of a backend that waits for the rest of it."""
    failing_after(monkeypatch, reads)
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        head, body = await post(gateway, BIG)
        assert head.startswith("HTTP/1.1 500 ")
        assert json.loads(body)["code"] == "internal"
        assert "the disk of this test" in caplog.text
        assert gateway.admission.in_use() == {"app": 0}
        head, _ = await post(gateway, 1000)
        assert head.startswith("HTTP/1.1 200 ")


async def test_an_answer_that_cannot_be_buffered_waits_for_its_client_and_arrives_whole(
    tmp_path: Path,
) -> None:
    big = b"".join(b"%07d " % number for number in range(1_250_000))  # no piece of it looks like another
    async with Backend(always(answer(big))) as backend, harness.running(tmp_path, config(backend)) as gateway:
        with files_of_at_most(100_000):
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.head()
            await nothing_for(0.3)
            assert gateway.admission.in_use() == {"app": 1}, "the thread waits, as it would without us"
            async with asyncio.timeout(30):
                assert await client.reader.readexactly(len(big)) == big
            client.close()


async def test_a_buffered_answer_that_cannot_be_read_again_cuts_the_client_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_after(monkeypatch, 2)
    big = b"x" * 20_000_000
    async with Backend(always(answer(big))) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        await nothing_for(0.3)
        assert len(await client.rest()) < len(big)
        assert "the disk of this test" in caplog.text
        await eventually(lambda: not (gateway.admission.in_use()["app"] or gateway.pools.under_way))
        client.close()
    lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
    assert [(line["status"], line["code"]) for line in lines] == [(200, "internal")]


async def test_a_full_store_is_507_what_is_there_is_read_on_and_proxying_goes_on(tmp_path: Path) -> None:
    async with Backend(always(answer(b"hello"))) as backend:
        routing = harness.routing(
            [
                harness.route("documents", "documents", scopes=SCOPES),
                harness.route("svc", "app", public=True),
            ],
            backends={"app": {"kind": "http", "addresses": [backend.address]}},
        )
        async with harness.running(tmp_path, routing) as gateway:
            store = gateway.store
            assert isinstance(store, SQLiteDocumentStore)
            assert store._services is not None
            store._services.files._max_bytes = 300_000  # what the disk has left for a tenant
            token = harness.token(gateway, scope="documents:read documents:write")
            bearer = f"Authorization: Bearer {token}\r\n"
            client = await RawClient.connect(harness.address(gateway))

            async def ask(method: str, path: str, body: str = "") -> tuple[str, bytes]:
                more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
                client.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{bearer}{more}\r\n{body}".encode())
                return await client.answer()

            large = json.dumps({"a": "x" * 50_000})
            heads = [(await ask("PUT", f"/documents/c/{n}", large)) for n in range(12)]
            assert heads[0][0].startswith("HTTP/1.1 201 ")
            assert heads[-1][0].startswith("HTTP/1.1 507 ")
            assert json.loads(heads[-1][1])["code"] == "insufficient_storage"
            assert (await ask("GET", "/documents/c/0"))[0].startswith("HTTP/1.1 200 ")
            assert (await ask("GET", "/svc/x"))[1] == b"hello"
            client.close()


@pytest.mark.parametrize("edited", [False, True])
async def test_a_restart_on_a_full_disk_serves_its_file_and_what_is_revoked_and_catches_up_with_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, edited: bool
) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            gone = Revocation(2e9, created=1.0, by="root", jti="gone")
            await gateway.stored.change(gateway.stored.store.revoke, gone)
        routing = config(backend)
        if edited:
            routing["routes"][0]["methods"] = ["POST"]
        with ExitStack() as full:
            full.enter_context(files_of_at_most(4000))  # no page of SQLite's fits
            async with harness.running(tmp_path, routing) as gateway:
                assert (await post(gateway, 100))[0].startswith("HTTP/1.1 200 ")
                assert "config.sqlite: its disk is full" in caplog.text
                assert gateway.live.head.number == 1
                another = AuthStore(tmp_path / "var" / "auth.sqlite").read(NOTHING)
                assert another is not None
                assert [revocation.jti for revocation in another.revocations] == ["gone"]
                assert gateway.stored.available
                full.close()
                await eventually(lambda: gateway.live.head.number == 1 + edited)
                await gateway.live.reload()  # after what is under way, with its line
                await gateway.stored.change(gateway.stored.store.lift, 1, "root", 2.0)
                actions = [line["action"] for line in await gateway.config_parts.audit.page(0, 10)]
                assert actions == ["applied"] * (1 + edited)
                assert await gateway.config_parts.audit.verify() == []
