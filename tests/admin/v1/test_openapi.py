"""The description of the admin API: of every page, and as OpenAPI 3.1 has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.admin.v1.openapi.document import routes
from gateway.admin.v1.openapi.pages import PAGES
from tests.admin.v1.api import V1, api_of
from tests.support.admin import admin_of

pytestmark = pytest.mark.asyncio
_OPERATION = {
    "operationId",
    "summary",
    "description",
    "tags",
    "parameters",
    "responses",
    "requestBody",
    "security",
}


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        for one in value.values():
            yield from refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from refs(one)


async def test_every_page_is_described_and_nothing_else(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as admin:
        status, headers, found = await admin.ask("/admin/openapi.json")
        assert status == 200 and headers["Content-Type"].startswith("application/json")
        described = {f"{method.upper()} {path}" for path, page in found["paths"].items() for method in page}
        there = {f"{method} {path}" for method, path, _ in routes(admin.app)}
        assert described == there
        assert there <= PAGES.keys(), "what they take and give is to be said in openapi/pages.py"
        for name in PAGES.keys() & there:
            method, path = name.split(" ")
            assert found["paths"][path][method.lower()]["summary"], name


async def test_the_description_is_one_of_openapi(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as admin:
        _, _, found = await admin.ask("/admin/openapi.json")
    assert found.keys() == {"openapi", "info", "servers", "security", "paths", "components"}
    assert re.fullmatch(r"3\.1\.\d", found["openapi"]) and found["info"].keys() >= {"title", "version"}
    ids = []
    for path, page in found["paths"].items():
        for operation in page.values():
            assert operation.keys() <= _OPERATION and operation["responses"]
            ids.append(operation["operationId"])
            named = [one["name"] for one in operation["parameters"] if one.get("in") == "path"]
            assert named == re.findall(r"\{(\w+)\}", path)
            assert all(one["required"] for one in operation["parameters"] if one.get("in") == "path")
            assert all("description" in one or "$ref" in one for one in operation["responses"].values())
    assert len(ids) == len(set(ids))
    for reference in refs(found):
        part: Any = found
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]
    for schema in found["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_what_the_pages_give_is_as_described(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        _, _, found = await api.admin.ask("/admin/openapi.json")

        def check(method: str, path: str, value: Any) -> None:
            operation = found["paths"][V1 + path][method.lower()]
            schema = next(iter(operation["responses"]["200"]["content"].values()))["schema"]
            whole = {**schema, "components": found["components"]}
            jsonschema.Draft202012Validator(whole).validate(value)

        await api("PATCH", "/tenants/acme?confirm_within=60s", {"weight": 2}, "application/merge-patch+json",
                  If_Match="*")  # fmt: skip
        number = api.live.head.number
        for path, described in (
            ("/config", "/config"),
            ("/routes", "/routes"),
            ("/routes/docs", "/routes/{name}"),
            ("/tenants/acme", "/tenants/{name}"),
            ("/revisions", "/revisions"),
            (f"/revisions/{number}?text", "/revisions/{number}"),
            (f"/revisions/{number - 1}/diff/live", "/revisions/{before}/diff/{after}"),
            ("/audit", "/audit"),
            ("/audit:verify", "/audit:verify"),
        ):
            answer = await api("GET", path)
            assert answer.status == 200
            check("GET", described, answer.body)
        problem = (await api.put_text("version: 7\n")).body
        whole = {**found["components"]["schemas"]["Problem"], "components": found["components"]}
        jsonschema.Draft202012Validator(whole).validate(problem)
