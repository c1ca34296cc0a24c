"""A rehearsal tells, of the requests that really came, which another config would answer otherwise."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import yaml

from gateway.core.api_keys import compose
from tests import eventually, harness
from tests.fakes import Backend, always, answer
from tests.support.admin import Admin, admin_of

CORS = {"origins": ["https://app.example"], "methods": ["GET"]}
SCOPES = {"read": ["shop:read"], "write": ["shop:write"]}
OF_DOCUMENTS = {"read": ["docs:read"], "write": ["docs:write"], "manage": ["docs:manage"]}


def config(app: str, other: str) -> dict[str, Any]:
    return harness.routing(
        [
            harness.route("shop", "app", scopes=SCOPES),
            harness.route("open", "app", public=True),
            harness.route("docs", "documents", scopes=OF_DOCUMENTS),
            harness.route("pages", "app", scopes={"read": [], "write": []}, cors=CORS),
            harness.route("pro", "app", scopes={"read": [], "write": []}, require={"plan": ["pro"]}),
        ],
        backends={
            "app": {"kind": "http", "addresses": [app]},
            "other": {"kind": "http", "addresses": [other]},
        },
    )


class Shop:
    """A gateway after a day's work. said: its config."""

    def __init__(self, asked: Admin, said: dict[str, Any]) -> None:
        self.asked = asked
        self.gateway = asked.gateway
        self.said = said
        self.admin = harness.bearer(asked.gateway, "acme", "gateway:admin")

    async def send(self, method: str, path: str, status: int, count: int = 1, **more: Any) -> None:
        for _ in range(count):
            url = harness.url(self.gateway, path)
            async with self.asked.session.request(method, url, **more) as response:
                assert response.status == status, (path, response.status, await response.text())

    async def rehearse(self, edit: Callable[[dict[str, Any]], object]) -> Any:
        data = copy.deepcopy(self.said)
        edit(data)
        status, _, outcome = await self.rehearse_text(yaml.safe_dump(data))
        assert status == 200, outcome
        return outcome

    async def rehearse_text(
        self, text: str, kind: str = "application/yaml", by: str = "alice", query: str = ""
    ) -> tuple[int, Any, Any]:
        shown = harness.bearer(self.gateway, "acme", "gateway:admin", sub=by)
        headers = {**shown, "Content-Type": kind}
        return await self.asked.ask(f"/admin/v1/config:rehearse{query}", "POST", text.encode(), **headers)


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    async with Backend(always(answer())) as app, Backend(always(answer())) as other:
        said = config(app.address, other.address)
        async with admin_of(folder, routing=said) as asked:
            yield Shop(asked, said)


