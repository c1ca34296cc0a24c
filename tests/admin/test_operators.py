"""Who may use the admin listener, over a real gateway: each way in, and what becomes of those without one."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin import web as admin
from gateway.core.config.operator import Grant, Role
from gateway.core.jwt.issuer import ClaimRules, Issuer, KeyUrl, TenantRule
from gateway.core.process.operators import ISSUER_NAME, Operators, OperatorsIssuer
from gateway.core.revocations import Revocation
from tests import harness
from tests.eventually import eventually_await
from tests.support.admin import Admin, admin_of
from tests.support.issuer_server import IssuerServer

pytestmark = pytest.mark.asyncio
KEYS = "/admin/auth/keys"
NEW = {"tenant": "acme", "subject": "etl", "scopes": "a"}
WHOAMI, TICKETS, SESSION = "/admin/v1/whoami", "/admin/v1/tickets", "/admin/v1/session"
SHOP = Grant(Role.EDITOR, (("routes", ("shop-*",)),))
NAMED = Operators({"alice": Grant(Role.OWNER), "bob": SHOP, "carol": Grant(Role.VIEWER)})


def local(asked: Admin) -> dict[str, str]:
    text = (Path(asked.gateway.config.data) / "operator.token").read_text().strip()
    return {"Authorization": f"Bearer {text}"}


def token(asked: Admin, sub: str, scope: str = "gateway:admin", **more: Any) -> dict[str, str]:
    return harness.bearer(asked.gateway, scope=scope, sub=sub, **more)


async def whoami(asked: Admin, headers: dict[str, str]) -> Any:
    status, _, body = await asked.ask(WHOAMI, **headers)
    return (body["operator"], body["role"]) if status == 200 else status


# --- each way in -----------------------------------------------------------------------------------


async def test_loopback_looks_the_local_token_owns_and_without_a_section_so_does_whoever_has_the_scope(
    tmp_path: Path,
) -> None:
    async with admin_of(tmp_path) as asked:
        assert await whoami(asked, {}) == ("loopback", "viewer")
        assert await whoami(asked, local(asked)) == ("local", "owner")
        assert await whoami(asked, token(asked, "anybody")) == ("acme/anybody", "owner")
        assert await whoami(asked, token(asked, "a", "docs:read")) == 403
        assert await whoami(asked, {"Authorization": "Bearer gwop_" + "a" * 43}) == 401
        assert await whoami(asked, {"Authorization": "Basic YTpi"}) == ("loopback", "viewer")
        _, headers, body = await asked.ask(WHOAMI, **local(asked))
        assert body["until"] is None and headers["Cache-Control"] == "no-store"
        assert (await asked.ask(KEYS, "POST", NEW, **local(asked)))[0] == 201
        assert (await asked.ask(KEYS))[2]["keys"][0]["by"] == "local at the admin listener"


async def test_named_operators_have_their_roles_and_whoever_is_not_named_is_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with admin_of(tmp_path, operators=NAMED) as asked:
        assert await whoami(asked, token(asked, "alice")) == ("acme/alice", "owner")
        assert await whoami(asked, token(asked, "BOB")) == ("acme/BOB", "editor")
        assert await whoami(asked, token(asked, "carol")) == ("acme/carol", "viewer")
        assert (await asked.ask(WHOAMI, **token(asked, "bob")))[2]["patterns"] == {"routes": ["shop-*"]}
        status, _, body = await asked.ask(WHOAMI, **token(asked, "mallory"))
        assert (status, body["detail"]) == (403, "This credential is no operator's here.")
        assert "[operators] in gateway.conf does not list `mallory`" in caplog.text
        assert await whoami(asked, local(asked)) == ("local", "owner")
        assert (await asked.ask("/metrics", **token(asked, "carol")))[0] == 200


async def test_credentials_of_the_public_side_are_an_owners_to_change(tmp_path: Path) -> None:
    """Who makes an API key with gateway:admin has made an owner."""
    async with admin_of(tmp_path, operators=NAMED) as asked:
        for sub, status in (("carol", 403), ("bob", 403), ("alice", 201)):
            found, _, body = await asked.ask(KEYS, "POST", NEW, **token(asked, sub))
            assert found == status, body
        assert (await asked.ask(KEYS, "POST", NEW))[0] == 401


async def test_a_token_that_is_revoked_is_nobodys_at_once(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        headers = token(asked, "ann", jti="leaked")
        assert await whoami(asked, headers) == ("acme/ann", "owner")
        session = await signed_in(asked, headers)
        now = time.time()
        revocation = Revocation(until=now + 600, created=now, by="a test", jti="leaked")
        await asked.gateway.stored.change(asked.gateway.stored.store.revoke, revocation)
        assert await whoami(asked, headers) == 401
        assert await whoami(asked, session) == 401
        assert len(asked.gateway.operators.sessions) == 0


async def test_the_local_token_is_another_one_a_second_after_its_file_was_deleted(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        old = local(asked)
        session = await signed_in(asked, old)
        (Path(asked.gateway.config.data) / "operator.token").unlink()

        async def gone() -> bool:
            return bool(await whoami(asked, session) == 401)

        await eventually_await(gone)
        assert await whoami(asked, old) == 401
        assert await whoami(asked, local(asked)) == ("local", "owner")


# --- the operators' issuer -------------------------------------------------------------------------


def sso(server: IssuerServer, claim: str = "realm.roles") -> Operators:
    groups = (
        ("owners", Grant(Role.OWNER)),
        ("shop team", SHOP),
        ("eu", Grant(Role.EDITOR, (("tenants", ("eu-*",)),))),
        ("staff", Grant(Role.VIEWER)),
    )
    keys = KeyUrl(f"{server.url}/jwks")
    rules = {"claims": ClaimRules(subject="email"), "tenants": TenantRule(fixed=ISSUER_NAME)}
    issuer = Issuer(ISSUER_NAME, server.url, ("gateway-admin",), keys, ("EdDSA",), **rules)  # type: ignore[arg-type]
    return Operators(None, OperatorsIssuer(issuer, claim, groups))


async def test_a_token_of_the_operators_issuer_has_the_highest_role_of_its_groups_and_all_patterns(
    tmp_path: Path,
) -> None:
    async with IssuerServer() as server, admin_of(tmp_path, operators=sso(server)) as asked:

        def shown(groups: Any, aud: str = "gateway-admin", **more: Any) -> dict[str, str]:
            claims = {"aud": aud, "email": "ann@example.com", "realm": {"roles": groups}, **more}
            return {"Authorization": f"Bearer {server.token(**claims)}"}

        assert await whoami(asked, shown(["staff", "owners"])) == ("sso:ann@example.com", "owner")
        assert await whoami(asked, shown("staff")) == ("sso:ann@example.com", "viewer")
        _, _, body = await asked.ask(WHOAMI, **shown(["staff", "eu", "shop team"]))
        assert (body["role"], body["patterns"]) == ("editor", {"routes": ["shop-*"], "tenants": ["eu-*"]})
        for nobody in ([], ["Owners"], ["owners "], "owners staff", {"owners": True}, None):
            assert await whoami(asked, shown(nobody)) == 403, nobody
        assert await whoami(asked, shown(["owners"], aud="api")) == 401
        assert await whoami(asked, shown(["owners"], exp=int(time.time()) - 120)) == 401
        signed = shown(["owners"])["Authorization"]
        assert await whoami(asked, {"Authorization": f"{signed[:-8]}AAAAAAAA"}) == 401
        states = (await asked.ask("/admin/auth"))[2]["operators"]
        assert [(one["name"], one["failures"]) for one in states] == [("operators", 0)]


async def test_it_speaks_for_nobody_on_the_public_side_and_its_tokens_can_be_revoked(tmp_path: Path) -> None:
    async with IssuerServer() as server, admin_of(tmp_path, operators=sso(server, "roles")) as asked:
        text = server.token(aud="gateway-admin", email="a", roles=["owners"], scope="x", jti="j")
        headers = {"Authorization": f"Bearer {text}"}
        assert await whoami(asked, headers) == ("sso:a", "owner")
        async with asked.session.get(harness.url(asked.gateway, "/docs/"), headers=headers) as answer:
            assert answer.status == 401
        now = time.time()
        revocation = Revocation(until=now + 600, created=now, by="a test", issuer=ISSUER_NAME, jti="j")
        await asked.gateway.stored.change(asked.gateway.stored.store.revoke, revocation)
        assert await whoami(asked, headers) == 401


# --- the console's sessions ------------------------------------------------------------------------


async def signed_in(asked: Admin, headers: dict[str, str]) -> dict[str, str]:
    """A session of the console for a credential."""
    status, _, made = await asked.ask(TICKETS, "POST", **headers)
    assert status == 201, made
    status, _, begun = await asked.ask(SESSION, "POST", {"ticket": made["ticket"]})
    assert status == 201, begun
    return {"Authorization": f"Bearer {begun['token']}"}


async def test_a_ticket_becomes_a_session_once_which_is_its_operator_and_no_more(tmp_path: Path) -> None:
    async with admin_of(tmp_path, operators=NAMED) as asked:
        _, headers, made = await asked.ask(TICKETS, "POST", **token(asked, "bob"))
        assert headers["Cache-Control"] == "no-store" and made["expires_in"] == 60
        assert made["url"] == f"{asked.url('/')}#ticket={made['ticket']}"
        status, headers, begun = await asked.ask(SESSION, "POST", {"ticket": made["ticket"]})
        assert (status, headers["Cache-Control"]) == (201, "no-store")
        assert (begun["operator"], begun["role"], begun["session"]) == ("acme/bob", "editor", True)
        assert begun["until"] <= time.time() + 670, "no longer than its token"
        session = {"Authorization": f"Bearer {begun['token']}"}
        assert (await asked.ask(SESSION, "POST", {"ticket": made["ticket"]}))[0] == 401
        assert await whoami(asked, session) == ("acme/bob", "editor")
        assert (await asked.ask(KEYS, "POST", NEW, **session))[0] == 403
        assert (await asked.ask(TICKETS, "POST", **session))[0] == 403, "it would live on without end"
        assert (await asked.ask(f"{SESSION}:end", "POST", **session))[0] == 204
        assert await whoami(asked, session) == 401
        assert (await asked.ask(TICKETS, "POST"))[0] == 401, "on loopback, too"


# --- what is refused is limited and audited --------------------------------------------------------


async def audited(asked: Admin, since: int = 0) -> list[dict[str, Any]]:
    """The lines of the audit after this one, the newest first."""
    return [line for line in await asked.gateway.live.audit.page(0, 100) if line["seq"] > since]


async def test_who_tries_wrong_credentials_is_told_to_wait_and_a_right_one_is_taken_all_the_same(
    tmp_path: Path,
) -> None:
    async with admin_of(tmp_path) as asked:
        wrong = {"Authorization": "Bearer gwop_" + "a" * 43}
        found = [(await asked.ask(WHOAMI, **wrong))[0] for _ in range(12)]
        assert found == [401] * 10 + [429] * 2
        status, headers, body = await asked.ask(SESSION, "POST", {"ticket": "gwct_guess"})
        assert (status, body["code"]) == (429, "client_limit") and 0 < int(headers["Retry-After"]) <= 7
        assert await whoami(asked, local(asked)) == ("local", "owner")
        assert await whoami(asked, token(asked, "ann")) == ("acme/ann", "owner")
        assert await whoami(asked, {}) == ("loopback", "viewer")
        assert (await asked.ask(KEYS, "POST", NEW))[0] == 401, "who shows nothing tries nothing"
        text = json.dumps(await audited(asked))
        assert text.count('"refused", "author"') == 10, "a flood does not fill the disk"
        assert "gwop_" not in text and "gwct_" not in text


async def test_a_refused_try_is_audited_with_who_from_where_what_and_why(tmp_path: Path) -> None:
    async with admin_of(tmp_path, operators=NAMED) as asked:
        for path, method, headers, author, role, why in (
            (KEYS, "POST", token(asked, "carol"), "acme/carol", "viewer", "This takes the role"),
            (KEYS, "POST", token(asked, "bob"), "acme/bob", "editor", "acme/bob has the role editor"),
            (KEYS, "POST", token(asked, "mallory"), "acme/mallory", "", "This credential is no"),
            (KEYS, "POST", token(asked, "alice", "docs:read"), "acme/alice", "", "lacks the scope"),
            (KEYS, "POST", {}, "", "", "401 unauthenticated"),
            (KEYS, "POST", {"Origin": "http://evil.example"}, "", "", "A page of another origin"),
            (KEYS, "OPTIONS", {"Origin": "http://evil.example"}, "", "", "A page of another origin"),
            ("/metrics", "GET", {"Sec-Fetch-Site": "same-site"}, "", "", "A page of another site"),
            ("/livez", "GET", {"Host": "evil.example"}, "", "", "This Host is not served"),
            (WHOAMI, "GET", {"Authorization": "Bearer a.b.c"}, "", "", "401 unauthenticated"),
        ):  # fmt: skip
            since = (await audited(asked))[0]["seq"]
            assert (await asked.ask(path, method, NEW if method == "POST" else None, **headers))[0] >= 400
            (line,) = await audited(asked, since)
            assert (line["action"], line["outcome"], line["address"]) == ("refused", "refused", "127.0.0.1")
            assert (line["author"], line["role"]) == (author, role)
            assert line["detail"].startswith(f"{method} {path}: ") and why in line["detail"], line
        since = line["seq"]
        await signed_in(asked, token(asked, "bob"))
        (line,) = await audited(asked, since)
        assert (line["action"], line["outcome"], line["author"]) == ("signed_in", "done", "acme/bob")
        for path, method in (("/nothing", "GET"), ("/metrics", "POST"), ("/admin/config", "GET")):
            await asked.ask(path, method)
        assert not await audited(asked, line["seq"])


async def test_viewers_change_nothing_and_editors_what_their_patterns_name_and_both_are_audited(
    tmp_path: Path,
) -> None:
    routing = harness.routing([harness.route("docs", "documents"), harness.route("shop-a", "documents")])
    async with admin_of(tmp_path, routing=routing, operators=NAMED) as asked:
        since = (await audited(asked))[0]["seq"]
        text = asked.gateway.live.text
        tries = [
            ("PUT", "routes/docs", "bob", "may not change routes/docs"),
            ("DELETE", "tenants/acme", "bob", "may not change tenants/acme"),
            ("PUT", "routes/shop-a", "carol", "takes the role editor"),
            ("DELETE", "routes/shop-a", "carol", "takes the role editor"),
            ("POST", "revisions/1:rollback", "carol", "takes the role editor"),
            ("POST", "config:confirm", "carol", "takes the role editor"),
        ]
        for method, path, sub, why in tries:
            headers = {"If-Match": "*", **token(asked, sub)}
            body = (
                {**harness.route(path.partition("/")[2], "documents"), "timeouts": {"total": "5s"}}
                if method == "PUT"
                else None
            )
            status, _, problem = await asked.ask(f"/admin/v1/{path}", method, body, **headers)
            assert (status, problem["code"]) == (403, "forbidden") and why in problem["detail"], problem
        assert asked.gateway.live.text == text
        lines = list(reversed(await audited(asked, since)))
        assert [(line["author"], line["outcome"]) for line in lines] == [
            (f"acme/{sub}", "refused") for _, _, sub, _ in tries
        ]
        assert all(why in line["detail"] for line, (*_, why) in zip(lines, tries, strict=True))
        body = {**harness.route("shop-a", "documents"), "timeouts": {"total": "5s"}}
        headers = {"If-Match": "*", **token(asked, "bob")}
        assert (await asked.ask("/admin/v1/routes/shop-a", "PUT", body, **headers))[0] == 200
        status, _, _ = await asked.ask(
            "/admin/v1/config:check", "POST", {"text": text}, **token(asked, "carol")
        )
        assert status == 200, "to look takes a body here"


# --- what no browser's page may do -----------------------------------------------------------------


async def test_a_method_override_is_no_method(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        more = {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE"}
        assert (await asked.ask(f"{KEYS}?_method=DELETE", "GET", **more))[0] == 200
        assert (await asked.ask(WHOAMI, "POST", {"_method": "DELETE"}, **local(asked), **more))[0] == 405


async def test_a_change_takes_no_body_that_a_form_can_send(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
            headers = {**local(asked), "Content-Type": kind}
            status, _, body = await asked.ask(KEYS, "POST", json.dumps(NEW).encode(), **headers)
            assert (status, body["code"]) == (415, "unsupported_media_type")
            assert (await asked.ask(f"{SESSION}:end", "POST", b"{}", **headers))[0] == 415, "read or not"
        assert (await asked.ask(KEYS))[2] == {"keys": []}


async def test_every_response_binds_what_a_browser_does_with_it_and_none_lets_other_origins_read(
    tmp_path: Path,
) -> None:
    async with admin_of(tmp_path) as asked:
        for path, method in (("/livez", "GET"), ("/nothing", "GET"), (KEYS, "POST"), (KEYS, "OPTIONS")):
            for origin in ({}, {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}):
                _, headers, _ = await asked.ask(path, method, **origin)
                assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
                assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == (
                    "nosniff",
                    "no-referrer",
                )
                assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert not [name for name in headers if name.lower().startswith("access-control-")]


async def test_a_get_changes_nothing_on_any_path(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        gateway, owner = asked.gateway, local(asked)
        assert (await asked.ask(KEYS, "POST", NEW, **owner))[0] == 201
        app = web.Application()
        admin.install(app, gateway)
        routes = [route for route in app.router.routes() if route.resource is not None]
        paths = {route.resource.canonical for route in routes if route.method == "GET" and route.resource}

        async def state() -> Any:
            auth = await asked.ask(KEYS), await asked.ask("/admin/auth/revocations")
            text = Path(gateway.config.routing).read_bytes(), gateway.live.text
            return (
                [one[2] for one in auth],
                text,
                gateway.live.current.revision,
                len(gateway.operators.sessions),
            )

        before = await state()
        assert len(paths) > 10
        for path in sorted(paths):
            for method in ("GET", "HEAD"):
                url = asked.url(re.sub("{[^}]*}", "1", path)) + "?reason=x&confirm=1&action=delete"
                timeout = aiohttp.ClientTimeout(total=5)
                async with asked.session.request(method, url, headers=owner, timeout=timeout) as answer:
                    assert answer.status < 500, path
        assert await state() == before
