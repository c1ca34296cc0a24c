"""A page of another origin in a real browser, which can set no header for a WebSocket or an event stream,
shows who it is by a ticket or by a subprotocol."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.app import Gateway
from gateway.core.revocations import Revocation
from tests import harness
from tests.eventually import AT_ONCE, eventually
from tests.fakes import Backend, Heard, RawClient
from tests.support.chromium import CHROMIUM, visit
from tests.support.sockets import connect, echo, websocket

# The example of the operator's handbook, for a page of another origin.
_LISTEN = re.search("```js\n(async function listen.*?)```", Path("config/README.md").read_text(), re.DOTALL)
assert _LISTEN is not None
_HANDBOOK = (
    _LISTEN[1].replace('"/oauth/ticket"', 'base + "/oauth/ticket"').replace("`${path}?", "`${base}${path}?")
)
_PAGE = """<!doctype html><title>page</title><script>
const base = %s, token = %s;
%s
async function ticket(path) {
  const headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"};
  const body = JSON.stringify({path});
  const response = await fetch(base + "/oauth/ticket", {method: "POST", headers, body});
  return (await response.json()).ticket;
}
function socket(path, protocols = []) {
  return new Promise(done => {
    const opened = new WebSocket(base.replace("http", "ws") + path, protocols);
    opened.onopen = () => opened.send("hello");
    opened.onmessage = message => { done("open " + message.data + " " + opened.protocol); opened.close(); };
    opened.onerror = () => done("refused");
  });
}
function stream(path) {
  return new Promise(done => {
    const opened = new EventSource(base + path);
    opened.onmessage = message => { opened.close(); done("open " + message.data); };
    opened.onerror = () => { opened.close(); done("refused"); };
  });
}
(async () => {
  const seen = {};
  try {
    const forSocket = await ticket("/live/socket"), forStream = await ticket("/live/stream");
    seen.socket = await socket("/live/socket?ticket=" + forSocket);
    seen.socketAgain = await socket("/live/socket?ticket=" + forSocket);
    seen.stream = await stream("/live/stream?room=1&ticket=" + forStream);
    seen.streamAgain = await stream("/live/stream?room=1&ticket=" + forStream);
    seen.elsewhere = await stream("/live/stream?ticket=" + await ticket("/live/socket"));
    seen.protocol = await socket("/live/socket", ["gateway.bearer", token]);
    seen.nobody = await socket("/live/socket");
    seen.inTheUrl = await stream("/live/stream?access_token=" + token);
    seen.tickets = [forSocket, forStream];
    seen.handbook = await new Promise(done => listen("/live/stream", () => token, event => done(event.data)));
  } catch (error) { seen.error = String(error); }
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


class Page:
    """A page on an origin of its own, and what its script saw."""

    def __init__(self) -> None:
        self.html = self.origin = ""
        self.seen: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def serve(self, request: web.Request) -> web.Response:
        if request.path == "/seen":
            self.seen.set_result(await request.json())
        return web.Response(text=self.html, content_type="text/html")


@asynccontextmanager
async def served() -> AsyncIterator[Page]:
    page = Page()
    server = web.Server(page.serve)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    page.origin = f"http://localhost:{listener.sockets[0].getsockname()[1]}"
    try:
        yield page
    finally:
        listener.close()
        await server.shutdown(1)


async def live(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An echo by WebSocket, or a stream of one event."""
    if heard.one("Upgrade"):
        await websocket(echo)(heard, reader, writer)
    else:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"d\r\ndata: hello\n\n\r\n"
        )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
async def test_a_page_opens_a_websocket_and_an_event_stream_by_ticket_and_no_log_shows_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as page, Backend(live) as app:
        route = harness.route("live", "app", websocket=True, cors={"origins": [page.origin]})
        backends = {"app": {"kind": "uvicorn", "addresses": [app.address]}}
        config = harness.routing([route], backends=backends)
        async with harness.running(tmp_path, config, log_query="yes") as gateway:
            token = harness.token(gateway)
            page.html = _PAGE % (json.dumps(harness.url(gateway, "")), json.dumps(token), _HANDBOOK)
            seen = await visit(tmp_path / "profile", f"{page.origin}/", page.seen)
            log = tmp_path / "var" / "access.log"
            await eventually(lambda: log.read_text().count('"/live/') >= 9, log.read_text)
        tickets = seen.pop("tickets", None)
        refused = dict.fromkeys(["socketAgain", "streamAgain", "elsewhere", "nobody", "inTheUrl"], "refused")
        opened = {"socket": "open hello ", "stream": "open hello", "protocol": "open hello gateway.bearer"}
        opened["handbook"] = "hello"
        assert seen == {**opened, **refused}
        assert len(app.heard) == 4, "what is refused never comes to the backend"
        told = [f"{heard.line} {heard.headers}" for heard in app.heard]
        for secret in (token, *tickets):
            assert secret not in log.read_text() and secret not in caplog.text
            assert not any(secret in text for text in told)
        assert app.heard[1].line == "GET /stream?room=1 HTTP/1.1"


@pytest.mark.asyncio
async def test_what_a_page_opened_and_tickets_that_it_did_not_use_end_when_its_token_is_revoked(
    tmp_path: Path,
) -> None:
    async with Backend(live) as app:
        backends = {"app": {"kind": "uvicorn", "addresses": [app.address]}}
        config = harness.routing([harness.route("live", "app", websocket=True)], backends=backends)
        async with harness.running(tmp_path, config) as gateway:
            token, address = harness.token(gateway, jti="leaked"), harness.address(gateway)
            stream = await RawClient.connect(address)
            stream.send(_get(f"/live/stream?ticket={await ticket(gateway, token, '/live/stream')}"))
            assert (await stream.head()).startswith("HTTP/1.1 200 ")
            by_ticket = f"/live/socket?ticket={await ticket(gateway, token, '/live/socket')}"
            offered = {"Sec-WebSocket-Protocol": f"gateway.bearer, {token}"}
            opened = [await connect(address, by_ticket, {}), await connect(address, "/live/socket", offered)]
            unused = await ticket(gateway, token, "/live/stream")
            now = time.time()
            revocation = Revocation(until=now + 600, created=now, by="a test", jti="leaked")
            await gateway.stored.change(gateway.stored.store.revoke, revocation)
            async with asyncio.timeout(AT_ONCE):
                await stream.reader.readuntil(b"\r\n0\r\n\r\n")
            for peer in opened:
                assert await peer.closed() == (1008, "The token is not valid any more.")
                peer.cut()
            stream.send(_get(f"/live/stream?ticket={unused}"))
            head, problem = await stream.answer()
            assert head.startswith("HTTP/1.1 401 ") and b"revoked" in problem
            stream.close()


async def ticket(gateway: Gateway, token: str, path: str) -> str:
    client = await RawClient.connect(harness.address(gateway))
    body = json.dumps({"path": path})
    head = f"POST /oauth/ticket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    client.send(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    _, made = await client.answer()
    client.close()
    return str(json.loads(made)["ticket"])


def _get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
