"""Large documents over HTTP: the same answers as small ones, in pieces, and counted while a client reads."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.store.json.large import LIGHT_BYTES, LIGHT_VALUES
from tests import harness
from tests.documents.api import JSON_PATCH, MERGE, NDJSON, Api, ndjson, serving
from tests.documents.request.test_body_memory import sent
from tests.documents.request.test_total import request
from tests.eventually import eventually, passes
from tests.fakes import RawClient

pytestmark = pytest.mark.asyncio
BIG = {"fill": "ü" * (LIGHT_BYTES * 6 // 10), "n": 1}
HUGE = 9_000_000  # bytes; more than what the kernel holds of a connection
MANY = {"many": list(range(2 * LIGHT_VALUES)), "n": 1}


async def reader_of_little(api: Api) -> RawClient:
    """A client that has hardly room for what it does not read."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, harness.address(api.gateway))
    return RawClient(*await asyncio.open_connection(sock=own))


@pytest.mark.parametrize("data", [BIG, MANY], ids=["bytes", "values"])
async def test_a_large_document_lives_as_a_small_one(tmp_path: Path, data: dict[str, Any]) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        status, headers, body = await api("POST", "/c/", data)
        assert (status, body) == (201, {"id": body["id"], **data})
        assert headers["Location"] == f"/documents/c/{body['id']}"
        status, headers, body = await api("PUT", "/c/x", data)
        assert (status, body) == (201, {"id": "x", **data})
        tag = headers["ETag"]
        status, headers, raw = await api.raw("GET", "/c/x")
        assert (status, headers["ETag"], json.loads(raw)) == (200, tag, {"id": "x", **data})
        assert headers["Content-Type"].startswith("application/json")
        assert int(headers["Content-Length"]) == len(raw)
        status, headers, nothing = await api.raw("HEAD", "/c/x")
        assert (status, headers["Content-Length"], nothing) == (200, str(len(raw)), b"")
        assert (await api("GET", "/c/x", headers={"If-None-Match": tag}))[0] == 304
        assert (await api("PUT", "/c/x", data, {"If-None-Match": "*"}))[0] == 412
        status, _, body = await api("PATCH", "/c/x", {"n": 2}, {**MERGE, "If-Match": tag})
        assert (status, body) == (200, {"id": "x", **data, "n": 2})
        operations = [{"op": "test", "path": "/n", "value": 2}, {"op": "remove", "path": "/n"}]
        status, _, body = await api("PATCH", "/c/x", operations, JSON_PATCH)
        assert (status, "n" in body) == (200, False)
        assert (await api("PATCH", "/c/x", operations, JSON_PATCH))[2]["code"] == "patch_conflict"
        assert (await api("PUT", "/c/x", data, {"Prefer": "return=minimal"}))[2] is None
        assert len((await api("GET", "/c/"))[2]["items"]) == 2
        assert (await api("DELETE", "/c/x"))[0] == 204
        assert (await api("GET", "/c/x"))[0] == 404


