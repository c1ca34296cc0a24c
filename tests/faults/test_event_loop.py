"""While it serves, the event loop's thread opens no file, lists no folder and looks at no file's state.

Python tells of these calls itself (PEP 578); os.stat is the one that it does not tell of.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.process.child_process import ChildProcess
from gateway.store.sqlite.documents import read_small
from gateway.store.sqlite.files.open_files import TenantFile
from tests import harness
from tests.documents.api import ALL, SCOPES
from tests.eventually import END, eventually, head_start
from tests.fakes import Backend, RawClient, always, answer

pytestmark = pytest.mark.asyncio
BLOCKING = frozenset({
    "open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link",
    "os.chmod", "os.truncate", "sqlite3.connect", "tempfile.mkstemp", "socket.getaddrinfo",
    "socket.gethostbyname", "subprocess.Popen", "shutil.rmtree",
})  # fmt: skip
_watched: list[int] = []  # the thread, while it is watched
_blocked: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in BLOCKING and threading.get_ident() == _watched[0]:
        _note(event, arguments[0])


def _note(what: str, argument: Any) -> None:
    frame, callers = sys._getframe(2), []
    while frame is not None and len(callers) < 40:
        callers.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    if not any(caller.startswith(("harness.py", "test_event_loop.py")) for caller in callers):
        _blocked.append(f"{what}({argument!r}) by {' <- '.join(callers[:6])}")


sys.addaudithook(_hook)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of all this happens in this thread, but for what the test does itself."""
    stat = os.stat

    def told(path: Any, *arguments: Any, **more: Any) -> os.stat_result:
        if _watched and threading.get_ident() == _watched[0]:
            _note("os.stat", path)
        return stat(path, *arguments, **more)

    _blocked.clear()
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", told)
        _watched.append(threading.get_ident())
        try:
            yield
        finally:
            _watched.clear()
    assert not _blocked, "\n".join(_blocked)


async def test_the_watch_notices_what_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os\ndef blocks():\n os.stat('.')\n os.listdir('.')\n open(os.devnull).close()\n"
    names: dict[str, Any] = {}
    exec(compile(text, "elsewhere.py", "exec"), names)
    with pytest.raises(AssertionError), watched(monkeypatch):
        asyncio.get_running_loop().call_soon(names["blocks"])
        await head_start(0.01)
    assert [told.partition("(")[0] for told in _blocked] == ["os.stat", "os.listdir", "open"]
    with watched(monkeypatch):
        await asyncio.to_thread(names["blocks"])


class Visitor:
    """A client that asks for one thing after another, each on a connection of its own."""

    def __init__(self, gateway: Any) -> None:
        self._address = harness.address(gateway)
        self._tokens = {tenant: harness.token(gateway, tenant, ALL) for tenant in ("acme", "globex")}

    async def __call__(
        self, line: str, body: bytes = b"", tenant: str = "acme", kind: str = "application/json"
    ) -> int:
        client = await RawClient.connect(self._address)
        lines = [f"{line} HTTP/1.1", "Host: a", f"Authorization: Bearer {self._tokens[tenant]}"]
        lines += ["Connection: close", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "", ""]
        client.send("\r\n".join(lines).encode() + body)
        received = await client.rest(20)
        client.close()
        return int(received[9:12])


async def test_requests_of_every_kind_touch_no_file_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Backend(always(answer(b"x" * 300_000))) as backend:
        named = backend.address.replace("127.0.0.1", "localhost")
        backends = {
            "threads": {"kind": "gunicorn", "threads": 2, "addresses": [backend.address]},
            "named": {"kind": "http", "addresses": [named], "health": {"path": "/up", "interval": "50ms"}},
        }
        routes = [harness.route("documents", "documents", scopes=SCOPES)]
        routes += [harness.route(name, name, public=True) for name in backends]
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
            visit = Visitor(gateway)
            with watched(monkeypatch):
                for tenant in ("acme", "globex"):  # their files are opened, and made
                    assert await visit("PUT /documents/c/x", b'{"a":1}', tenant) == 201
                    assert await visit("GET /documents/c/x", tenant=tenant) == 200
                    assert await visit("GET /documents/c/", tenant=tenant) == 200
                    assert await visit("GET /documents/c/export", tenant=tenant) == 200
                assert await visit("POST /documents/c/import", b"{}\n", kind="application/x-ndjson") == 200
                assert await visit("PUT /documents/d", b'{"ttl": null}') in (200, 201, 422)
                assert await visit("DELETE /documents/c?documents=delete") == 204
                assert await visit("POST /threads/", b"y" * 300_000) == 200
                assert await visit("GET /named/") == 200


