"""The admin listener, on real sockets, over a real gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.core.jwt.issuer import Issuer, KeyUrl
from gateway.core.model import Address, Backend
from gateway.core.process import listeners
from gateway.core.process.listeners import Listen
from gateway.edge.client.slots import ConnectionLimits
from tests import harness
from tests.eventually import eventually
from tests.fakes import RawClient
from tests.support.admin import ROUTING, admin_of
from tests.support.issuer_server import IssuerServer
from tests.support.ports import free_port

# --- health ----------------------------------------------------------------------------------------


async def test_a_store_that_is_away_is_told_and_keeps_no_load_balancer_from_the_rest(tmp_path: Path) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/docs?serverSelectionTimeoutMS=200"
    async with admin_of(tmp_path, store_uri=uri) as asked:
        status, _, text = await asked.ask("/readyz")
        assert status == 200 and text.startswith("ready\n") and "store is away" in text


async def test_readyz_tells_more_to_who_asks_for_it(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        status, _, text = await asked.ask("/readyz?verbose")
        assert status == 200
        assert text.splitlines() == [
            "ready",
            "store: available",
            "shared state: local, ok",
            "config: revision 1; its source (file) is available",
        ]


async def test_ready_only_when_it_serves_and_no_longer_once_it_drains(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        for ready, draining, status, text in [
            (False, False, 503, "starting\n"),
            (True, False, 200, "ready\n"),
            (True, True, 503, "draining\n"),
            (False, True, 503, "draining\n"),
        ]:
            asked.gateway.data.ready, asked.gateway.life.draining = ready, draining
            assert (await asked.ask("/readyz"))[::2] == (status, text)
            assert (await asked.ask("/livez"))[::2] == (200, "ok\n")


async def test_it_is_not_ready_until_its_config_was_read_from_its_source(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        asked.gateway.live.synced = False
        status, _, text = await asked.ask("/readyz")
        assert status == 503 and "the last good config here is served" in text
        assert await asked.gateway.live.reload()
        assert (await asked.ask("/readyz"))[0] == 200


async def test_a_gateway_is_ready_after_start_and_draining_after_drain(tmp_path: Path) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway:
        assert (gateway.ready, gateway.draining) == (True, False)
    assert (gateway.ready, gateway.draining) == (False, True)


async def test_an_ill_backend_is_shown_and_does_not_make_the_gateway_unready(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        address = Address("http://127.0.0.1:9", "127.0.0.1", 9)
        asked.gateway.health.reconcile({"app": Backend("app", "http", (address,))})
        assert (await asked.ask("/admin/health"))[2]["backends"][0]["healthy"]
        for _ in range(3):
            asked.gateway.health.failed(address, "connect")
        status, _, body = await asked.ask("/admin/health")
        (backend,) = body["backends"]
        (shown,) = backend["addresses"]
        assert (status, backend["name"], backend["healthy"]) == (200, "app", False)
        assert 0 < shown.pop("next_trial") <= 0.25
        assert abs(time.time() - shown.pop("since")) < 5
        assert shown == {
            "address": "http://127.0.0.1:9",
            "state": "open",
            "failures": 3,
            "last_error": "connect",
        }
        assert (await asked.ask("/readyz"))[0] == 200


# --- the live config -------------------------------------------------------------------------------


async def test_the_live_text_is_shown_to_the_character_also_after_a_refused_edit(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        routing = tmp_path / "routing.yaml"
        text = routing.read_text() + "# übrigens\n\n"
        routing.write_text(text)
        assert await asked.gateway.live.reload()
        routing.write_text("version: [")
        assert not await asked.gateway.live.reload()
        status, headers, body = await asked.ask("/admin/config?text")
        assert (status, body, headers["Content-Type"]) == (200, text, "text/plain; charset=utf-8")
        shown = (await asked.ask("/admin/config"))[2]
        assert headers["ETag"] == f'"{shown["digest"]}"'
        assert (headers["X-Config-Revision"], shown["revision"]) == ("2", 2)
        assert shown["refused"]["problems"]


async def test_the_metrics_tell_while_the_file_is_refused(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        routing = tmp_path / "routing.yaml"
        good = routing.read_text()
        for text, value in ((good, 1), ("version: [", 0), (good, 1)):
            routing.write_text(text)
            await asked.gateway.live.reload()
            body = (await asked.ask("/metrics"))[2]
            assert f"gateway_config_last_reload_successful {value}\n" in body


async def test_the_live_text_hides_what_looks_like_a_secret(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        routing = tmp_path / "routing.yaml"
        routing.write_text(routing.read_text() + "# password: hunter2\n# http://u:hunter3@h/\n")
        assert await asked.gateway.live.reload()
        _, _, body = await asked.ask("/admin/config?text")
        assert "hunter" not in body
        assert body.count("***") == 2


# --- who may ask -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x:80"])
async def test_a_foreign_host_is_refused_even_for_the_probes(tmp_path: Path, host: str) -> None:
    async with admin_of(tmp_path) as asked:
        for path in ("/livez", "/readyz", "/metrics", "/admin/config", "/nothing"):
            status, headers, body = await asked.ask(path, Host=host)
            assert (status, body["code"]) == (403, "forbidden")
            assert headers["Content-Type"] == "application/problem+json"
            assert headers["X-Request-ID"] == body["instance"]
            assert host not in json.dumps(body)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.1:8081", "10.1.2.3:8081", "[::1]", "[::1]:8081",
     "ops.example:81"],
)  # fmt: skip
async def test_addresses_localhost_and_the_hosts_of_the_config_are_taken(tmp_path: Path, host: str) -> None:
    async with admin_of(tmp_path, admin_hosts=("ops.example",)) as asked:
        assert (await asked.ask("/livez", Host=host))[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
@pytest.mark.parametrize(
    ("head", "status"),
    [("HTTP/1.0", 200), ("HTTP/1.0\r\nHost:", 200), ("HTTP/1.0\r\nHost: localhost", 200),
     ("HTTP/1.0\r\nHost: evil.example", 403),
     ("HTTP/1.0\r\nHost: a\r\nHost: a", 400), ("HTTP/1.1\r\nHost:", 200), ("HTTP/1.1", 400),
     ("HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 400), ("HTTP/1.1\r\nHost: evil.example", 403)],
)  # fmt: skip
async def test_the_host_is_mandatory_in_http_1_1_alone_and_may_be_empty(
    tmp_path: Path, path: str, head: str, status: int
) -> None:
    """A prober's plain socket often speaks HTTP/1.0 and names nobody."""
    async with admin_of(tmp_path) as asked:
        client = await RawClient.connect(asked.address)
        client.send(f"GET {path} {head}\r\n\r\n".encode())
        assert int((await client.head()).split()[1]) == status
        client.close()


