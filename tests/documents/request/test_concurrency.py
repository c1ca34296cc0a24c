"""A tenant's `concurrency` counts its requests to documents, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.api import NDJSON, Api, serving
from tests.documents.request.test_total import began, locked
from tests.documents.test_changes import feed
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio
TENANTS = {"acme": {"concurrency": 2}, "globex": {}}


async def refused(api: Api) -> list[tuple[int, str]]:
    """What becomes of each kind of request."""
    found = []
    for method, path, headers in [
        ("GET", "/c/x", None),
        ("GET", "/c/", None),
        ("GET", "/c/export", None),
        ("PUT", "/c/x", None),
        ("POST", "/c/import", NDJSON),
    ]:
        body = None if method == "GET" else b"{}"
        status, _, received = await api(method, path, body, headers)
        found.append((status, received["code"] if isinstance(received, dict) and status >= 400 else ""))
    return found


async def test_requests_to_documents_count_and_are_given_back(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS) as api:
        await api("PUT", "/c/x", {"a": 1})
        with locked(tmp_path):
            clients = [await began(api, "PUT /documents/c/y", "Content-Length: 2") for _ in range(2)]
            for client in clients:
                client.send(b"{}")

            async def full() -> bool:
                return (await api("GET", "/c/x"))[0] == 429

            await eventually(lambda: len(api.gateway.life.inside) >= 2)
            assert await full()
            assert await refused(api) == [(429, "tenant_limit")] * 5
            assert (await api.of("globex")("GET", "/c/"))[0] == 200, "another tenant is not concerned"
        for client in clients:
            assert (await client.head()).split()[1] in ("200", "201")
            client.close()
        assert [status for status, _ in await refused(api)] == [200] * 5, "what is over does not count"


async def test_a_client_that_leaves_is_counted_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS) as api:
        await api("PUT", "/c/x", {"a": 1})
        clients = [await began(api, "PUT /documents/c/y", "Content-Length: 20") for _ in range(2)]
        await eventually(lambda: len(api.gateway.life.inside) == 2)
        assert (await api("GET", "/c/x"))[0] == 429
        for client in clients:
            client.close()
        await eventually(lambda: not api.gateway.life.inside)
        assert (await api("GET", "/c/x"))[0] == 200


async def test_feeds_have_a_number_of_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants=TENANTS) as api:
        await api("PUT", "/c/x", {"a": 1})
        async with feed(api, "/c/changes"), feed(api, "/c/changes"), feed(api, "/c/changes"):
            assert (await api("GET", "/c/x"))[0] == 200
