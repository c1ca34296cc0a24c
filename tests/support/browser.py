"""A headless Chromium that a test drives by the DevTools protocol: it types, presses keys, looks, and keeps
what the page's console said."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.chromium import CHROMIUM, FLAGS, PATIENCE

_UNTIL = """new Promise(done => {
  const look = () => {
    let value;
    try { value = (%s); } catch { value = null; }
    if (value) done(value instanceof Node ? true : value); else setTimeout(look, 40);
  };
  look();
})"""
_DEVTOOLS = re.compile(rb"DevTools listening on ws://127\.0\.0\.1:(\d+)/")
# What a page says in passing is gone after seconds, and a busy machine may look later.
_REMEMBERS = """window.passed = []; new MutationObserver(changes => {
  for (const { addedNodes } of changes) for (const one of addedNodes)
    if (one.classList?.contains("toast")) window.passed.push(one.textContent);
}).observe(document, { childList: true, subtree: true });"""
_KEYS = {"Enter": 13, "Escape": 27, "Tab": 9}


class Tab:
    """One page of a browser. said: what its console told of errors and violations of its policy."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: list[str] = []

    async def listen(self) -> None:
        """Until the browser ends."""
        async for message in self._socket:
            told = json.loads(message.data)
            waits = self._waiting.pop(told.get("id", 0), None)
            if waits is not None and not waits.done():
                waits.set_result(told)
            elif told.get("method") == "Page.javascriptDialogOpening":
                self.said.append(f"dialog: {told['params']['type']}")
                answer = {"accept": told["params"]["type"] == "beforeunload"}
                call = {"id": next(self._numbers), "method": "Page.handleJavaScriptDialog", "params": answer}
                await self._socket.send_json(call)
            else:
                self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        method, params = told.get("method"), told.get("params", {})
        if method == "Runtime.exceptionThrown":
            thrown = params["exceptionDetails"]
            self.said.append(f"{thrown['text']} {thrown.get('exception', {}).get('description', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.said.append(" ".join(str(one.get("value")) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.said.append(f"{params['entry']['source']}: {params['entry']['text']}")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        told = await asyncio.wait_for(self._waiting[number], PATIENCE)
        assert "error" not in told, (method, told["error"])
        found: dict[str, Any] = told["result"]
        return found

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        there = json.dumps(url.partition("#")[0])
        await self.until(f"location.href.startsWith({there}) && document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        told = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"])
        return told["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression, once it is true; an error in it counts as false."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    waits = {"expression": _UNTIL % script, "awaitPromise": True, "returnByValue": True}
                    try:
                        told = await self.call("Runtime.evaluate", **waits)
                    except AssertionError:
                        continue  # another page was loaded meanwhile
                    if value := told["result"].get("value"):
                        return value
        except TimeoutError:
            text = await self.run("document.body ? document.body.innerText : ''")
            passed = await self.run("window.passed ?? []")
            raise AssertionError(f"never true: {script}\n{passed}\n{self.said}\n{text}") from None

    async def click(self, selector: str, text: str = "") -> None:
        """Click the first element that a selector finds, which has this text in it, once it is there and can
        be clicked."""
        found = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find(one => one.textContent.includes({json.dumps(text)}) && !one.disabled"
            " && one.checkVisibility())"
        )
        await self.until(f"Boolean({found})")
        await self.run(f"{found}.click()")

    async def type(self, text: str) -> None:
        """What has the focus gets this text, as typed."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, modifiers: int = 0) -> None:
        """A key. modifiers: 1 Alt, 2 Control, 8 Shift."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 and not modifiers & 3 else "")
        code = _KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if kind == "keyDown" and text else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                modifiers=modifiers, **more,
            )  # fmt: skip

    async def shown(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """How large the page is, and in which theme the system is."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


class Browser:
    """A running Chromium."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []

    async def tab(self, url: str = "about:blank") -> Tab:
        """Another page, in a window of its own."""
        made = f"http://127.0.0.1:{self._port}/json/new?about:blank"
        async with self._session.put(made) as answer:
            target = await answer.json(content_type=None)
        socket = await self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        tab = Tab(socket)
        self._tasks.append(asyncio.create_task(tab.listen()))
        for domain in ("Page", "Runtime", "Log"):
            await tab.call(f"{domain}.enable")
        await tab.call("Page.addScriptToEvaluateOnNewDocument", source=_REMEMBERS)
        # A page that is not in front is hidden for itself, and would rest.
        await tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
        await tab.shown(1280)
        if url != "about:blank":
            await tab.open(url)
        return tab

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Browser]:
    """A browser with this folder as its profile."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            while (listening := _DEVTOOLS.search(line := await process.stderr.readline())) is None:
                assert line, "Chromium ended"
        said = asyncio.create_task(process.stderr.read())  # or it would wait for somebody who reads
        async with aiohttp.ClientSession() as session:
            found = Browser(session, int(listening[1]))
            try:
                yield found
            finally:
                await found.close()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if said is not None:
            await said