async def test_a_large_patch_of_each_kind(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        await api("PUT", "/c/x", {"a": 1})
        status, _, body = await api("PATCH", "/c/x", MANY, MERGE)
        assert (status, body) == (200, {"id": "x", "a": 1, **MANY})
        operations = [{"op": "add", "path": "/more", "value": list(range(2 * LIGHT_VALUES))}]
        status, _, body = await api("PATCH", "/c/x", operations, JSON_PATCH)
        assert (status, len(body["more"])) == (200, 2 * LIGHT_VALUES)


@pytest.mark.parametrize(
    ("extra", "pointer"), [({"$x": 1}, "/$x"), ({"id": "y"}, "/id"), ({"a.b": 1}, "/a.b")]
)
async def test_what_is_wrong_with_a_large_body_is_told(
    tmp_path: Path, extra: dict[str, Any], pointer: str
) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        received = await api("PUT", "/c/x", {**MANY, **extra})
        assert (received[0], received[2]["errors"][0]["pointer"]) == (422, pointer)
        assert (await api("PUT", "/c/x", json.dumps(MANY).encode()[:-1]))[0] == 400


async def test_large_lines_of_bulks_and_imports(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        operations = [
            {"op": "replace", "id": "a", "data": MANY},
            {"op": "create", "data": MANY},
            {"op": "patch", "id": "a", "data": {"n": 2}},
            {"op": "patch", "id": "a", "data": MANY},
            {"op": "patch", "id": "a", "data": [{"op": "replace", "path": "/many", "value": MANY["many"]}]},
            {"op": "replace", "id": "a", "data": {**MANY, "id": "other"}},
            {"op": "replace", "id": "a", "data": {**MANY, "$x": 1}},
            {"op": "delete", "id": "a"},
        ]
        status, _, received = await api("POST", "/c/bulk", ndjson(*operations), NDJSON)
        statuses = [one["status"] for one in received]
        assert (status, statuses) == (200, [201, 201, 200, 200, 200, 422, 422, 204])
        assert [received[at]["error"]["errors"][0]["pointer"] for at in (5, 6)] == ["/data/id", "/data/$x"]
        body = ndjson({"id": "a", **MANY}, MANY, {"id": 1, **MANY})
        status, _, received = await api("POST", "/c/import", body, NDJSON)
        assert (received[-1]["created"], received[-1]["failed"]) == (2, 1)
        status, _, received = await api("POST", "/c/import", ndjson({"id": "b", **BIG}), NDJSON)
        assert received[-1]["created"] == 1
        assert (await api("GET", "/c/b"))[2] == {"id": "b", **BIG}


async def test_an_idempotent_large_write_is_replayed(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        first = await api("PUT", "/c/x", BIG, {"Idempotency-Key": "k"})
        again = await api("PUT", "/c/x", BIG, {"Idempotency-Key": "k"})
        assert again[1]["Idempotency-Replayed"] == "true"
        assert (again[1]["ETag"], again[2]) == (first[1]["ETag"], first[2])


async def test_what_a_slow_client_has_not_read_counts_for_its_tenant_alone(tmp_path: Path) -> None:
    tenants = {"acme": {"documents": {"body_memory": "15MiB"}}, "globex": {}}
    data = {"fill": "x" * HUGE}
    async with serving(tmp_path, tenants=tenants, body_limit="10MiB") as api:
        for each in (api, api.of("globex")):
            assert await sent(each, "PUT", "/c/x", json.dumps(data).encode()) == 201
        slow = await reader_of_little(api)
        slow.send(request(api, "GET /documents/c/x"))
        memory = api.gateway.documents.memory
        await eventually(lambda: memory.held("acme") >= HUGE)
        assert (await api("GET", "/c/x"))[2]["code"] == "tenant_limit"
        assert (await api.of("globex")("GET", "/c/x"))[0] == 200
        assert (await api("PUT", "/c/small", {"a": 1}))[0] == 201
        _, body = await slow.answer()
        assert json.loads(body) == {"id": "x", **data}
        await eventually(lambda: not memory.used)
        assert (await api("GET", "/c/x"))[0] == 200
        gone = await reader_of_little(api)
        gone.send(request(api, "GET /documents/c/x"))
        await eventually(lambda: memory.held("acme") >= HUGE)
        gone.close()
        await eventually(lambda: not memory.used)
        slow.close()


async def test_a_client_may_read_a_large_document_for_longer_than_the_total_time(tmp_path: Path) -> None:
    data = {"fill": "x" * HUGE}
    async with serving(tmp_path, body_limit="10MiB", timeouts={"total": "4s"}) as api:
        while await sent(api, "PUT", "/c/x", json.dumps(data).encode()) not in (200, 201):
            pass  # on a busy machine the write may itself take longer
        slow = await reader_of_little(api)
        slow.send(request(api, "GET /documents/c/x"))
        await eventually(lambda: api.gateway.documents.memory.used > 0)
        await passes(4.5)
        assert api.gateway.documents.memory.used > 0, "it has not read all"
        _, body = await slow.answer()
        assert json.loads(body) == {"id": "x", **data}
        slow.close()


async def test_a_page_of_large_settings_ends_early_and_counts_until_it_is_read(tmp_path: Path) -> None:
    tenants = {"acme": {"documents": {"body_memory": "7MiB"}}}
    settings = {"schema": {"description": "x" * 240_000}}
    async with serving(tmp_path, tenants=tenants) as api:
        for n in range(20):
            assert (await api("PUT", f"/c{n:02}", settings))[0] == 201
        slow = await reader_of_little(api)
        slow.send(request(api, "GET /documents/?limit=1000"))
        memory = api.gateway.documents.memory
        await eventually(lambda: memory.held("acme") >= 4_000_000)
        assert (await api("GET", "/?limit=1000"))[2]["code"] == "tenant_limit"
        assert (await api("GET", "/c00"))[0] == (await api("GET", "/?limit=1"))[0] == 200
        _, body = await slow.answer()
        first = json.loads(body)
        await eventually(lambda: not memory.used)
        rest = (await api("GET", f"/?limit=1000&cursor={first['next']}"))[2]
        found = first["items"] + rest["items"]
        assert [one["name"] for one in found] == [f"c{n:02}" for n in range(20)] and "next" not in rest
        assert all(one["schema"] == settings["schema"] and one["_declared"] for one in found)
        assert (await api.raw("HEAD", "/?limit=1000"))[::2] == (200, b"")
        slow.close()