async def a_day(shop: Shop) -> None:
    gateway = shop.gateway
    reads = harness.bearer(gateway, "acme", "shop:read")
    writes = harness.bearer(gateway, "globex", "shop:read shop:write")
    await shop.send("GET", "/shop/1", 200, 5, headers=reads)
    await shop.send("POST", "/shop/1", 403, 2, headers=reads)
    await shop.send("POST", "/shop/2", 200, 3, headers=writes, data=b"x" * 2000)
    await shop.send("GET", "/open/1", 200, 4)
    await shop.send("GET", "/nowhere", 404)
    await shop.send("GET", "/shop/1", 401)
    documents = harness.bearer(gateway, "acme", "docs:read:orders docs:manage")
    await shop.send("GET", "/docs/orders/1", 404, headers=documents)
    page = {"Origin": "https://app.example"}
    asks = {**page, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    await shop.send("OPTIONS", "/pages/1", 204, headers=asks)
    await shop.send("GET", "/pages/1", 200, headers={**reads, **page})
    await shop.send("GET", "/pro/1", 403, headers=reads)
    pro = harness.bearer(gateway, "acme", "", plan="pro")
    await shop.send("GET", "/pro/1", 200, 2, headers=pro)


ALL = 22


def route(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in data["routes"] if one["name"] == name)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["routes"].remove(route(data, name))


def change(name: str, /, **more: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: route(data, name).update(more)


def open_to_all(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: (route(data, name).pop("scopes"), route(data, name).update(public=True))


# What is edited, and how many requests of which kind that concerns.
EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], dict[str, int]]] = {
    "nothing": (lambda data: None, {}),
    "a route is gone": (without("shop"), {"refused": 8}),
    "a route is renamed": (change("shop", name="store"), {"rerouted": 8}),
    "another backend": (change("shop", target="other"), {"rerouted": 8}),
    "another address of the backend": (
        lambda data: data["backends"]["app"].update(addresses=["http://127.0.0.1:9"]),
        {"rerouted": 5 + 3 + 4 + 1 + 2},
    ),
    "another host": (change("open", host="other.example"), {"refused": 4}),
    "other methods": (change("shop", methods=["GET"]), {"refused": 3}),
    "more scopes": (change("shop", scopes={"read": ["shop:all"], "write": ["shop:write"]}), {"refused": 5}),
    "fewer scopes": (change("shop", scopes={"read": [], "write": []}), {"allowed": 2}),
    "a public route asks for a token": (
        lambda data: route(data, "open").update(public=False, scopes=SCOPES),
        {"refused": 4},
    ),
    "a route becomes public": (open_to_all("shop"), {"allowed": 3}),
    "API keys alone": (change("shop", auth=["api_key"]), {"refused": 8}),
    "the local issuer is off": (
        lambda data: data.update(issuers={"local": False}),
        {"refused": 5 + 3 + 1 + 1 + 2},
    ),
    "a tenant is gone": (lambda data: data["tenants"].pop("globex"), {"refused": 3}),
    "a tenant is disabled": (lambda data: data["tenants"]["acme"].update(disabled=True), {"refused": 9}),
    "a scope of documents": (
        change("docs", scopes={**OF_DOCUMENTS, "read": ["docs:other"]}),
        {"refused": 1},
    ),
    "smaller bodies": (change("shop", body_limit="1KiB"), {"refused": 3}),
    "a rate of a tenant": (lambda data: data["tenants"]["globex"].update(rate_limit="9/s"), {"limited": 3}),
    "a quota": (lambda data: data["tenants"]["globex"].update(quota="9/day"), {"limited": 3}),
    "a rate of a route": (change("shop", rate_limit="9/s"), {"limited": 8}),
    "a rate of clients": (lambda data: data.update(client_limit="9/s"), {"limited": 4 + 1}),
    "other pages": (change("pages", cors={"origins": ["https://b.example"]}), {"refused": 2}),
    "claims are not asked for": (lambda data: route(data, "pro").pop("require"), {"allowed": 1}),
    "time-outs": (change("shop", timeouts={"total": "9s"}), {}),
}


async def test_each_kind_is_told_of_the_requests_that_really_came(tmp_path: Path) -> None:
    async with shop(tmp_path) as tried:
        await a_day(tried)
        for name, (edit, expected) in EDITS.items():
            outcome = await tried.rehearse(edit)
            counts = {kind: found["count"] for kind, found in outcome["kinds"].items()}
            assert {kind: count for kind, count in counts.items() if count} == expected, (name, outcome)
            assert outcome["requests"] == outcome["unchanged"] + sum(counts.values()) == ALL, name
            assert outcome["unknown"] == []
        await _examples(tried)
        await _problems(tried)
        await _recent(tried)


