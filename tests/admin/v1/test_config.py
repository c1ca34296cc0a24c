"""The whole config by the admin API: read, replaced, patched, checked, confirmed; with preconditions as
RFC 9110 has them."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.admin.v1 import config as config_pages
from gateway.admin.v1.changing import require
from gateway.config import source
from gateway.core.config.differences import differences
from gateway.core.config.operator import Grant, Operator, Role
from gateway.core.errors import Forbidden
from gateway.core.process.operators import Operators
from tests.admin.v1.api import PATCH, TEXT, YAML, api_of

pytestmark = pytest.mark.asyncio
OTHER = TEXT.replace("name: Acme", "name: ACME")


async def test_the_live_config_is_read_as_json_or_as_its_text(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        read = await api("GET", "/config")
        assert read.body["text"] == TEXT and read.body["data"]["tenants"]["acme"] == {"name": "Acme"}
        revision = read.body["revision"]
        assert (revision["author"], revision["source"]) == ("acme/root", "api")
        assert "no-transform" in read.headers["Cache-Control"]  # else a proxy makes the tag weak
        assert read.headers["X-Config-Revision"] == str(revision["number"])
        as_text = await api("GET", "/config", Accept="application/yaml, application/json;q=0.5")
        assert as_text.body == TEXT and as_text.etag == f'"{revision["digest"]}"'
        assert as_text.headers["Content-Type"].startswith("application/yaml")
        for answer, accept in ((read, "*/*"), (as_text, YAML)):
            assert (await api("GET", "/config", If_None_Match=answer.etag, Accept=accept)).status == 304
            weak = f'"x", W/{answer.etag}'
            assert (await api("GET", "/config", If_None_Match=weak, Accept=accept)).status == 304
        assert (await api("GET", "/config?txt")).body["parameter"] == "txt"


async def test_a_config_is_replaced_by_who_knows_which_one_it_replaces(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        first = await api("GET", "/config")
        assert (await api("PUT", "/config", OTHER, YAML)).status == 428
        reason = quote("ACME heißt groß")
        done = await api.put_text(OTHER, If_Match=first.etag, X_Reason=reason)
        assert done.status == 200 and api.live.text == OTHER
        assert done.body["revision"]["reason"] == "ACME heißt groß"
        assert done.body["revision"]["parent"] == first.body["revision"]["number"]
        (change,) = done.body["changes"]
        assert (change["kind"], change["name"], change["action"]) == ("tenants", "acme", "changed")
        stale = await api.put_text(TEXT + "# x\n", If_Match=first.etag)
        assert stale.status == 412 and stale.body["code"] == "stale"
        assert [one["number"] for one in stale.body["since"]] == [done.body["revision"]["number"]]
        assert stale.body["since"][0]["reason"] == "ACME heißt groß"
        assert stale.body["changes"] == done.body["changes"] != [] and stale.body["more"] == 0
        unknown = await api.put_text(TEXT, If_Match=f'"{"0" * 64}"')
        assert unknown.status == 412 and unknown.body["changes"] is None
        assert (await api.put_text(TEXT, If_Match=f"W/{done.etag}")).status == 412
        again = await api.put_text(OTHER, If_Match=f'"nonsense", {done.etag}')
        assert again.status == 200 and again.body["revision"]["number"] == done.body["revision"]["number"]
        assert (Path(api.live.source.name)).read_text() == OTHER


async def test_a_config_with_problems_changes_nothing_and_each_is_told_with_its_line(tmp_path: Path) -> None:
    bad = TEXT.replace("target: documents # the own store", "target: nowhere").replace(
        "globex: {}", "globex: 7"
    )
    async with api_of(tmp_path) as api:
        number = api.live.head.number
        for text in (bad, "version: 1\nroutes: [\n", "\xff".encode("latin-1").decode("latin-1") + "\0"):
            refused = await api.put_text(text)
            assert refused.status == 422 and refused.body["code"] == "invalid_config"
            assert all(one.keys() == {"path", "line", "reason", "hint"} for one in refused.body["errors"])
        errors = (await api.put_text(bad)).body["errors"]
        assert [(one["path"], one["line"]) for one in errors] == [
            ("tenants.globex", 5),
            ("routes[0].target", 12),
        ]
        assert (await api("PUT", "/config", b"a: \xff", YAML, If_Match="*")).status == 422
        assert api.live.head.number == number and api.live.text == TEXT
        lines = (await api("GET", "/audit?action=refused")).body["lines"]
        assert "tenants.globex" in lines[0]["detail"] and lines[0]["author"] == "acme/root"


async def test_a_merge_patch_leaves_comments_and_order(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        patch = {"tenants": {"globex": {"weight": 2}, "initech": {}}, "front_page": False}
        assert (await api("PATCH", "/config", patch, PATCH)).status == 428
        done = await api("PATCH", "/config", patch, PATCH, If_Match="*")
        assert done.status == 200, done.body
        assert (
            api.live.text
            == TEXT.replace("globex: {}\n", "globex: { weight: 2 }\n  initech: {}\n")
            + "\nfront_page: false\n"
        )
        assert (await api("PATCH", "/config", patch, "application/json", If_Match="*")).status == 415
        assert (await api("PATCH", "/config", "[]", PATCH, If_Match="*")).status == 422


async def test_a_check_changes_nothing_and_tells_what_would(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        number = api.live.head.number
        good = await api("POST", "/config:check", OTHER, YAML)
        assert good.body["ok"] and [one["name"] for one in good.body["changes"]] == ["acme"]
        bad = await api("POST", "/config:check", {"text": "version: 1\nroutes: 7\n"}, "application/json")
        assert not bad.body["ok"] and bad.body["problems"][0]["line"] == 2
        assert (await api("POST", "/config:check", TEXT, YAML)).body == {
            "ok": True,
            "problems": [],
            "changes": [],
        }
        assert (
            await api("POST", "/config:check", {"text": TEXT, "reason": "x"}, "application/json")
        ).status == 400
        assert api.live.head.number == number


async def test_a_change_that_is_not_confirmed_goes_back(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        first = api.live.head.number
        done = await api.put_text(OTHER, "?confirm_within=1s&reason=try")
        pending = done.body["pending"]
        assert (pending["number"], pending["back_to"]) == (done.body["revision"]["number"], first)
        assert (await api("POST", "/config:confirm", {"revision": first}, "application/json")).status == 412
        confirmed = await api("POST", "/config:confirm", {"revision": pending["number"]}, "application/json")
        assert confirmed.status == 200 and confirmed.body["pending"] is None
        nothing = await api("POST", "/config:confirm", {"revision": pending["number"]}, "application/json")
        assert nothing.status == 200  # it was said before
        for wrong in ("soon", "0s", "25h", "500ms"):
            assert (await api.put_text(TEXT, f"?confirm_within={wrong}")).status == 400


async def test_while_one_waits_all_else_is_409_and_says_whose_and_what_to_do(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        nothing = await api("POST", "/config:confirm", {"revision": api.live.head.number}, "application/json")
        assert (nothing.status, nothing.body["code"]) == (409, "nothing_to_confirm")
        before = api.live.head.number
        await api.put_text(OTHER, "?confirm_within=60s&reason=try")
        number = before + 1
        for refused in (
            await api.put_text(TEXT),
            await api("PATCH", "/config", {"front_page": False}, PATCH, If_Match="*"),
            await api("PATCH", "/routes/notes", {"strip": "/notes"}, PATCH, If_Match="*"),
            await api("POST", f"/revisions/{number}:rollback", {"expected": number}, "application/json"),
        ):
            assert (refused.status, refused.body["code"]) == (409, "confirmation_pending")
            detail = refused.body["detail"]
            assert f"Revision {number} of acme/root (try) waits for its confirmation until" in detail
            assert f"Confirm it, or roll back to revision {before}." in detail
            pending, revision = refused.body["pending"], refused.body["revision"]
            assert (pending["number"], pending["back_to"]) == (number, before)
            assert revision["author"] == "acme/root"
        back = await api("POST", f"/revisions/{before}:rollback", {"expected": number}, "application/json")
        assert (back.status, back.body["pending"]) == (200, None)


@pytest.mark.parametrize(
    ("body", "content_type", "query", "headers", "status"),
    [
        (TEXT, "text/plain", "", {}, 415),
        (TEXT, "application/yaml; charset=latin-1", "", {}, 415),
        (TEXT, "application/yaml; charset=UTF-8", "", {}, 200),
        (TEXT, YAML, "", {"Content_Encoding": "gzip"}, 415),
        (TEXT, YAML, "?reason=a&reason=b", {}, 400),
        (TEXT, YAML, "?dry_run=1", {}, 400),
        (TEXT, YAML, "?reason=" + "x" * 501, {}, 400),
        (TEXT, YAML, "?reason=a%0Ab", {}, 400),
        (TEXT, YAML, "?reason=%E2%80%AEx", {}, 400),
        (TEXT, YAML, "", {"X_Reason": "%zz"}, 400),
        (TEXT, YAML, "?reason=a", {"X_Reason": "b"}, 400),
        (TEXT, YAML, "", {"If_Match": "abc"}, 400),
        ('{"text": 7}', "application/json", "", {}, 400),
        ('{"text": "", "txt": ""}', "application/json", "", {}, 400),
        ('{"text": "a", "text": "b"}', "application/json", "", {}, 422),
        ("{", "application/json", "", {}, 400),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, body: str, content_type: str, query: str, headers: dict[str, str], status: int
) -> None:
    async with api_of(tmp_path) as api:
        answer = await api("PUT", f"/config{query}", body, content_type, **({"If_Match": "*"} | headers))
        assert answer.status == status, answer.body


async def test_a_config_may_be_16_mib_and_other_bodies_64_kib(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        assert (await api.put_text(TEXT + "#" * 1_000_000 + "\n")).status == 200
        url, body = api.admin.url("/admin/v1/config:check"), io.BytesIO(b"#" * (16 * 1024 * 1024 + 1))
        headers = {"Content-Type": YAML, **api.headers}
        async with api.admin.session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 413
        assert (await api.put("/routes/x", b" " * 70_000, If_Match="*")).status == 413


@pytest.mark.parametrize("accept", [YAML, "application/json"])
async def test_a_text_that_was_shown_without_its_secrets_does_not_become_the_config(
    tmp_path: Path, accept: str
) -> None:
    secret = TEXT + "# password: hunter2secretvalue\n"
    async with api_of(tmp_path, secret) as api:
        for etag in (await api.admin.ask("/admin/v1/config", Accept=accept))[1].getall("ETag"):
            shown = (await api.admin.ask("/admin/v1/config", Accept=YAML))[2]
            assert "hunter2" not in shown
            refused = await api.put_text(shown, If_Match=etag)
            assert refused.status == 412 and "***" in refused.body["detail"] and api.live.text == secret
            assert (await api("PATCH", "/config", {"front_page": False}, PATCH, If_Match=etag)).status == 200
        whole = await api("GET", "/config", Accept=accept)
        assert (await api.put_text(TEXT, If_Match=whole.etag)).status == 200


async def test_a_change_has_its_text_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = source.parse_apart

    async def counted(text: str) -> Any:
        read.append(text)
        return await parse(text)

    async with api_of(tmp_path) as api:
        monkeypatch.setattr(source, "parse_apart", counted)
        assert (await api.put_text(OTHER)).body["changes"]
        assert (await api("GET", "/audit?limit=1")).body["lines"][0]["diff"]
        assert read == [OTHER]


async def test_four_who_race_lose_nothing(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:

        async def add(name: str) -> int:
            route = {"path": f"/{name}/{{rest*}}", "target": "documents"}
            return (await api.put(f"/routes/{name}", route, If_None_Match="*")).status

        assert await asyncio.gather(*(add(f"r{number}") for number in range(4))) == [201] * 4
        page = (await api("GET", "/revisions")).body["revisions"]
        assert [one["parent"] for one in page[:4]] == [one["number"] for one in page[1:5]]
        text = api.live.text
        base = (await api("GET", "/config")).etag
        texts = [text + f"# {number}\n" for number in range(4)]
        done = await asyncio.gather(*(api.put_text(one, If_Match=base) for one in texts))
        assert sorted(one.status for one in done) == [200, 412, 412, 412]


async def test_an_editor_neither_keeps_nor_ends_what_waits_for_a_confirmation_and_is_not_theirs(
    tmp_path: Path,
) -> None:
    named = {"root": Grant(Role.OWNER), "bob": Grant(Role.EDITOR, (("routes", ("notes",)),))}
    patch: Any = {"strip": None}, PATCH
    async with api_of(tmp_path, operators=Operators(named=named)) as api:
        bob = api.as_operator("bob")
        await api.put_text(OTHER, "?confirm_within=60s")
        for query in ("", "?confirm_within=1s"):
            refused = await bob("PATCH", f"/routes/notes{query}", *patch, If_Match="*")
            assert (refused.status, refused.body["code"]) == (409, "confirmation_pending")
        assert api.live.pending is not None
        await api("POST", "/config:confirm", {"revision": api.live.head.number}, "application/json")
        assert (await bob("PATCH", "/routes/notes?confirm_within=60s", *patch, If_Match="*")).status == 200
        number = {"revision": api.live.head.number}
        assert (await bob("POST", "/config:confirm", number, "application/json")).status == 200


async def test_an_editor_changes_what_the_patterns_name() -> None:
    editor = Operator("bob", Role.EDITOR, (("routes", ("shop-*",)),))
    before: dict[str, Any] = {"version": 1, "routes": [], "tenants": {}}
    route = {"name": "shop-a", "path": "/a", "target": "documents"}
    require(editor, differences(before, {**before, "routes": [route]}))
    for after in (
        {**before, "routes": [{**route, "name": "a"}]},
        {**before, "tenants": {"x": {}}},
        {**before, "front_page": False},
    ):
        with pytest.raises(Forbidden) as refused:
            require(editor, differences(before, after))
        assert refused.value.extra["objects"]


async def test_a_change_says_where_the_refused_edit_by_hand_is_that_it_replaced(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        path = Path(api.live.source.name)
        path.write_text("version: 1\nroutes: [{ name: mine }]\n")
        await api.live.reload()
        made = await api.put_text(TEXT + "# more\n")
        assert made.status == 200 and Path(made.body["kept"]).read_text().endswith("mine }]\n")
        assert "kept" not in (await api.put_text(TEXT)).body


async def test_an_operator_has_few_checks_and_rehearsals_at_a_time_and_others_have_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_pages, "_CHECK", 60.0)  # of a busy machine
    large = "version: 1\nx: [" + "a," * 10_000 + "a]\n"
    async with api_of(tmp_path) as api:
        viewer = api.as_operator("viewer")
        paths = (*["/config:check"] * 5, "/config:rehearse")
        answers = await asyncio.gather(*(viewer("POST", path, large, YAML) for path in paths))
        refused = [answer for answer in answers if answer.status == 429]
        assert 1 <= len(refused) <= 3
        assert all(one.body["code"] == "operator_limit" and one.headers["Retry-After"] for one in refused)
        own, other = await asyncio.gather(
            viewer("POST", "/config:check", large, YAML), api("POST", "/config:check", OTHER, YAML)
        )
        assert (own.status, own.body["ok"], other.status, other.body["ok"]) == (200, False, 200, True)


async def test_a_check_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_pages, "_CHECK", 0.05)
    large = "version: 1\nx: [" + "a," * 60_000 + "a]\n"
    async with api_of(tmp_path) as api:
        ended = await api("POST", "/config:check", large, YAML)
        assert (ended.status, ended.body["code"], ended.headers["Retry-After"]) == (503, "saturated", "30")
        monkeypatch.undo()
        assert (await api("POST", "/config:check", OTHER, YAML)).body["ok"]
