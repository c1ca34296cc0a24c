"""Revisions and the audit by the admin API: listed in pages, compared, pinned, made live again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.v1.changing import Config
from gateway.core.config.operator import Grant, Role
from gateway.core.process.operators import Operators
from tests import eventually
from tests.admin.v1.api import PATCH, TEXT, YAML, api_of

pytestmark = pytest.mark.asyncio
JSON = "application/json"


async def test_revisions_are_listed_in_pages_that_link_to_the_next(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        for number in range(4):
            await api.put_text(TEXT + f"# {number}\n", f"?reason={number}")
        seen: list[int] = []
        path = "/revisions?limit=2"
        while path:
            page = await api("GET", path)
            seen += [one["number"] for one in page.body["revisions"]]
            link = page.headers.get("Link", "")
            assert not link or link.endswith('>; rel="next"')
            path = link.split(">")[0].removeprefix("</admin/v1") if link else ""
        assert seen == list(range(api.live.head.number, 0, -1))
        for wrong in ("limit=0", "limit=1001", "limit=x", "before=-1", "after=1"):
            assert (await api("GET", f"/revisions?{wrong}")).status == 400
        assert (await api("GET", "/revisions")).body["live"] == api.live.head.number


async def test_a_revision_is_read_compared_and_made_live_again_to_the_byte(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        old = api.live.head.number
        text = TEXT.replace("\n", "\r\n").replace("name: Acme", "name: Ácme")
        new = (await api.put_text(text)).body["revision"]["number"]
        read = await api("GET", f"/revisions/{old}?text")
        assert read.body["number"] == old and read.body["text"] == TEXT
        assert (await api("GET", f"/revisions/{new}", Accept=YAML)).body == text
        diff = (await api("GET", f"/revisions/{old}/diff/live")).body
        assert [one["name"] for one in diff["changes"]] == ["acme"] and diff["to"] == new
        assert "+  acme: { name: Ácme }" in diff["text_diff"]
        assert (await api("GET", f"/revisions/{old}/diff/999")).status == 404
        body = {"reason": "it was better", "expected": new}
        back = await api("POST", f"/revisions/{old}:rollback", body, JSON)
        assert back.status == 200 and api.live.text == TEXT
        assert (back.body["revision"]["restores"], back.body["revision"]["reason"]) == (old, "it was better")
        stale = await api("POST", f"/revisions/{old}:rollback", body, JSON)
        assert stale.status == 412 and len(stale.body["since"]) == 1
        assert [one["name"] for one in stale.body["changes"]] == ["acme"]
        stale = await api("POST", f"/revisions/{new}:rollback", If_Match=f'"{"0" * 64}"')
        assert stale.status == 412
        assert (await api("POST", f"/revisions/{new}:rollback", If_Match=back.etag)).status == 200
        assert api.live.text == text
        assert (await api("POST", "/revisions/999:rollback", If_Match="*")).status == 404
        unsaid = await api("POST", f"/revisions/{old}:rollback", {"reason": "quick"}, JSON)
        assert unsaid.status == 428 and api.live.text == text
        assert (await api("POST", f"/revisions/{new}:rollback", {"expceted": 1}, JSON)).status == 400


async def test_a_revision_is_pinned_and_the_audit_knows_by_whom(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        number = api.live.head.number
        assert (await api("POST", f"/revisions/{number}:pin?reason=release")).body["pinned"]
        assert not (await api("POST", f"/revisions/{number}:unpin", {}, JSON)).body["pinned"]
        assert (await api("POST", "/revisions/999:pin")).status == 404
        lines = (await api("GET", "/audit?author=acme/root&action=pinned")).body["lines"]
        assert [(one["to"], one["reason"], one["detail"]) for one in lines] == [
            (number, "", "not any more"),
            (number, "release", ""),
        ]


async def test_pins_are_bounded_and_of_whoever_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.admin.v1.revisions._PINNED", 2)
    grants = {"root": Grant(Role.OWNER), "bob": Grant(Role.EDITOR), "eve": Grant(Role.EDITOR)}
    async with api_of(tmp_path, operators=Operators(named=grants)) as api:
        for number in range(2):
            await api.put_text(TEXT + f"# {number}\n")
        bob, eve = api.as_operator("bob"), api.as_operator("eve")
        assert (await api("POST", "/revisions/1:pin")).status == 200
        assert (await bob("POST", "/revisions/1:pin")).status == 200  # it is, and stays the owner's
        assert (await bob("POST", "/revisions/2:pin")).status == 200
        assert (await bob("POST", "/revisions/3:pin")).status == 422
        assert (await bob("POST", "/revisions/1:unpin")).status == 403
        assert (await eve("POST", "/revisions/2:unpin")).status == 403
        assert (await bob("POST", "/revisions/2:unpin")).body["pinned"] is False
        assert (await bob("POST", "/revisions/3:pin")).status == 200
        assert (await api("POST", "/revisions/3:unpin")).status == 200


async def test_nothing_is_pinned_while_the_audit_cannot_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_of(tmp_path) as api:

        async def full() -> None:
            raise OSError("no space is left")

        monkeypatch.setattr(api.live.audit, "ready", full)
        assert (await api("POST", "/revisions/1:pin")).status == 503
        assert not (await api.live.revisions.get(1)).pinned


async def test_the_audit_has_the_tries_that_were_refused_and_none_that_was_made_after_all(
    tmp_path: Path,
) -> None:
    async with api_of(tmp_path) as api:
        tag = (await api("GET", "/routes/docs")).etag
        changes = [
            api("PATCH", "/routes/docs", {"methods": ["GET"]}, PATCH, If_Match=tag),
            api("PATCH", "/routes/notes", {"methods": ["GET"]}, PATCH, If_Match="*"),
            api("PATCH", "/tenants/globex", {"name": "Globex"}, PATCH, If_Match="*"),
        ]
        assert [one.status for one in await asyncio.gather(*changes)] == [200] * 3
        refused = "/audit?action=refused"
        assert (await api("GET", refused)).body["lines"] == []
        assert (await api("DELETE", "/routes/docs")).status == 428
        assert (await api("POST", "/config:confirm", {"revision": 1}, JSON)).status == 412
        stale, none = (await api("GET", refused)).body["lines"]
        assert "428" in none["detail"] and "a revision before" in stale["detail"]
        assert stale["author"] == none["author"] == "acme/root"


async def test_the_audit_is_read_in_pages_and_verified(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        for number in range(3):
            await api.put_text(TEXT + f"# {number}\n")
        first = await api("GET", "/audit?limit=2&action=applied")
        assert len(first.body["lines"]) == 2 and "action=applied" in first.headers["Link"]
        older = await api("GET", first.headers["Link"].split(">")[0].removeprefix("</admin/v1"))
        assert older.body["lines"][0]["seq"] < first.body["lines"][-1]["seq"]
        assert (await api("GET", "/audit:verify")).body == {"ok": True, "problems": []}
        api.live.audit.path.write_bytes(
            api.live.audit.path.read_bytes().replace(b"acme/root", b"acme/evil", 1)
        )
        assert not (await api("GET", "/audit:verify")).body["ok"]
        status, _, _ = await api.admin.ask("/admin/v1/audit:verify", "GET")
        assert status == 401  # on loopback, too: it reads all of it


async def test_a_long_verification_keeps_no_page_waiting_and_runs_once_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[asyncio.Event] = []

    async def verify() -> list[str]:
        begun.append(asyncio.Event())
        await begun[-1].wait()
        return []

    async with api_of(tmp_path) as api, asyncio.timeout(eventually.END):
        monkeypatch.setattr(api.live.audit, "verify", verify)
        asked = [asyncio.create_task(api("GET", "/audit:verify")) for _ in range(3)]
        while not begun:
            await asyncio.sleep(0)
        assert (await api.admin.ask("/metrics"))[0] == 200
        begun[0].set()
        assert [one.body["ok"] for one in await asyncio.gather(*asked)] == [True] * 3
        assert len(begun) == 1


async def test_no_page_waits_for_those_that_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, probes and small pages have a turn of their own."""
    go_on, entered = asyncio.Event(), asyncio.Event()
    changes = Config.changes

    async def slow(config: Config, before: str, after: str) -> Any:
        entered.set()
        await go_on.wait()
        return await changes(config, before, after)

    async with api_of(tmp_path) as api:
        await api.put_text(TEXT + "# more\n")
        monkeypatch.setattr(Config, "changes", slow)
        comparing = [asyncio.create_task(api("GET", "/revisions/1/diff/live")) for _ in range(3)]
        await entered.wait()
        for path in ("/metrics", "/livez", "/admin/v1/config"):
            assert (await api.admin.ask(path))[0] == 200
        assert not any(task.done() for task in comparing)
        go_on.set()
        assert {(await task).status for task in comparing} == {200}
        assert (await api("GET", "/revisions/99/diff/live")).status == 404
