"""The gateway with documents in it, as the bench asks it. As a program it fills a store, before any gateway
has it open: python -m tests.bench.sites.documents_site FOLDER TENANT DOCUMENTS"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from gateway.auth.keys import issue
from gateway.core.jwt.issuer import local_issuer
from gateway.core.model import TenantId
from gateway.store.model import collection as collections
from gateway.store.model.write import Replace
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.bench.load.closed import Load, paths
from tests.bench.sites import contenders
from tests.bench.sites.contenders import CONTENDERS, Site
from tests.bench.sites.servers import Server, ServerFailed

ORDERS = "/documents/orders/"
LARGE, SMALL = "acme", "globex"  # the tenant with many documents, and the one with few
FEW = 1000
EACH = 100  # documents of one customer, so two pages
PAGE = 50
_SCOPES = "bench:read documents:read documents:write documents:manage"
_BATCH = 1000
_SAMPLE = 10_000  # paths in a file


def document(number: int, all_of_them: int) -> dict[str, Any]:
    """The document of this number; a customer's are spread over all."""
    return {
        "customer": number * 7919 % (all_of_them // EACH),
        "status": "open" if number % 3 else "done",
        "total": number * 31 % 100_000 / 100,
        "note": "x" * 48,
    }


def identifier(number: int) -> str:
    return f"order-{number:08d}"


def listing(customer: int) -> str:
    """The path of the first page of a customer's documents."""
    query = urlencode({"filter": json.dumps({"customer": customer}), "limit": PAGE})
    return f"{ORDERS}?{query}"


async def _fill(folder: Path, tenant: str, count: int) -> None:
    store = SQLiteDocumentStore(folder, secrets.token_bytes(32))
    await store.start()
    try:
        documents = store.tenant(TenantId(tenant))
        for at in range(0, count, _BATCH):
            numbers = range(at, min(count, at + _BATCH))
            await documents.bulk("orders", [Replace(identifier(n), document(n, count)) for n in numbers])
        settings = {"indexes": [{"name": "customer", "fields": ["customer"]}]}
        await documents.put_collection("orders", collections.from_data(settings))
    finally:
        await store.close()


class DocumentsSite:
    """A gateway on the server core that proxies /bench and keeps /documents for two tenants. Started by
    `with`. fill_seconds: how long it took to fill the store."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.site = Site(folder)
        self.store = folder / "data" / "documents"
        self.fill_seconds = 0.0
        self._stack = ExitStack()
        self._headers: dict[str, dict[str, str]] = {}

    def __enter__(self) -> DocumentsSite:
        with self._stack:
            began = time.monotonic()
            for tenant, count in ((LARGE, self.count), (SMALL, FEW)):
                self._run_fill(tenant, count)
            self.fill_seconds = time.monotonic() - began
            self._stack.enter_context(contenders.backend(self.site))
            gateway = contenders.server("gateway", self.site, routing=self._routing())
            self.server: Server = self._stack.enter_context(gateway)
            contenders.check(CONTENDERS["gateway"], self.server.port, self.site)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def headers(self, tenant: str) -> dict[str, str]:
        if tenant not in self._headers:
            rule = local_issuer("", algorithms=("HS256",))
            token = issue(self.site.folder / "keys.jwks", rule, tenant, _SCOPES, "bench", 3600.0)
            self._headers[tenant] = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self._headers[tenant]

    def get(self, tenant: str, path: str) -> Any:
        """What a GET answers. Raises ServerFailed unless it is 200."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request("GET", path, headers=self.headers(tenant))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise ServerFailed(f"the gateway: GET {path} answered {answer.status} {text[:300]!r}")
        return json.loads(text)

    def load(
        self,
        tenant: str,
        listed: Sequence[str],
        connections: int,
        seconds: float,
        body: dict[str, Any] | None = None,
    ) -> Load:
        """A closed loop over these paths."""
        headers = self.headers(tenant)
        return load(self.site.folder, self.server.port, listed, headers, connections, seconds, body)

    def _routing(self) -> str:
        routing = yaml.load(self.site.routing(), Loader=yaml.CSafeLoader)
        routing["tenants"][SMALL] = routing["tenants"][LARGE]
        scopes = {verb: [f"documents:{verb}"] for verb in ("read", "write", "manage")}
        path = {"path": "/documents/{rest*}", "strip": "/documents"}
        routing["routes"].append({"name": "documents", **path, "target": "documents", "scopes": scopes})
        return yaml.dump(routing, Dumper=yaml.CSafeDumper, sort_keys=False)

    def _run_fill(self, tenant: str, count: int) -> None:
        """In a process of its own, so that this one stays small."""
        module = "tests.bench.sites.documents_site"
        command = [sys.executable, "-m", module, str(self.store), tenant, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(f"the store could not be filled: {done.stderr[-1000:]}")


def load(
    folder: Path,
    port: int,
    listed: Sequence[str],
    headers: dict[str, str],
    connections: int,
    seconds: float,
    body: dict[str, Any] | None = None,
) -> Load:
    """A closed loop over these paths of a server, at most _SAMPLE of them. Raises LoadFailed."""
    step = max(1, len(listed) // _SAMPLE)
    names, sent = folder / "paths", folder / "body"
    names.write_text("".join(f"{path}\n" for path in listed[::step]))
    if body is not None:
        sent.write_text(json.dumps(body))
    chosen = sent if body is not None else None
    return paths(f"http://127.0.0.1:{port}", names, headers, connections, seconds, chosen)


if __name__ == "__main__":
    asyncio.run(_fill(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