async def _examples(tried: Shop) -> None:
    """Each says what was, what would be, and what explains it."""
    refused = (await tried.rehearse(change("shop", auth=["api_key"])))["kinds"]["refused"]
    first, second = refused["examples"]
    assert (first["method"], first["path"], first["tenant"], first["count"]) == ("GET", "/shop/1", "acme", 5)
    before = {"route": "shop", "target": "app", "status": 200, "code": None, "detail": None, "limits": {}}
    assert first["before"] == before
    assert first["after"]["code"] == "unauthenticated" and "api_key" in first["after"]["detail"]
    assert (second["tenant"], second["count"]) == ("globex", 3)
    _, _, described = await tried.asked.ask("/admin/openapi.json")
    schema = {**described, "$ref": "#/components/schemas/Rehearsal"}
    jsonschema.validate(await tried.rehearse(without("shop")), schema, jsonschema.Draft202012Validator)
    moved = (await tried.rehearse(change("shop", target="other")))["kinds"]["rerouted"]
    assert [one["after"]["target"] for one in moved["examples"]] == ["other", "other"]
    limited = (await tried.rehearse(change("shop", rate_limit="9/s")))["kinds"]["limited"]
    assert limited["examples"][0]["after"]["limits"] == {"route": "9/s, burst 9"}
    pages = (await tried.rehearse(change("pages", cors={"origins": ["https://b.example"]})))["kinds"]
    closed = {(one["method"], one["after"]["code"]) for one in pages["refused"]["examples"]}
    assert closed == {("OPTIONS", "forbidden"), ("GET", "cors")}


async def _problems(tried: Shop) -> None:
    """A config that cannot be compiled is refused with its problems and lines, and changes nothing."""
    text = "version: 1\nroutes:\n  - name: a\n    path: /a\n    target: nowhere\n"
    status, headers, problem = await tried.rehearse_text(text)
    assert (status, headers["Content-Type"]) == (422, "application/problem+json")
    (error,) = problem["errors"]
    assert (error["path"], error["line"]) == ("routes[0].target", 5) and "nowhere" in error["reason"]
    assert (await tried.rehearse_text("a: [b"))[0] == 422
    assert (await tried.rehearse_text(text, "text/plain"))[0] == 415
    assert (await tried.rehearse_text(json.dumps({"text": text}), "application/json"))[0] == 422
    headers = {**tried.admin, "Content-Type": "application/yaml"}
    assert (await tried.asked.ask("/admin/v1/config:rehearse", "POST", b"\xff", **headers))[0] == 422
    assert tried.gateway.live.current.revision == 1


async def _recent(tried: Shop) -> None:
    """A route shows what became of its last requests."""
    status, _, seen = await tried.asked.ask("/admin/v1/routes/shop/recent")
    assert status == 200 and seen["requests"] == 11
    assert seen["codes"] == [
        {"status": 200, "code": None, "count": 8},
        {"status": 403, "code": "forbidden", "count": 2},
        {"status": 401, "code": "unauthenticated", "count": 1},
    ]
    last = seen["last"][0]
    assert last["at"] >= seen["since"] > 0
    assert (last["method"], last["path"], last["tenant"]) == ("GET", "/shop/1", None)
    assert (last["status"], last["code"]) == (401, "unauthenticated")
    assert (await tried.asked.ask("/admin/v1/routes/nothing/recent"))[2]["requests"] == 0


async def test_what_cannot_be_judged_is_told_apart_and_examples_are_few(tmp_path: Path) -> None:
    async with shop(tmp_path) as tried:
        reads = harness.bearer(tried.gateway, "acme", "shop:read")
        await tried.send("GET", "/open/1", 200, 2, headers=reads)  # a public route verifies no credential
        await tried.send("GET", "/shop/1", 200, 3, headers=reads)
        asks = await tried.rehearse(lambda data: route(data, "open").update(public=False, scopes=SCOPES))
        claims = await tried.rehearse(change("shop", require={"plan": ["pro"]}))
        for number in range(1, 8):
            await tried.send("GET", "/pages/1", 401, number, headers={"Host": f"h{number}.example"})
        allowed = (await tried.rehearse(open_to_all("pages")))["kinds"]["allowed"]
    assert allowed["count"] == 28
    assert [one["count"] for one in allowed["examples"]] == [7, 6, 5, 4, 3]  # the most frequent, and no more
    assert asks["unknown"] == [{"reason": "its credential was not verified when it came", "count": 2}]
    assert claims["unknown"] == [{"reason": "the claims of its token are not kept", "count": 3}]
    assert asks["unchanged"] == 3 and claims["unchanged"] == 2