async def test_an_answer_that_waits_for_its_client_touches_no_file_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = b"x" * 20_000_000
    async with Backend(always(answer(big))) as backend:
        backends = {"app": {"kind": "gunicorn", "threads": 1, "addresses": [backend.address]}}
        routing = harness.routing([harness.route("svc", "app", public=True)], backends=backends)
        async with harness.running(tmp_path, routing) as gateway:
            with watched(monkeypatch):
                client = await RawClient.connect(harness.address(gateway))
                client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
                await client.head()
                await eventually(lambda: not gateway.admission.in_use()["app"])  # until it is all taken in
                async with asyncio.timeout(END):
                    assert len(await client.reader.readexactly(len(big))) == len(big)
                client.close()


async def test_changes_of_the_config_and_the_keys_are_seen_from_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routing = harness.routing([harness.route("documents", "documents", scopes=SCOPES)])
    async with harness.running(tmp_path, routing) as gateway:
        with watched(monkeypatch):
            path = tmp_path / "routing.yaml"
            path.write_text(path.read_text() + "\n# another\n")
            await eventually(lambda: gateway.live.current.revision > 1)
            keys = Path(gateway.config.keys)
            keys.write_text(keys.read_text() + " ")
            await asyncio.create_task(gateway.issuers.refresh())
            await asyncio.create_task(gateway.reload())


async def test_whether_a_group_of_processes_is_gone_is_seen_from_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("/bin/sh", "-c", "sleep 0.3 & exit 0")  # what it leaves behind is of its group
    child = ChildProcess("x", command, {}, str(tmp_path))
    await child.attach()
    with watched(monkeypatch):
        await asyncio.create_task(child.end(10.0))
    assert child.exit_text == "exited with code 0"


async def test_the_first_read_on_the_loop_opens_no_file(tmp_path: Path) -> None:
    """SQLite opens the log and reads the schema at the first statement: it was done with the file."""

    def descriptors() -> set[str]:
        names = set()
        for entry in Path("/proc/self/fd").iterdir():
            try:
                names.add(f"{entry.name} {entry.readlink()}")
            except FileNotFoundError:  # the one that lists
                continue
        return {name for name in names if str(tmp_path) in name}

    file = await asyncio.to_thread(TenantFile.open, tmp_path / "acme.db", None)
    before = descriptors()
    assert read_small(file.inline, "c", "x", 0.0) == (True, None)
    assert descriptors() == before
    file.close()


@asynccontextmanager
async def a_resolver_that_hangs() -> AsyncIterator[None]:
    """asyncio resolves names in its default threads, and has few of them: all are taken, to the end."""
    loop, go_on = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(2))
    hanging = [loop.run_in_executor(None, go_on.wait, END) for _ in range(4)]
    try:
        yield
        assert not any(future.done() for future in hanging)
    finally:
        go_on.set()
        await asyncio.gather(*hanging)


async def test_a_resolver_that_hangs_holds_up_no_large_body(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        backends = {"app": {"kind": "gunicorn", "threads": 1, "addresses": [backend.address]}}
        routes = [harness.route("documents", "documents", scopes=SCOPES)]
        routes.append(harness.route("svc", "app", public=True))
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
            visit = Visitor(gateway)
            large = b'{"text": "%b"}' % (b"x" * 300_000)
            line = b'{"id": "y", "text": "%b"}\n' % (b"x" * 300_000)
            async with a_resolver_that_hangs():
                assert await visit("PUT /documents/c/x", large) == 201
                assert await visit("POST /documents/c/import", line, kind="application/x-ndjson") == 200
                assert await visit("POST /svc/", large) == 200


@pytest.mark.parametrize("size", [0, 20_000])
async def test_a_resolver_that_hangs_holds_up_no_edit_of_the_config_and_no_quota(
    tmp_path: Path, size: int
) -> None:
    """An edit may be what ends it: the name of a backend that nobody resolves any more."""
    routing = harness.routing([harness.route("documents", "documents", scopes=SCOPES)])
    async with harness.running(tmp_path, routing) as gateway:
        path = tmp_path / "routing.yaml"
        good = path.read_text() + f"\n#{'x' * size}\n"
        async with a_resolver_that_hangs():
            path.write_text(good)
            assert await gateway.live.reload()
            assert gateway.live.current.revision == 2
            path.write_text(good + "routes: 7\n")
            assert not await gateway.live.reload()
            assert gateway.quotas.used("acme") == 0
            gateway.quotas.count("acme")
            await gateway.quotas.flush()
            assert not gateway.quotas._new
