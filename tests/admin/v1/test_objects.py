"""One object of the config by the admin API: an edit leaves all else of the text as it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.core.config.operator import Grant, Role
from gateway.core.process.operators import Operators
from tests.admin.v1.api import PATCH, TEXT, YAML, api_of

pytestmark = pytest.mark.asyncio
JSON = "application/json"


async def test_an_object_is_made_read_changed_and_removed(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        route = {"path": "/new/{rest*}", "target": "documents", "methods": ["GET"]}
        assert (await api.put("/routes/new", route)).status == 428
        assert (await api.put("/routes/new", route, If_Match="*")).status == 412
        made = await api.put("/routes/new?reason=more", route, If_None_Match="*")
        assert made.status == 201 and made.headers["Location"] == "/admin/v1/routes/new"
        assert made.body["revision"]["reason"] == "more"
        assert api.live.text == TEXT + (
            "\n  - name: new\n    path: /new/{rest*}\n    target: documents\n    methods: [GET]\n"
        )
        assert (await api.put("/routes/new", route, If_None_Match="*")).status == 412
        read = await api("GET", made.headers["Location"].removeprefix("/admin/v1"))
        assert read.body == {"name": "new", **route} and read.etag == made.body["etag"]
        assert (await api("GET", "/routes/new", If_None_Match=read.etag)).status == 304
        patched = await api(
            "PATCH", "/routes/new", {"methods": None, "priority": None}, PATCH, If_Match=read.etag
        )
        assert patched.status == 200, patched.body
        assert "methods" not in (await api("GET", "/routes/new")).body
        gone = await api("DELETE", "/routes/new", If_Match=patched.body["etag"])
        assert gone.status == 200 and api.live.text == TEXT
        assert (await api("DELETE", "/routes/new", If_Match="*")).status == 404
        assert (await api("GET", "/routes/new")).status == 404


async def test_all_objects_of_a_kind_are_listed_with_their_tags(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        listed = (await api("GET", "/tenants")).body["tenants"]
        assert [(one["name"], one["value"]) for one in listed] == [("acme", {"name": "Acme"}), ("globex", {})]
        assert listed[0]["etag"] == (await api("GET", "/tenants/acme")).etag
        assert [one["name"] for one in (await api("GET", "/routes")).body["routes"]] == ["docs", "notes"]
        assert (await api("GET", "/issuers")).body["issuers"] == []


async def test_an_edit_keeps_comments_and_may_be_sent_as_yaml(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        tag = (await api("GET", "/routes/docs")).etag
        body = "path: /docs/{rest*}\nstrip: /docs\ntarget: documents\nbody_limit: 1MiB\n"
        assert (await api("PUT", "/routes/docs", body, YAML, If_Match=tag)).status == 200
        assert api.live.text == TEXT.replace("own store\n", "own store\n    body_limit: 1MiB\n")


async def test_the_tag_of_an_object_is_stale_by_edits_of_it_alone(
    tmp_path: Path,
) -> None:
    async with api_of(tmp_path) as api:
        tag = (await api("GET", "/tenants/acme")).etag
        await api("PATCH", "/tenants/globex", {"weight": 2}, PATCH, If_Match="*")
        first = await api("PATCH", "/tenants/acme?reason=one", {"weight": 3}, PATCH, If_Match=tag)
        assert first.status == 200, first.body
        await api("PATCH", "/tenants/globex", {"weight": 3}, PATCH, If_Match="*")
        stale = await api("PATCH", "/tenants/acme?reason=two", {"weight": 4}, PATCH, If_Match=tag)
        assert stale.status == 412 and stale.body["etag"] == first.body["etag"]
        assert [one["number"] for one in stale.body["since"]] == [first.body["revision"]["number"]]
        refused = (await api("GET", "/audit?action=refused&limit=1")).body["lines"]
        assert (refused[0]["author"], refused[0]["reason"]) == ("acme/root", "two")


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/routes/docs", {"name": "other", "path": "/", "target": "documents"}, 422, "name"),
        ("/routes/docs", [], 422, "not an object"),
        ("/routes/docs", {"path": "/docs", "target": "nowhere"}, 422, "nowhere"),
        ("/tenants/ACME", {}, 422, "ACME"),
        ("/tenants/acme", {"wieght": 1}, 422, "wieght"),
    ],
)
async def test_what_the_config_cannot_be_is_refused_with_its_path(
    tmp_path: Path, path: str, body: object, status: int, told: str
) -> None:
    async with api_of(tmp_path) as api:
        answer = await api("PUT", path, json.dumps(body), JSON, If_Match="*")
        if answer.status == 412:
            answer = await api("PUT", path, json.dumps(body), JSON, If_None_Match="*")
        assert answer.status == status and told in str(answer.body), answer.body
        assert api.live.text == TEXT


async def test_a_put_replaces_all_of_an_object_and_a_null_is_none_of_its_values(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        body = {"path": "/docs/{rest*}", "target": "documents"}
        assert (await api.put("/routes/docs", body, If_Match="*")).status == 200
        assert (await api("GET", "/routes/docs")).body == {"name": "docs", **body}
        refused = await api.put("/routes/docs", {**body, "methods": None}, If_Match="*")
        assert refused.status == 422 and refused.body["errors"][0]["path"] == "routes[0].methods"


async def test_two_patches_of_one_object_at_a_time_both_count(tmp_path: Path) -> None:
    async with api_of(tmp_path) as api:
        patches = ({"weight": 2}, {"concurrency": 7})
        done = await asyncio.gather(
            *(api("PATCH", "/tenants/acme", patch, PATCH, If_Match="*") for patch in patches)
        )
        assert [one.status for one in done] == [200, 200]
        acme = (await api("GET", "/tenants/acme")).body
        assert acme == {"name": "Acme", "weight": 2, "concurrency": 7}


async def test_an_editor_changes_only_what_is_theirs_by_every_way(tmp_path: Path) -> None:
    shop = Grant(Role.EDITOR, (("routes", ("shop-*",)),))
    named = Operators({"root": Grant(Role.OWNER), "bob": shop, "carol": Grant(Role.VIEWER)})
    text = TEXT + "\n  - { name: shop-a, path: /a, target: documents }\n"
    async with api_of(tmp_path, text, operators=named) as api:
        number = api.live.head.number
        only_get = {"methods": ["GET"]}
        carol = api.as_operator("carol")
        assert (await carol("PATCH", "/routes/shop-a", only_get, PATCH, If_Match="*")).status == 403
        bob = api.as_operator("bob")
        foreign = [
            await bob("PATCH", "/tenants/acme", {"weight": 2}, PATCH, If_Match="*"),
            await bob("DELETE", "/routes/docs", If_Match="*"),
            await bob("PUT", "/routes/new", json.dumps({"path": "/n"}), JSON, If_None_Match="*"),
            await bob("PATCH", "/config", {"front_page": False}, PATCH, If_Match="*"),
            await bob.put_text(text.replace("name: notes", "name: shop-b")),
            await bob("POST", f"/revisions/{number - 1}:rollback", If_Match="*"),
        ]
        assert [one.status for one in foreign[:5]] == [403] * 5
        assert (
            foreign[5].status == 403
            and {"kind": "tenants", "name": "acme", "action": "changed"} in (foreign[5].body["objects"])
        )
        assert foreign[4].body["objects"] == [{"kind": "routes", "name": "notes", "action": "removed"}]
        assert api.live.text == text
        done = await bob("PATCH", "/routes/shop-a", only_get, PATCH, If_Match="*")
        assert done.status == 200 and done.body["revision"]["author"] == "acme/bob"
        refused = (await api("GET", "/audit?action=refused&author=acme/bob")).body["lines"]
        assert len(refused) == 6 and {one["role"] for one in refused} == {"editor"}


async def test_an_editors_route_reaches_no_backend_and_no_request_of_others_by_any_way(
    tmp_path: Path,
) -> None:
    shop = Grant(Role.EDITOR, (("routes", ("shop-*",)),))
    named = Operators({"root": Grant(Role.OWNER), "bob": shop})
    text = TEXT + "\n  - { name: shop-a, path: /a, target: documents }\n"
    text = text.replace(
        "tenants:", 'backends: { pay: { kind: asab, addresses: ["http://127.0.0.1:9"] } }\ntenants:'
    )
    inner = text + "  - { name: shop-in, path: /docs/in, target: documents }\n"
    async with api_of(tmp_path, inner, operators=named) as api:
        number = api.live.head.number
        assert (await api.put_text(text)).status == 200
        bob = api.as_operator("bob")
        to_pay = {"path": "/b", "target": "pay"}
        routes = [{"name": "shop-a", "path": "/docs/a", "target": "documents"}]
        routes += [
            one for one in (await bob("GET", "/config")).body["data"]["routes"] if one["name"] != "shop-a"
        ]
        for refused in (
            await bob("PUT", "/routes/shop-b", json.dumps(to_pay), JSON, If_None_Match="*"),
            await bob("PATCH", "/routes/shop-a", {"target": "pay"}, PATCH, If_Match="*"),
            await bob("PATCH", "/config", {"routes": routes}, PATCH, If_Match="*"),
            await bob.put_text(inner),
            await bob("POST", f"/revisions/{number}:rollback", If_Match="*"),
        ):
            assert refused.status == 403, refused.body
            (one,) = refused.body["objects"]
            assert one["name"].startswith("shop-") and one["reason"] in refused.body["detail"]
            assert "targets pay" in one["reason"] or "of the route docs (/docs/{rest*})" in one["reason"]
        assert api.live.text == text
        done = await bob("PATCH", "/routes/shop-a", {"path": "/a/{rest*}"}, PATCH, If_Match="*")
        assert done.status == 200, done.body
