"""The console's box to try a request, and what it shows of a tenant, over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import harness
from tests.support.admin import admin_of

SCOPES = {"read": ["documents:read"], "write": ["documents:write"], "manage": ["documents:manage"]}
ROUTING = harness.routing(
    [harness.route("docs", "documents", scopes=SCOPES)],
    tenants={"acme": {"quota": "100/day", "documents": {"max_documents": 5}}, "globex": {}},
)


@pytest.mark.parametrize(
    ("path", "scope", "passed", "status", "code", "route"),
    [
        ("/docs/orders/1", "documents:read", True, None, None, "docs"),
        ("/docs/orders/1", "nothing", False, 403, "forbidden", "docs"),
        ("/docs/orders/1", None, False, 401, "unauthenticated", "docs"),
        ("/nowhere", "documents:read", False, 404, "no_route", None),
    ],
)
async def test_a_request_is_explained_by_the_running_gateway_and_its_token_is_not_repeated(
    tmp_path: Path, path: str, scope: str | None, passed: bool, status: int, code: str, route: str
) -> None:
    async with admin_of(tmp_path, routing=ROUTING) as asked:
        given = {"method": "get", "path": path}
        if scope is not None:
            given["token"] = harness.token(asked.gateway, "acme", scope)
        owner = harness.bearer(asked.gateway, "acme", "gateway:admin")
        got, _, body = await asked.ask("/admin/v1/explain", "POST", given, **owner)
        assert got == 200, body
        assert (body["passed"], body["status"], body["code"], body["route"]) == (passed, status, code, route)
        steps = {step["name"]: step["text"] for step in body["steps"]}
        assert steps["outcome"].startswith("passed on" if passed else f"refused: {status} {code}")
        assert "token" not in given or given["token"] not in str(body)


async def test_explaining_counts_nobodys_calls_and_sends_nothing(tmp_path: Path) -> None:
    async with admin_of(tmp_path, routing=ROUTING) as asked:
        owner = harness.bearer(asked.gateway, "acme", "gateway:admin")
        token = harness.token(asked.gateway, "acme", "documents:write")
        for _ in range(3):
            given = {"method": "PUT", "path": "/docs/orders/1", "token": token}
            assert (await asked.ask("/admin/v1/explain", "POST", given, **owner))[0] == 200
        usage = (await asked.ask("/admin/v1/tenants/acme/usage"))[2]
        assert (usage["quota"]["used"], usage["documents"]["documents"]) == (0, 0)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"method": "GET"}, "path is missing"),
        ({"path": "/x", "headers": {"X": "a\r\nb"}}, "line break"),
        ({"path": "/x", "headers": ["X"]}, "not an object of texts"),
        ({"path": "/x", "body": "y"}, "no member of that name"),
    ],
)
async def test_a_request_that_cannot_be_one_is_refused_with_the_reason(
    tmp_path: Path, given: object, why: str
) -> None:
    async with admin_of(tmp_path, routing=ROUTING) as asked:
        owner = harness.bearer(asked.gateway, "acme", "gateway:admin")
        status, _, body = await asked.ask("/admin/v1/explain", "POST", given, **owner)
        assert (status, why in body["detail"]) == (400, True), body


async def test_the_usage_of_a_tenant_is_what_it_made_today_and_what_it_holds(tmp_path: Path) -> None:
    async with admin_of(tmp_path, routing=ROUTING) as asked:
        writer = harness.bearer(asked.gateway, "acme", "documents:read documents:write")
        for number in range(3):
            url = harness.url(asked.gateway, f"/docs/orders/{number}")
            async with asked.session.put(url, json={"n": number}, headers=writer) as response:
                assert response.status == 201
        status, _, body = await asked.ask("/admin/v1/tenants/acme/usage")
        assert (status, body["quota"]["limit"], body["quota"]["used"]) == (200, 100, 3)
        documents = body["documents"]
        assert (documents["documents"], documents["max_documents"], documents["complete"]) == (3, 5, True)
        assert (await asked.ask("/admin/v1/tenants/nobody/usage"))[0] == 404