@pytest.mark.parametrize(
    ("line", "status"),
    [("http://evil.example/admin/config HTTP/1.0", 403), ("http://localhost/admin/config HTTP/1.0", 200),
     ("http://ops.example:81/admin/config HTTP/1.0", 200), ("http://evil.example/livez HTTP/1.0", 403),
     ("http://evil.example/livez HTTP/1.1\r\nHost: evil.example", 403),
     ("http://evil.example/livez HTTP/1.1\r\nHost: localhost", 400),
     ("http://evil.example/livez HTTP/1.0\r\nHost: localhost", 400),
     ("http://evil.example/livez HTTP/1.0\r\nHost:", 400)],
)  # fmt: skip
async def test_a_foreign_name_in_the_target_is_a_foreign_host(tmp_path: Path, line: str, status: int) -> None:
    async with admin_of(tmp_path, admin_hosts=("ops.example",)) as asked:
        client = await RawClient.connect(asked.address)
        client.send(f"GET {line}\r\n\r\n".encode())
        assert int((await client.head()).split()[1]) == status
        client.close()


@pytest.mark.parametrize(
    ("version", "expect", "refused"),
    [("1.1", "100-continue", False), ("1.1", "100-Continue", False), ("1.1", "", False),
     ("1.1", "100-continue,, 100-continue", False), ("1.1", "100-continue\r\nExpect: 100-continue", False),
     ("1.0", "100-continue", False), ("1.0", "foo", False), ("1.1", "foo", True),
     ("1.1", "100-continue, foo", True), ("1.1", "100-continue\r\nExpect: foo", True)],
)  # fmt: skip
async def test_what_a_client_expects_is_judged_as_on_the_public_listener(
    tmp_path: Path, version: str, expect: str, refused: bool
) -> None:
    """RFC 9110 section 10.1.1. No page takes a body: nobody is asked for one."""
    lines = f"HTTP/{version}\r\nHost: localhost\r\nExpect: {expect}\r\n\r\n"
    async with admin_of(tmp_path) as asked:
        for path, status in (("/livez", 200), ("/readyz", 200), ("/admin/config", 200), ("/nothing", 404)):
            client = await RawClient.connect(asked.address)
            client.send(f"GET {path} {lines}".encode())
            head, body = await client.answer()
            assert int(head.split()[1]) == (417 if refused else status)
            if refused:
                assert "Content-Type: application/problem+json\r\n" in head
                assert json.loads(body)["code"] == "expectation_failed"
            client.close()


