"""A client with a tenant's token, one public endpoint, the gateway's documents and four real backends."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.process.folders import socket_folder
from tests.backends.system.whole import ROOT, Whole
from tests.eventually import nothing_comes
from tests.support.pages import blocks

pytestmark = [pytest.mark.asyncio, pytest.mark.whole]

SVG = "image/svg+xml"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


class Client:
    """A client of one tenant."""

    def __init__(self, system: Whole, session: aiohttp.ClientSession, tenant: str) -> None:
        self.system, self.session, self.headers = system, session, system.bearer(tenant)

    async def __call__(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes, Any]:
        async with self.session.request(
            method,
            self.system.url(path),
            json=body,
            headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
            allow_redirects=False,
        ) as response:
            return response.status, await response.read(), response.headers


@pytest.fixture
def acme(system: Whole, session: aiohttp.ClientSession) -> Client:
    return Client(system, session, "acme")


@pytest.fixture
def globex(system: Whole, session: aiohttp.ClientSession) -> Client:
    return Client(system, session, "globex")


async def test_each_printed_curl_shows_something(system: Whole) -> None:
    curls = re.findall(r"^curl .*$", system.log(), re.MULTILINE)
    assert len(curls) == 5
    for curl in curls:
        words = [*shlex.split(curl), "-s", "-w", "\n%{http_code}"]
        body, _, status = subprocess.run(words, capture_output=True, text=True, timeout=30).stdout.rpartition(
            "\n"
        )
        assert status == "200", curl
        assert json.loads(body)["items"], "the demo has something to look at"


# What curl says of an answer, in a line of its own; a stream that was left after a second is well, too.
PASTED = r"""set -e
curl() { command curl -sS -w '\nHTTP %{http_code}\n' "$@" || [ $? = 28 ]; }
"""


@pytest.mark.parametrize("page", ["README.md", "gateway/documents/README.md"])
async def test_the_curls_of_the_pages_paste(system: Whole, page: str) -> None:
    (block,) = (b for b in blocks((ROOT / page).read_text()) if "H=@var/demo-token.header" in b)
    before = files(system.folder)
    script = block.replace("http://127.0.0.1:8080", system.public).replace("-m 5", "-m 1")
    ran = subprocess.run(
        ["bash", "-c", PASTED + script], cwd=system.folder, capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 0, ran
    answers = re.findall(r"^HTTP (\d+)$", ran.stdout, re.MULTILINE)
    assert len(answers) == len(re.findall(r"\bcurl ", block))
    assert set(answers) <= {"200", "201"}, ran.stdout
    assert files(system.folder) == before


def files(folder: Path) -> set[Path]:
    """All files of the folder that are not below var/."""
    return {path for path in folder.rglob("*") if folder / "var" not in path.parents}


async def test_the_readme_has_five_curls() -> None:
    assert (ROOT / "README.md").read_text().count("\ncurl ") == 5


# Where each kind of thing lives: the collection, how one is made, and how it is changed.
THINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "document": ("/documents/notes/", {"text": "{canary}"}, {"text": "changed"}),
    "product": (
        "/catalog/products",
        {"name": "{canary}", "sku": "{sku}", "price": "9.50"},
        {"price": "10.00"},
    ),
    "report": (
        "/reports/reports",
        {"title": "{canary}", "collection": "sales", "group_by": "region", "value": "amount"},
        {},
    ),
    "price": ("/pricing/prices", {"sku": "{sku}", "unit_price": "9.50"}, {}),
}


def made_of(template: dict[str, Any], canary: str) -> dict[str, Any]:
    sku = "S" + canary[-8:].upper()
    return json.loads(json.dumps(template).replace("{canary}", canary).replace("{sku}", sku))


async def make(client: Client, kind: str, canary: str) -> tuple[str, dict[str, Any]]:
    """Make one; gives its public path and what was answered."""
    collection, template, _ = THINGS[kind]
    status, raw, headers = await client("POST", collection, made_of(template, canary))
    assert status == 201, raw
    location = headers["Location"]
    return re.sub(r"^https?://[^/]+", "", location), json.loads(raw)


@pytest.mark.parametrize("kind", THINGS)
async def test_a_tenant_never_sees_what_another_has(acme: Client, globex: Client, kind: str) -> None:
    canary = f"canary-{uuid.uuid4().hex}"
    path, _ = await make(acme, kind, canary)
    collection = THINGS[kind][0]
    assert canary[-8:].upper() in (await acme("GET", collection))[1].decode().upper()
    foreign = re.sub(r"[^/]+$", lambda m: absent_like(m[0]), path)
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        theirs = await globex(method, path, {} if method in ("PUT", "PATCH") else None)
        nothing = await globex(method, foreign, {} if method in ("PUT", "PATCH") else None)
        if theirs[0] == 201:  # a PUT makes a document of globex's own under that id
            await globex("DELETE", path)
            await globex("DELETE", foreign)
            continue
        assert theirs[0] == nothing[0], (method, theirs, nothing)
        assert theirs[0] in (404, 405, 422, 400), (method, theirs)
        assert canary not in theirs[1].decode()
    assert canary[-8:].upper() not in (await globex("GET", collection))[1].decode().upper()
    assert (await acme("GET", path))[0] == 200
    assert (await acme("DELETE", path))[0] == 204
    assert (await acme("GET", path))[0] == 404


def absent_like(identifier: str) -> str:
    """An identifier of the same form that nobody has."""
    try:
        uuid.UUID(identifier)
        return str(uuid.uuid4())
    except ValueError:
        return "SFFFFFFF0"


async def test_events_reach_their_own_tenant_alone_as_they_happen(acme: Client, globex: Client) -> None:
    canary = f"canary-{uuid.uuid4().hex}"
    streams = {}
    for client in (acme, globex):
        response = await client.session.get(
            client.system.url("/events/events/stream"), headers=client.headers
        )
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        streams[client] = response
    assert (await acme("POST", "/events/events", {"type": "made", "data": {"name": canary}}))[0] in (201, 202)
    received = b""
    async with asyncio.timeout(30):
        while canary.encode() not in received:
            received += await streams[acme].content.readany()
    assert re.search(rb"^id: ", received, re.MULTILINE)

    async def theirs() -> None:
        while canary.encode() not in await streams[globex].content.readany():
            pass

    await nothing_comes(theirs())
    assert canary in (await acme("GET", "/events/events"))[1].decode()
    assert canary not in (await globex("GET", "/events/events"))[1].decode()
    for response in streams.values():
        response.close()


async def test_documents_replace_and_patch_under_their_tag(acme: Client) -> None:
    path, _ = await make(acme, "document", "x" * 8)
    status, _, headers = await acme("GET", path)
    assert status == 200
    assert (await acme("PUT", path, {"a": 1}, If_Match=headers["ETag"]))[0] == 200
    assert (await acme("PUT", path, {"a": 2}, If_Match=headers["ETag"]))[0] == 412
    status, raw, _ = await acme("PATCH", path, {"b": 3}, Content_Type="application/merge-patch+json")
    assert status == 200
    assert json.loads(raw)["a"] == 1
    assert json.loads(raw)["b"] == 3
    assert (await acme("HEAD", path))[0] == 200


async def test_a_product_takes_every_verb(acme: Client) -> None:
    path, made = await make(acme, "product", uuid.uuid4().hex)
    whole_new = {**made_of(THINGS["product"][1], uuid.uuid4().hex), "price": "11.00"}
    assert (await acme("PUT", path, whole_new))[0] == 200
    assert (await acme("PATCH", path, {"price": "12.00"}))[0] == 200
    assert b"12.00" in (await acme("GET", path))[1]
    assert (await acme("HEAD", path))[0] == 200
    assert (await acme("DELETE", path))[0] == 204
    assert made["name"]


async def test_a_report_is_drawn_from_the_tenants_own_documents(acme: Client, globex: Client) -> None:
    for region, amount in (("north", 3), ("south", 4), ("north", 5)):
        assert (await acme("POST", "/documents/sales/", {"region": region, "amount": amount}))[0] == 201
    path, _ = await make(acme, "report", "Sales")
    status, raw, headers = await acme("GET", path + ".csv")
    assert status == 200, raw
    assert headers["Content-Type"].startswith("text/csv")
    assert "north,2,8" in raw.decode()
    status, raw, headers = await acme("GET", path + ".svg")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, SVG)
    assert b"north" in raw
    other, _ = await make(globex, "report", "Sales")
    assert b"north" not in (await globex("GET", other + ".csv"))[1]


async def test_a_quote_and_a_simulation_are_computed_from_the_tenants_own_prices(
    acme: Client, globex: Client
) -> None:
    _, price = await make(acme, "price", uuid.uuid4().hex)
    lines = {"lines": [{"sku": price["sku"], "quantity": 4}]}
    status, raw, _ = await acme("POST", "/pricing/quotes", lines)
    assert (status, json.loads(raw)["total"]) == (200, "38.00")
    assert (await globex("POST", "/pricing/quotes", lines))[0] == 422
    status, raw, _ = await acme("GET", "/pricing/openapi.json")
    assert status == 200
    document = json.loads(raw)
    assert "/quotes" in document["paths"]
    assert document["servers"][0]["url"].endswith("/pricing")


async def test_redirects_and_links_are_right_through_the_gateway(acme: Client) -> None:
    for path, start in (("/catalog/", "/catalog/"), ("/pricing/", "/pricing/"), ("/reports/", "/reports/")):
        status, raw, headers = await acme("GET", path)
        assert status in (301, 302, 307, 308), (path, status, raw)
        location = headers["Location"].removeprefix(acme.system.public)
        assert location.startswith(start), (path, headers["Location"])
    status, _, headers = await acme("GET", "/events/")
    assert status in (301, 302, 307, 308)
    assert headers["Location"].removeprefix(acme.system.public).startswith("/events/")
    status, raw, _ = await acme("GET", "/catalog/shop")
    assert status == 200
    assert not re.search(rb'href="/(?!catalog/)', raw), "a link of the page leaves the prefix"


async def test_the_admin_site_is_not_routed(acme: Client) -> None:
    assert (await acme("GET", "/catalog/admin/"))[0] == 404


async def test_a_token_without_the_scope_is_refused_before_the_backend(system: Whole, acme: Client) -> None:
    acme.headers = system.bearer("acme", "catalog:read")
    assert (await acme("GET", "/catalog/products"))[0] == 200
    for method, path in (("POST", "/catalog/products"), ("GET", "/pricing/prices"), ("GET", "/documents/")):
        assert (await acme(method, path))[0] == 403


async def test_a_large_body_passes_to_a_threaded_and_to_an_asynchronous_backend(acme: Client) -> None:
    big = "x" * 300_000
    for path in ("/catalog/products", "/pricing/prices"):
        status, raw, _ = await acme("POST", path, {"name": big})
        assert status in (400, 413, 422), raw[:200]  # it arrived, and the backend said what is wrong with it
        assert "code" not in json.loads(raw) or json.loads(raw)["code"] != "internal"


async def test_a_backend_refuses_who_comes_around_the_gateway(system: Whole) -> None:
    folder = Path(socket_folder(str(system.folder / "var")))
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, path in (
        ("catalog", "/products"),
        ("reports", "/reports"),
        ("pricing", "/prices"),
        ("events", "/events"),
    ):
        connector = aiohttp.UnixConnector(str(folder / f"{name}.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://localhost{path}") as response,
        ):
            assert response.status == 401, name
            assert response.content_type == "application/problem+json"
