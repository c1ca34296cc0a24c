"""API keys and revocations on the admin listener: who may change them, and what becomes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.core.api_keys import PATTERN, split
from tests import harness
from tests.support.admin import Admin, admin_of

pytestmark = pytest.mark.asyncio
KEYS, REVOCATIONS = "/admin/auth/keys", "/admin/auth/revocations"
NEW = {"tenant": "acme", "subject": "etl", "scopes": ["a", "b"], "expires": "never"}


async def change(asked: Admin, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    """With a token that may."""
    headers = harness.bearer(asked.gateway, scope="gateway:admin", sub="root")
    status, _, answer = await asked.ask(path, method, body, **headers)
    return status, answer


async def test_a_key_is_made_shown_once_rotated_and_revoked(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        status, made = await change(asked, KEYS, NEW)
        assert status == 201 and re.fullmatch(PATTERN, made["key"])
        assert (made["scopes"], made["expires"], made["by"]) == (
            ["a", "b"],
            None,
            "acme/root at the admin listener",
        )
        status, headers, listed = await asked.ask(KEYS)
        assert status == 200 and headers["Cache-Control"] == "no-store"
        assert [key["id"] for key in listed["keys"]] == [made["id"]] and made["key"] not in str(listed)
        status, rotated = await change(asked, f"{KEYS}/{made['id']}:rotate", {"overlap": "1h"})
        assert status == 200 and split(rotated["key"])[0] == made["id"] and rotated["key"] != made["key"]
        status, revoked = await change(asked, f"{KEYS}/{made['id']}", method="DELETE")
        assert status == 200 and revoked["state"] == "revoked"
        assert (await change(asked, f"{KEYS}/{made['id']}", method="DELETE"))[0] == 409
        assert (await change(asked, f"{KEYS}/0123456789", method="DELETE"))[0] == 404


async def test_a_revocation_is_made_listed_and_lifted(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        body = {"tenant": "globex", "subject": "bob", "before": "now", "for": "1d", "reason": "why"}
        status, made = await change(asked, REVOCATIONS, body)
        assert status == 201 and made["until"] - made["created"] == 86400
        assert made["before"] == made["created"]
        assert (await asked.ask(REVOCATIONS))[2] == {"revocations": [made]}
        assert (await change(asked, f"{REVOCATIONS}/{made['number']}", method="DELETE"))[0] == 200
        assert (await change(asked, f"{REVOCATIONS}/{made['number']}", method="DELETE"))[0] == 404
        assert (await asked.ask(REVOCATIONS))[2] == {"revocations": []}


async def test_a_change_needs_a_token_with_the_scope_on_loopback_too(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        other = harness.bearer(asked.gateway, scope="documents:read")
        for headers, status in (({}, 401), (other, 403), ({"Origin": "http://evil.example"}, 403)):
            for path, method in ((KEYS, "POST"), (f"{KEYS}/x", "DELETE"), (REVOCATIONS, "POST")):
                assert (await asked.ask(path, method, NEW, **headers))[0] == status
        assert (await asked.ask(KEYS))[2] == {"keys": []}


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        (KEYS, {**NEW, "tenant": "ACME"}, 400, "tenant's name"),
        (KEYS, {**NEW, "expires": "soon"}, 400, "The member expires is not a duration"),
        (KEYS, {**NEW, "expires": "0"}, 400, "less than a second"),
        (KEYS, {**NEW, "subject": 7}, 400, "subject is not a text"),
        (KEYS, {**NEW, "secret": "x"}, 400, "no member of that name"),
        (KEYS, [NEW], 400, "not an object"),
        (KEYS, b"{}", 415, "application/json"),
        (REVOCATIONS, {}, 400, "say what is revoked"),
        (REVOCATIONS, {"before": 1e300}, 400, "in the future"),
        (REVOCATIONS, {"before": True}, 400, "before is not"),
        (REVOCATIONS, {"tenant": "acme", "for": "forever"}, 400, "The member for is not a duration"),
        (REVOCATIONS, {"api_key": "0123456789"}, 404, "no API key"),
        (f"{KEYS}/0123456789:rotate", {}, 404, "no API key"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_the_reason(
    tmp_path: Path, path: str, body: Any, status: int, detail: str
) -> None:
    async with admin_of(tmp_path) as asked:
        got, problem = await change(asked, path, body)
        assert got == status and detail.lower() in problem["detail"].lower(), problem


async def test_a_body_is_strict_json_and_bounded(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        headers = {
            "Content-Type": "application/json",
            **harness.bearer(asked.gateway, scope="gateway:admin"),
        }
        for body, status in (
            (b'{"tenant": "acme", "tenant": "globex"}', 422),
            (b"{", 400),
            (b" " * 70_000, 413),
        ):
            assert (await asked.ask(KEYS, "POST", body, **headers))[0] == status


async def test_what_is_not_there_is_404_or_405_without_a_token(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        for path, status in (("/admin/nothing", 404), ("/admin/auth", 405), (f"{KEYS}/x", 405)):
            assert (await asked.ask(path, "POST", {}))[0] == status
