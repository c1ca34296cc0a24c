"""Servers that are no backends are asked over TLS that is checked, and through the proxies that there are."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import pytest
from aiohttp import web

from gateway.edge.backend.origin import OriginError, Origins
from tests.support.issuer_server import IssuerServer, authority

pytestmark = pytest.mark.asyncio
ASKS = """
import asyncio, sys
from gateway.edge.backend.origin import Origins, OriginError
async def main():
    origins = Origins()
    try:
        print((await origins.get(sys.argv[1])).status)
    except OriginError as error:
        print(error)
    await origins.close()
asyncio.run(main())
"""


async def asked(url: str, **environment: str) -> str:
    """By a process with this environment alone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASKS, url, env=environment, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode().strip()


async def test_the_authorities_of_the_process_vouch_and_nobody_else(tmp_path: Path) -> None:
    context, certificate = authority(tmp_path)
    async with IssuerServer(context) as server:
        assert await asked(f"{server.url}/jwks", SSL_CERT_FILE=str(certificate)) == "200"
        assert await asked(f"{server.url}/jwks") == "its certificate is refused: self-signed certificate"
        assert server.asked["/jwks"] == 1


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    context, certificate = authority(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    origins = Origins(trusting)
    async with IssuerServer(context) as server:
        with pytest.raises(OriginError, match=r"its certificate is refused: .*localhost"):
            await origins.get(server.url.replace("127.0.0.1", "localhost"))
        assert (await origins.get(f"{server.url}/jwks")).status == 200
    await origins.close()


async def test_others_are_reached_through_the_proxy_of_the_environment_and_this_machine_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[tuple[str, str]] = []

    async def proxied(request: web.Request) -> web.StreamResponse:
        said.append((request.raw_path, request.headers.get("Proxy-Authorization", "")))
        return web.Response(text="by the proxy")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", proxied)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "direct.example")
    origins = Origins(timeout=30.0)
    assert (await origins.get("http://issuer.example/jwks")).body == b"by the proxy"
    assert said == [("http://issuer.example/jwks", "Basic YW5uOnNlY3JldA==")]
    async with IssuerServer() as server:
        assert (await origins.get(f"{server.url}/jwks")).status == 200
    with pytest.raises(OriginError, match="cannot be reached"):
        await origins.get("http://direct.example/jwks")
    assert len(said) == 1
    await origins.close()
    await runner.cleanup()


async def test_a_warm_connection_that_the_server_closed_costs_no_question() -> None:
    origins = Origins(timeout=30.0)
    async with IssuerServer() as server:
        url = f"{server.url}/introspect"
        for _ in range(2):
            response = await origins.post(url, {"token": "t"}, {})
            assert response.body == b'{"active": false}'
            port = await server.stop()
            await server.start(port)
    await origins.close()


@pytest.mark.parametrize("url", ["https://", "ftp://issuer.example/", "https://[::1", "nonsense", ""])
async def test_what_is_no_url_of_ours_is_refused_in_words(url: str) -> None:
    origins = Origins(timeout=30.0)
    with pytest.raises(OriginError):
        await origins.get(url)
    await origins.close()
