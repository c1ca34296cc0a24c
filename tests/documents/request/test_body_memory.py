"""Bodies of requests to documents take bounded memory, decided before they are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.documents.api import NDJSON, SCOPES, Api, serving
from tests.documents.request.test_total import began, locked, request
from tests.eventually import eventually
from tests.fakes import RawClient

pytestmark = pytest.mark.asyncio
UNIT = 40 * 1024  # bytes
TENANTS = {"acme": {"documents": {"body_memory": "4000KiB"}}, "globex": {}}  # 100 units


def document(size: int) -> bytes:
    return json.dumps({"text": "x" * (size - 12)}).encode()


@asynccontextmanager
async def holding(api: Api, size: int) -> AsyncIterator[RawClient]:
    """A client that has announced a body and sends none of it."""
    client = await began(api, "PUT /documents/c/held", f"Content-Length: {size}", "Expect: 100-continue")
    assert (await client.head()).startswith("HTTP/1.1 100 ")
    yield client
    client.close()
    await given_back(api)


async def given_back(api: Api) -> None:
    """An answer that is large counts too, until its client has read it or has left."""
    await eventually(lambda: not api.gateway.documents.memory.used)


async def sent(api: Api, method: str, path: str, body: bytes, kind: str = "application/json") -> int:
    """The status of a request with a body that may be large."""
    client = await RawClient.connect(harness.address(api.gateway))
    head = request(api, f"{method} /documents{path}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    client.send(head + body)
    status = int((await client.head()).split(" ")[1])
    client.close()
    return status


async def refusal(api: Api, *headers: str, body: bytes = b"") -> tuple[str, dict[str, Any]]:
    client = await began(api, "PUT /documents/c/x", *headers)
    client.send(body)
    head, content = await client.answer()
    client.close()
    return head, json.loads(content)


async def test_a_tenants_bodies_have_so_much_memory_and_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api:
        async with holding(api, 70 * UNIT):
            head, problem = await refusal(api, f"Content-Length: {31 * UNIT}", "Expect: 100-continue")
            assert head.startswith("HTTP/1.1 429 ")  # and no 100 before it
            assert "Retry-After: 1" in head
            assert "Connection: close" in head
            assert problem["code"] == "tenant_limit"
            assert await sent(api, "PUT", "/c/x", document(30 * UNIT)) == 201
            assert await sent(api.of("globex"), "PUT", "/c/x", document(90 * UNIT)) == 201
        assert await sent(api, "PUT", "/c/x", document(90 * UNIT)) == 200
        await given_back(api)


async def test_a_body_without_a_length_counts_as_it_comes(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api, holding(api, 70 * UNIT):
        chunk = b"%x\r\n%b\r\n" % (40 * UNIT, b"x" * 40 * UNIT)
        head, problem = await refusal(api, "Transfer-Encoding: chunked", body=chunk)
        assert head.startswith("HTTP/1.1 429 ")
        assert problem["code"] == "tenant_limit"


async def test_a_body_that_never_fits_is_413(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api:
        head, problem = await refusal(api, f"Content-Length: {101 * UNIT}")
        assert head.startswith("HTTP/1.1 413 ")
        assert str(100 * UNIT) in problem["detail"]


async def test_all_tenants_together_have_so_much_memory(tmp_path: Path) -> None:
    routing = harness.routing([harness.route("documents", "documents", scopes=SCOPES)])
    async with harness.running(tmp_path, routing, body_memory=100 * UNIT) as gateway:
        api = Api(None, gateway)  # type: ignore[arg-type]
        async with holding(api, 70 * UNIT):
            head, problem = await refusal(api.of("globex"), f"Content-Length: {31 * UNIT}")
            assert head.startswith("HTTP/1.1 503 ")
            assert "Retry-After: 1" in head
            assert problem["code"] == "store_saturated"


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("POST", "/c/", document(50 * UNIT), "application/json"),
        ("PUT", "/c/y", b"[" + b" " * 50 * UNIT, "application/json"),  # an error
        ("PATCH", "/c/x", document(50 * UNIT), "application/merge-patch+json"),
        ("QUERY", "/c/", b"{" + b" " * 50 * UNIT + b"}", "application/json"),
        ("POST", "/c/bulk", b'{"op": "create", "data": {}}' + b" " * 50 * UNIT, "application/x-ndjson"),
        ("POST", "/c/import", b'{"id": "z"}' + b" " * 50 * UNIT, "application/x-ndjson"),
        ("PUT", "/d", b"{" + b" " * 50 * UNIT + b"}", "application/json"),
    ],
)
async def test_every_body_is_counted_and_given_back(
    tmp_path: Path, method: str, path: str, body: bytes, kind: str
) -> None:
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api:
        await api("PUT", "/c/x", {})
        async with holding(api, 80 * UNIT):
            assert await sent(api, method, path, body, kind) == 429
        assert await sent(api, method, path, body, kind) in (200, 201, 400, 413)
        await given_back(api)


async def test_who_sends_and_leaves_is_counted_until_the_write_is_done(tmp_path: Path) -> None:
    """Else any number of large writes could wait in the store, whose senders have gone."""
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api:
        await api("PUT", "/c/x", {})
        with locked(tmp_path):
            for number in (1, 2):
                body = document(40 * UNIT)
                client = await began(api, f"PUT /documents/c/{number}", f"Content-Length: {len(body)}")
                client.send(body)
                held = number * 40 * UNIT
                await eventually(lambda held=held: api.gateway.documents.memory.used >= held)
                client.close()
            assert (await refusal(api, f"Content-Length: {40 * UNIT}"))[0].startswith("HTTP/1.1 429 ")
            assert api.gateway.documents.memory.held("acme") == 80 * UNIT
        await given_back(api)
        assert [(await api("GET", f"/c/{number}"))[0] for number in (1, 2)] == [200, 200]


async def test_an_import_of_any_size_takes_what_a_batch_takes(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api:

        async def lines() -> AsyncIterator[bytes]:
            for number in range(400):
                yield json.dumps({"id": str(number), "text": "x" * 20_000}).encode() + b"\n"

        status, _, received = await api("POST", "/c/import", lines(), NDJSON)  # 8 MB
        assert (status, received[-1]["done"], received[-1]["created"]) == (200, True, 400)
        assert api.gateway.documents.memory.used == 0


async def test_what_a_tenant_may_have_is_live(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS, body_limit="8MiB") as api:
        assert await sent(api, "PUT", "/c/x", document(110 * UNIT)) == 413
        path = tmp_path / "routing.yaml"
        path.write_text(path.read_text().replace("4000KiB", "8000KiB"))
        assert await api.gateway.live.reload()
        assert await sent(api, "PUT", "/c/x", document(110 * UNIT)) == 201