async def test_a_body_that_nobody_asked_for_is_not_taken_for_the_next_request_nor_that_for_it(
    tmp_path: Path,
) -> None:
    """The client may send the body it announced, or another request: the connection ends."""
    async with admin_of(tmp_path) as asked:
        client = await RawClient.connect(asked.address)
        client.send(
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )
        head, body = await client.answer()
        assert (head.split()[1], body) == ("200", b"ok\n")
        assert "Connection: close\r\n" in head
        client.close()


@pytest.mark.parametrize("host", ["a b", "a/b", "[::1", "a,b"])
async def test_a_host_that_is_none_is_400(tmp_path: Path, host: str) -> None:
    async with admin_of(tmp_path) as asked:
        assert (await asked.ask("/livez", Host=host))[0] == 400


async def test_on_loopback_no_token_is_needed(tmp_path: Path) -> None:
    async with admin_of(tmp_path, admin=(Listen("127.0.0.1"), Listen("::1"), Listen("localhost"))) as asked:
        assert (await asked.ask("/admin/config"))[0] == 200


@pytest.mark.parametrize("hosts", [("0.0.0.0",), ("127.0.0.1", "10.0.0.1"), ("::",)])
async def test_elsewhere_the_scope_gateway_admin_is_needed(tmp_path: Path, hosts: tuple[str, ...]) -> None:
    async with admin_of(tmp_path, admin=tuple(map(Listen, hosts))) as asked:
        for path in ("/metrics", "/admin/config", "/admin/config?text", "/admin/backends"):
            status, headers, body = await asked.ask(path)
            assert (status, body["code"]) == (401, "unauthenticated")
            assert headers["WWW-Authenticate"].startswith("Bearer")
            right = harness.bearer(asked.gateway, scope="docs:read gateway:admin")
            assert (await asked.ask(path, **right))[0] == 200
        for header in ("Bearer junk", "Basic YTpi", "Bearer", "Bearer é", "Bearer \udcff"):
            assert (await asked.ask("/metrics", Authorization=header))[0] == 401
        other = harness.bearer(asked.gateway, scope="gateway:adm docs:read")
        assert (await asked.ask("/metrics", **other))[0] == 403
        assert (await asked.ask("/livez"))[0] == 200
        assert (await asked.ask("/readyz"))[0] == 200


async def test_whoever_runs_another_issuer_does_not_run_the_gateway_and_is_shown(tmp_path: Path) -> None:
    async with IssuerServer() as server, admin_of(tmp_path, admin=(Listen("0.0.0.0"),)) as asked:
        gateway = asked.gateway
        other = Issuer("shop", server.url, ("api",), KeyUrl(f"{server.url}/jwks"))
        gateway.issuers.reconcile(gateway.config.tokens, {"shop": other})
        token = server.token(scope="gateway:admin")
        status, _, body = await asked.ask("/admin/auth", Authorization=f"Bearer {token}")
        assert (status, body["detail"]) == (
            403,
            "The admin listener takes tokens of the gateway's own issuer only.",
        )
        status, _, body = await asked.ask("/admin/auth", **harness.bearer(gateway, scope="gateway:admin"))
        assert status == 200 and [one["name"] for one in body["issuers"]] == ["local", "shop"]
        shop = body["issuers"][1]
        assert shop["tokens"]["verified"] == shop["fetches"] == 1
        assert body["cached"] == 2 and token not in str(body)


@pytest.mark.parametrize(
    ("tenant", "more"), [("old", {}), ("ghost", {}), ("acme", {"X-Tenant": "old"})], ids=str
)
async def test_a_token_of_a_tenant_that_is_not_served_is_403_there_too(
    tmp_path: Path, tenant: str, more: dict[str, str]
) -> None:
    async with admin_of(tmp_path, admin=(Listen("0.0.0.0"),)) as asked:
        headers = harness.bearer(asked.gateway, tenant, "gateway:admin")
        status, _, body = await asked.ask("/admin/config", **headers, **more)
        assert (status, body["code"]) == (403, "forbidden")