async def test_what_is_kept_of_requests_holds_no_secret(tmp_path: Path) -> None:
    async with shop(tmp_path) as tried:
        token = harness.token(tried.gateway, "acme", "shop:read")
        key = compose("abcdefghij", 7)
        ticket = "gwt_" + "Z" * 43
        headers = {
            "Authorization": f"Bearer {token}",
            "Cookie": "session=hush-cookie",
            "X-Secret": "hush-header",
        }
        await tried.send("GET", "/shop/1?password=hush-query", 200, headers=headers)
        await tried.send(
            "GET", "/open/1", 200, headers={"X-API-Key": key, "Referer": "https://a/?t=hush-referer"}
        )
        await tried.send("GET", f"/open/1?ticket={ticket}", 200)
        for secret in (ticket, token, key):
            await tried.send("GET", f"/open/{secret}", 200)
            await tried.send("GET", f"/open/{secret.replace('g', '%67', 1).replace('e', '%65', 1)}", 200)
        await tried.send("GET", "/shop/1", 401, headers={"Authorization": f"Bearer {token}x"})
        await tried.send("GET", "/shop/1", 403, headers={**headers, "X-Tenant": token})
        kept = b"".join(await tried.gateway.recent.pickled()).decode("latin-1")
        shown = json.dumps(await tried.rehearse(without("open")))
        for name in ("shop", "open"):
            shown += json.dumps((await tried.asked.ask(f"/admin/v1/routes/{name}/recent"))[2])
    assert len(tried.gateway.recent) == 11
    signature = token.rpartition(".")[2]
    for secret in ("hush", signature, ticket[-20:], key[-12:], "alice"):
        assert secret not in kept and secret not in shown
    assert "Authorization" in kept and "X-Secret" in kept  # the names are kept


async def test_nothing_is_kept_where_gateway_conf_says_so(tmp_path: Path) -> None:
    async with admin_of(tmp_path, recent=False) as asked:
        async with aiohttp.ClientSession() as session, session.get(harness.url(asked.gateway, "/x")):
            pass
        assert len(asked.gateway.recent) == 0


async def test_of_many_rehearsals_two_wait_and_the_others_hold_no_memory(tmp_path: Path) -> None:
    async with shop(tmp_path) as asked, asyncio.timeout(eventually.END):
        text = yaml.safe_dump(asked.said)
        async with asked.gateway.rehearsals._lock:
            asks = [asyncio.create_task(asked.rehearse_text(text, by=name)) for name in ("a", "b", "c")]
            (refused,), waiting = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
            assert (refused.result()[0], refused.result()[2]["code"]) == (503, "saturated")
        assert [one[0] for one in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_rehearsal_that_nobody_waits_for_keeps_no_operator_waiting(tmp_path: Path) -> None:
    async with shop(tmp_path) as asked, asyncio.timeout(eventually.END):
        text = yaml.safe_dump(asked.said)
        async with asked.gateway.rehearsals._lock:  # as on a machine that is busy
            status, _, late = await asked.rehearse_text(text, query="?within=1s")
            assert (status, late["code"], late["detail"]) == (503, "saturated", "It was not done in 1 s.")
            assert (await asked.rehearse_text(text, query="?within=0s"))[0] == 400
            left = asyncio.create_task(asked.rehearse_text(text))
            await eventually.eventually(lambda: asked.gateway.rehearsals._waiting)
            left.cancel()
            await eventually.eventually(lambda: not asked.gateway.rehearsals._waiting)
        assert (await asked.rehearse_text(text))[0] == 200
