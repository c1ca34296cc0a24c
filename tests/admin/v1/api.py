"""Asking the admin API of a gateway as an operator."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests import harness
from tests.support.admin import Admin, admin_of

V1 = "/admin/v1"
TEXT = """\
# what is served
version: 1
tenants:
  acme: { name: Acme } # the first
  globex: {}

routes:
  # documents of all
  - name: docs
    path: /docs/{rest*}
    strip: /docs
    target: documents # the own store

  - name: notes
    path: /notes/{rest*}
    strip: /notes
    target: documents
"""
YAML, PATCH = "application/yaml", "application/merge-patch+json"


class Answer(NamedTuple):
    status: int
    headers: Any
    body: Any

    @property
    def etag(self) -> str:
        return str(self.headers["ETag"])


class Api:
    def __init__(self, admin: Admin, headers: dict[str, str]) -> None:
        self.admin = admin
        self.live = admin.gateway.live
        self.headers = headers

    async def __call__(
        self, method: str, path: str, body: Any = None, content_type: str = "", **headers: str
    ) -> Answer:
        """path: below /admin/v1. headers: with _ for -."""
        given = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type:
            given["Content-Type"] = content_type
        if isinstance(body, str):
            body = body.encode()
        if isinstance(body, dict) and content_type:
            body = json.dumps(body).encode()
        if body is None:
            body = b""
        return Answer(*await self.admin.ask(V1 + path, method, body, **given))

    def as_operator(self, subject: str) -> Api:
        """The same, asked by somebody else with a token."""
        headers = harness.bearer(self.admin.gateway, scope="gateway:admin", sub=subject)
        return Api(self.admin, headers)

    async def put(
        self, path: str, body: Any, content_type: str = "application/json", **headers: str
    ) -> Answer:
        return await self("PUT", path, body, content_type, **headers)

    async def put_text(self, text: str, query: str = "", **headers: str) -> Answer:
        """Replace the live config, whatever it is."""
        return await self("PUT", f"/config{query}", text, YAML, **({"If_Match": "*"} | headers))


@asynccontextmanager
async def api_of(folder: Path, text: str = TEXT, **more: Any) -> AsyncIterator[Api]:
    """The admin API of a gateway whose config has this text, for an owner."""
    async with admin_of(folder, **more) as admin:
        api = Api(admin, harness.bearer(admin.gateway, scope="gateway:admin", sub="root"))
        made = await api.put_text(text)
        assert made.status == 200, made.body
        yield api
