"""Headless Chromium opens real pages, and tells what their fetch() calls saw."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from tests.support.pages_of_others import NULL, PAGE, STRANGER, Ask, Seen, as_json

CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
    "--no-first-run",
    # A page in the background gets a hundredth of a core for its timers; a test may look at two.
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
)  # fmt: skip
PATIENCE = 90.0  # seconds; a cold Chromium on a busy machine takes some twenty

T = TypeVar("T")

_SCRIPT = """
const asks = %s, who = %s, base = %s;
function socket(ask) {
  return new Promise(done => {
    const opened = new WebSocket(new URL(ask.path, base.replace("http", "ws")));
    opened.onopen = () => { opened.close(); done({status: 101}); };
    opened.onerror = () => done({why: "no WebSocket"});
  });
}
async function one(ask) {
  if (ask.credentials === "socket") return socket(ask);
  const stop = new AbortController();
  try {
    const {method, headers, body, credentials} = ask;
    const answer = await fetch(base + ask.path, {method, headers, body, credentials, signal: stop.signal});
    const seen = {status: answer.status, headers: Object.fromEntries(answer.headers), text: ""};
    if (!ask.until) { seen.text = await answer.text(); return seen; }
    const reader = answer.body.getReader(), decoder = new TextDecoder();
    while (!seen.text.includes(ask.until)) {
      const {done, value} = await reader.read();
      if (done) break;
      seen.text += decoder.decode(value, {stream: true});
    }
    stop.abort();
    return seen;
  } catch (error) { return {why: String(error)}; }
}
async function all() {
  const seen = {};
  for (const [index, ask] of asks.entries()) if (ask.who === who) seen[index] = await one(ask);
  return seen;
}
"""
_FRAME = "<!doctype html><script>%s all().then(seen => parent.postMessage(seen, '*'));</script>"
# The page asks first, then its frames, one after the other.
_TOP = """<!doctype html><title>page</title><body><script>%s
function framed(src, sandbox) {
  return new Promise(done => {
    addEventListener("message", event => done(event.data), {once: true});
    const frame = document.createElement("iframe");
    if (sandbox) frame.setAttribute("sandbox", "allow-scripts");
    frame.src = src;
    document.body.append(frame);
  });
}
(async () => {
  const seen = await all();
  Object.assign(seen, await framed(%s, false), await framed("/null", true));
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


class Chromium:
    """A browser whose pages are served here: the page on one port, a stranger's on another."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._asks: Sequence[Ask] = ()
        self._base = ""
        self._seen: asyncio.Future[dict[str, dict[str, object]]] = asyncio.get_running_loop().create_future()
        self.origin = self._stranger = ""

    async def fetch(self, base: str, asks: Sequence[Ask], *flags: str) -> list[Seen]:
        """What a page saw of each. base: the gateway's address. flags: of the browser."""
        self._asks, self._base = asks, base
        seen = await visit(self._profile, f"{self.origin}/", self._seen, *flags)
        return [Seen(**seen[str(index)]) for index in range(len(asks))]  # type: ignore[arg-type]

    def _script(self, who: str) -> str:
        return _SCRIPT % (as_json(self._asks), json.dumps(who), json.dumps(self._base))

    async def serve(self, request: web.Request) -> web.Response:
        if request.path == "/seen":
            self._seen.set_result(await request.json())
            return web.Response()
        if request.path == "/":
            text = _TOP % (self._script(PAGE), json.dumps(f"{self._stranger}/stranger"))
        else:
            text = _FRAME % self._script({"/stranger": STRANGER, "/null": NULL}[request.path])
        return web.Response(text=text, content_type="text/html")


async def visit(profile: Path, page: str, seen: asyncio.Future[T], *flags: str) -> T:
    """Opens a page, and ends the browser when `seen` is done, which the page sees to. Gives its result."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", page,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = asyncio.create_task(_read(process.stderr))
    try:
        done, _ = await asyncio.wait({seen, said}, timeout=PATIENCE, return_when="FIRST_COMPLETED")
        assert seen in done, f"Chromium told nothing: {said.result() if said.done() else 'it hangs'}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await said
    return seen.result()


async def _read(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await stream.read()).decode("utf-8", "replace")[-2000:]


@asynccontextmanager
async def browse(profile: Path) -> AsyncIterator[Chromium]:
    """The pages of a browser, served at `origin` and at a stranger's."""
    browser = Chromium(profile)
    server = web.Server(browser.serve)
    loop = asyncio.get_running_loop()
    listeners = [await loop.create_server(server, "127.0.0.1", 0) for _ in range(2)]
    browser.origin, browser._stranger = (
        f"http://localhost:{listener.sockets[0].getsockname()[1]}" for listener in listeners
    )
    try:
        yield browser
    finally:
        for listener in listeners:
            listener.close()
        await server.shutdown(1)