async def test_two_authorization_headers_are_401_there_too(tmp_path: Path) -> None:
    async with admin_of(tmp_path, admin=(Listen("0.0.0.0"),)) as asked:
        right = harness.bearer(asked.gateway, scope="gateway:admin")["Authorization"]
        for second in (right, "Bearer junk", "Basic YTpi"):
            headers = CIMultiDict([("Authorization", right), ("Authorization", second)])
            url = asked.url("/admin/config")
            async with asked.session.get(url, headers=headers) as answer:
                assert answer.status == 401


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("localhost.example", False), ("", False),
     ("*", False), ("0", False), ("127.1", True), ("::ffff:127.0.0.1", True), ("::1%lo", True)],
)  # fmt: skip
def test_which_listeners_are_reached_from_this_machine_only(host: str, is_loopback: bool) -> None:
    assert listeners.is_loopback(host) is is_loopback


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/livez", 405)])
async def test_refusals_are_problem_json(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with admin_of(tmp_path) as asked:
        found, headers, body = await asked.ask(path, method)
        assert (found, body["status"]) == (status, status)
        assert headers["Content-Type"] == "application/problem+json"
        assert ("GET" in headers.get("Allow", "")) == (status == 405)


async def test_options_tells_the_methods_and_changes_nothing(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        for path, allow in (("/livez", "GET, HEAD, OPTIONS"), ("/admin/config", "GET, HEAD, OPTIONS")):
            status, headers, _ = await asked.ask(path, "OPTIONS")
            assert (status, headers["Allow"]) == (204, allow)
            assert (await asked.ask(path, "POST"))[1]["Allow"] == allow
        for target, host, status in (("*", "localhost", 204), ("*", "evil.example", 403)):
            client = await RawClient.connect(asked.address)
            client.send(f"OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert int((await client.head()).split()[1]) == status
            client.close()


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("If-None-Match", "*", 304), ("If-None-Match", "TAG", 304), ("If-None-Match", "W/TAG", 304),
     ("If-None-Match", '"other", TAG', 304), ("If-None-Match", '"other"', 200),
     ("If-None-Match", "other", 400), ("If-Match", "*", 200), ("If-Match", "TAG", 200),
     ("If-Match", '"other"', 412), ("If-Match", "W/TAG", 412), ("If-Match", "TAG, other", 400)],
)  # fmt: skip
async def test_the_live_text_heeds_its_tag(tmp_path: Path, name: str, value: str, status: int) -> None:
    async with admin_of(tmp_path) as asked:
        tag = (await asked.ask("/admin/config?text"))[1]["ETag"]
        found, headers, text = await asked.ask("/admin/config?text", **{name: value.replace("TAG", tag)})
        assert found == status
        if status in (200, 304):
            assert (headers["ETag"], bool(text)) == (tag, status == 200)


async def test_every_answer_has_a_request_id_of_its_own(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        ids = [(await asked.ask(path))[1]["X-Request-ID"] for path in ("/livez", "/metrics", "/nothing")]
        assert len(set(ids)) == 3


# --- what is shown ---------------------------------------------------------------------------------


async def test_metrics_are_openmetrics_that_prometheus_accepts_and_count(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(
                harness.url(asked.gateway, "/docs/"), headers=harness.bearer(asked.gateway)
            ) as answer:
                assert answer.status == 200
                await answer.read()
        _, headers, text = await asked.ask("/metrics")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = [sample for family in families.values() for sample in family.samples]
    assert any(sample.labels.get("tenant") == "acme" and sample.value == 3 for sample in samples)
    assert any(sample.labels.get("route") == "docs" and sample.value == 3 for sample in samples)
    assert "/docs" not in text


async def test_config_shows_the_live_revision_and_every_refused_problem(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        _, _, before = await asked.ask("/admin/config")
        assert (before["revision"], before["routes"], before["refused"]) == (1, 1, None)
        path = Path(asked.gateway.config.routing)
        path.write_text("version: 1\nroutes:\n  - { name: a, path: /a, target: nobody }\nzzz: 1\n")
        await asked.gateway.reload()
        _, _, after = await asked.ask("/admin/config")
        assert {**after, "refused": None} == before
        problems = after["refused"]["problems"]
        assert [(p["path"], p["line"]) for p in problems] == [("routes[0].target", 3), ("zzz", 4)]
        assert all(p["reason"] and p["hint"] for p in problems)


async def test_backends_shows_what_is_supervised(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        assert (await asked.ask("/admin/backends"))[2] == {"backends": []}


async def test_admission_shows_the_seats_of_each_backend(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        assert (await asked.ask("/admin/admission"))[2] == {"backends": {}}
        path = Path(asked.gateway.config.routing)
        path.write_text(
            "version: 1\nbackends:\n"
            "  app: { kind: gunicorn, threads: 8, addresses: ['http://127.0.0.1:1'] }\n"
            "  other: { kind: http, addresses: ['http://127.0.0.1:2'] }\n"
        )
        await asked.gateway.reload()
        _, _, shown = await asked.ask("/admin/admission")
        app, other = shown["backends"]["app"], shown["backends"]["other"]
        assert (app["seats"], app["in_use"], app["reserve"]) == (8, 0, 1)
        assert app["streams"] == {"seats": 2, "in_use": 0}
        assert app["addresses"] == {"http://127.0.0.1:1": {"in_use": 0, "streams": 0, "usable": True}}
        assert app["waits"] == {"p50": None, "p99": None}
        assert (other["seats"], other["service_time"]) == (None, None)
        _, _, text = await asked.ask("/metrics")
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"gateway_seats", "gateway_queue_seconds", "gateway_admission_refused"} <= families


async def test_pages_are_made_one_at_a_time_and_probes_do_not_wait_for_them(tmp_path: Path) -> None:
    """However many ask for them, the event loop has others to serve between two slices of a page."""
    async with admin_of(tmp_path) as asked:
        inside, most, go_on = 0, 0, asyncio.Event()

        def parts() -> Iterator[str]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            while not go_on.is_set():
                yield ""
            inside -= 1
            yield "# EOF\n"

        asked.gateway.metrics.parts = parts  # type: ignore[method-assign]
        pages = [asyncio.create_task(asked.ask("/metrics")) for _ in range(10)]
        await eventually(lambda: inside > 0)
        assert [(await asked.ask(path))[0] for path in ("/livez", "/readyz")] == [200, 200]
        go_on.set()
        assert {(await page)[0] for page in pages} == {200}
        assert most == 1


async def test_heads_that_never_end_keep_nobody_from_the_admin_listener(tmp_path: Path) -> None:
    async with admin_of(tmp_path, ConnectionLimits(8, 2**20)) as asked:
        held = [await RawClient.connect(asked.address) for _ in range(40)]
        for client in held:
            client.send(b"GET /livez HTTP/1.1\r\nX: ")
        for _ in range(20):
            status, _, _ = await asked.ask("/livez", Connection="close")
            assert status == 200
        assert len(asked.listener.connections) <= 8 + 1
        for client in held:
            client.close()


@pytest.mark.parametrize(
    ("page", "length"),
    [
        ("session", 100),
        ("config:check", 100),
        ("config:check", 100_000),
        ("tickets", 100),
        ("config:confirm", 100),
        ("revisions/1:pin", 100),
    ],
)
async def test_bodies_that_never_end_keep_no_change_waiting(tmp_path: Path, page: str, length: int) -> None:
    async with admin_of(tmp_path, ConnectionLimits(64, 2**20)) as asked, asyncio.timeout(30):
        authorization = harness.bearer(asked.gateway, scope="gateway:admin")["Authorization"]
        head = f"POST /admin/v1/{page} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        shown = "" if page == "session" else f"Authorization: {authorization}\r\n"
        held = [await RawClient.connect(asked.address) for _ in range(100 if page == "session" else 12)]
        for client in held:
            client.send(f"{head}{shown}Content-Length: {length}\r\n\r\n{{".encode())
        for _ in range(3):
            number = asked.gateway.live.head.number
            pinned = f"/admin/v1/revisions/{number}:pin"
            assert (await asked.ask(pinned, "POST", b"", Authorization=authorization))[0] == 200
            confirmed = {"revision": number}
            done = await asked.ask("/admin/v1/config:confirm", "POST", confirmed, Authorization=authorization)
            assert done[0] in (200, 409)
        for client in held:
            client.close()


async def test_of_large_bodies_that_never_end_those_beyond_a_few_are_refused_at_once(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked, asyncio.timeout(30):
        authorization = harness.bearer(asked.gateway, scope="gateway:admin")["Authorization"]
        held = [await RawClient.connect(asked.address) for _ in range(9)]
        for client in held:
            client.send(
                b"PUT /admin/v1/config HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/yaml\r\n"
                b"If-Match: *\r\nAuthorization: %b\r\nContent-Length: 100000\r\n\r\n#"
                % authorization.encode()
            )
            await asked.ask("/livez")
        assert " 503 " in await held[-1].head()
        for client in held:
            client.close()
