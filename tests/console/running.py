"""A gateway process with a console, the backend behind it, and its clients."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.auth.keys import read_keys, signing_key
from gateway.core.jwt.keys import sign
from tests import harness
from tests.conf import write_conf
from tests.eventually import END, eventually_await
from tests.fakes import Backend, Heard, answer
from tests.support.ports import free_port

HTML = "<img src=x onerror='window.ran=1'>"  # as text it is shown, as markup it would run
THREADS = 4
ROUTING = f"""\
# The shop. This comment stays. Its owner had password=hunter2hunter2 in it.
version: 1

backends:
  catalog: {{ kind: gunicorn, addresses: ["BACKEND"], threads: {THREADS}, queue: {{ timeout: 60s }} }}
  pricing: {{ kind: uvicorn, addresses: ["OTHER"] }}

tenants:
  acme: {{ name: "{HTML}", weight: 2, quota: 1000/day }}
  globex: {{}}
  {"a-name-that-goes-on-and-on-" * 2}x: {{}}

routes:
  - name: catalog # the main one
    path: /catalog/{{rest*}}
    strip: /catalog
    target: catalog
    scopes: {{ read: [shop:read], write: [shop:write] }}
  - name: pricing
    path: /pricing/{{rest*}}
    target: pricing
    public: true
"""


class Shop:
    """url: of the admin listener. token: the operator's. let_go: set, the backend answers; until then each
    request holds its seat."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, public: str, admin: str) -> None:
        self.folder = folder
        self.url = f"{admin}/"
        self.let_go = asyncio.Event()
        self._session = session
        self._public = public
        self._clients: list[asyncio.Task[int]] = []

    @property
    def token(self) -> str:
        return (self.folder / "var" / "operator.token").read_text().strip()

    @property
    def text(self) -> str:
        """The file of the config."""
        return (self.folder / "routing.yaml").read_text()

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        """What the admin API answers, as JSON, to the operator."""
        given = {"Authorization": f"Bearer {self.token}", **headers}
        asked = self._session.request(method, f"{self.url}admin/v1/{path}", data=body, headers=given)
        async with asked as response:
            text = await response.text()
            assert response.status < 300, (response.status, text)
            return json.loads(text)

    async def ticket(self) -> str:
        """The URL that `gateway console` opens."""
        found = await self.ask("POST", "tickets")
        return str(found["url"])

    def call(self, tenant: str, count: int, path: str = "/catalog/x") -> None:
        """So many requests of a tenant's client, at once."""
        keys = read_keys(self.folder / "var" / "keys.jwks", harness.RULE.algorithms)
        claims = {"iss": "gateway", "aud": "gateway", "tenant": tenant, "sub": "a", "scope": "shop:read"}
        token = sign({**claims, "exp": 4_000_000_000}, signing_key(keys))
        headers = {"Authorization": f"Bearer {token}"}
        for _ in range(count):
            self._clients.append(asyncio.create_task(self._call(path, headers)))

    async def _call(self, path: str, headers: dict[str, str]) -> int:
        async with self._session.get(f"{self._public}{path}", headers=headers) as response:
            await response.read()
            return response.status

    async def statuses(self) -> set[int]:
        """Of all calls, once they are over."""
        return set(await asyncio.gather(*self._clients))

    async def script(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.let_go.wait()
        writer.write(answer(b"ok"))


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    """It runs as a process of its own."""
    public, admin = free_port(), free_port()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        found = Shop(folder, session, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}")
        async with Backend(found.script) as backend, Backend(found.script) as other:
            text = ROUTING.replace("BACKEND", backend.address).replace("OTHER", other.address)
            addresses = {"listen": f"127.0.0.1:{public}", "admin": f"127.0.0.1:{admin}"}
            conf = write_conf(folder, text, **addresses)
            with (folder / "log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "gateway", "serve", "-c", str(conf),
                    stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(folder)},
                )  # fmt: skip

            async def ready() -> bool:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    async with session.get(f"{found.url}readyz") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            try:
                await eventually_await(ready, (folder / "log").read_text, 2 * END)
                yield found
            finally:
                found.let_go.set()
                if process.returncode is None:
                    process.terminate()
                await process.wait()
                await asyncio.gather(*found._clients, return_exceptions=True)
