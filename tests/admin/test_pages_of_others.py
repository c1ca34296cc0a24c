"""Pages of other origins in a real browser try to change and to read the gateway: of another site, of another
port of this host, with the operator's own token, and by DNS rebinding."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.admin import Admin, admin_of
from tests.support.chromium import CHROMIUM, visit

_KEYS, _ROLLBACK, _CONFIRM = "/admin/auth/keys", "/admin/v1/revisions/1:rollback", "/admin/v1/config:confirm"
_SCRIPT = """
const base = %(base)s, rebound = %(rebound)s, token = %(token)s;
const body = JSON.stringify({tenant: "acme", subject: "evil", scopes: "gateway:admin"});
async function tried(path, options, at = base) {
  try {
    const answer = await fetch(at + path, options);
    return answer.type === "opaque" ? "opaque" : "read " + answer.status + await answer.text();
  } catch (error) { return "refused"; }
}
function loaded(tag, attributes) {
  return new Promise(done => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.onload = () => done("loaded");
    element.onerror = () => done("refused");
    document.body.append(element);
  });
}
function posted(path, enctype) {
  return new Promise(done => {
    const name = "f" + Math.random(), frame = Object.assign(document.createElement("iframe"), {name});
    document.body.append(frame);
    const form = document.createElement("form"), input = document.createElement("input");
    Object.assign(form, {method: "post", action: base + path, enctype, target: name});
    form.append(Object.assign(input, {name: body.slice(0, -1) + ', "x": "', value: '"}'}));
    document.body.append(form);
    frame.onload = () => { if (form.sent) done("sent"); };
    form.sent = true;
    form.submit();
  });
}
async function all() {
  const json = {"Content-Type": "application/json"}, shown = {...json, "Authorization": "Bearer " + token};
  const plain = {"Content-Type": "text/plain"};
  const seen = {};
  seen.rebound = await tried("/admin/v1/config", {mode: "no-cors"}, rebound);
  seen.text = await tried("%(keys)s", {method: "POST", mode: "no-cors", headers: plain, body});
  seen.empty = await tried("%(rollback)s", {method: "POST", mode: "no-cors"});
  seen.confirm = await tried("%(confirm)s", {method: "POST", mode: "no-cors", body: new Blob(["{}"])});
  seen.json = await tried("%(keys)s", {method: "POST", headers: json, body});
  seen.token = await tried("%(keys)s", {method: "POST", headers: shown, body});
  seen.put = await tried("/admin/v1/config", {method: "PUT", headers: shown, body});
  seen.get = await tried("/admin/v1/config", {});
  seen.metrics = await tried("/metrics", {mode: "no-cors"});
  seen.form = await posted("%(keys)s", "text/plain");
  seen.urlencoded = await posted("%(rollback)s", "application/x-www-form-urlencoded");
  seen.image = await loaded("img", {src: base + "/metrics"});
  seen.script = await loaded("script", {src: base + "/admin/v1/config"});
  return seen;
}
"""
_FRAME = "<!doctype html><body><script>%s all().then(seen => parent.postMessage(seen, '*'));</script>"
_TOP = """<!doctype html><title>page</title><body><script>%s
(async () => {
  const seen = {site: await all()};
  seen.port = await new Promise(done => {
    addEventListener("message", event => done(event.data), {once: true});
    document.body.append(Object.assign(document.createElement("iframe"), {src: %s}));
  });
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


async def what_they_saw(asked: Admin, profile: Path, token: str) -> dict[str, dict[str, str]]:
    """Of a page on localhost, another site, and of one on another port of 127.0.0.1, the same one."""
    port = asked.address[1]
    values = {"base": asked.url(""), "rebound": f"http://evil.example:{port}", "token": token}
    paths = {"keys": _KEYS, "rollback": _ROLLBACK, "confirm": _CONFIRM}
    script = _SCRIPT % {**{name: json.dumps(value) for name, value in values.items()}, **paths}
    seen: asyncio.Future[dict[str, dict[str, str]]] = asyncio.get_running_loop().create_future()
    own = ""

    async def serve(request: web.BaseRequest) -> web.Response:
        if request.path == "/seen":
            seen.set_result(await request.json())
        frame = _FRAME % script if request.path == "/frame" else _TOP % (script, json.dumps(f"{own}/frame"))
        return web.Response(text=frame, content_type="text/html")

    server = web.Server(serve)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    at = listener.sockets[0].getsockname()[1]
    own = f"http://127.0.0.1:{at}"
    try:
        flag = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        return await visit(profile, f"http://localhost:{at}/", seen, flag)
    finally:
        listener.close()
        await server.shutdown(1)


@pytest.mark.asyncio
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
async def test_no_page_of_another_origin_changes_or_reads_anything_and_each_try_is_audited(
    tmp_path: Path,
) -> None:
    async with admin_of(tmp_path) as asked:
        live = asked.gateway.live
        text = (Path(asked.gateway.config.data) / "operator.token").read_text().strip()
        before = live.head, live.text
        last = (await live.audit.page(0, 1))[0]["seq"]
        saw = await what_they_saw(asked, tmp_path / "profile", text)
        for page, seen in saw.items():
            sent = {name: seen.pop(name) for name in ("form", "urlencoded")}
            assert set(sent.values()) == {"sent"}, (page, sent)
            assert set(seen.values()) <= {"refused", "opaque"}, (page, seen)
        assert (live.head, live.text) == before
        assert (await asked.ask(_KEYS))[2] == {"keys": []}
        lines: list[dict[str, Any]] = [line for line in await live.audit.page(0, 100) if line["seq"] > last]
        assert lines and {line["outcome"] for line in lines} == {"refused"}
        assert {line["address"] for line in lines} == {"127.0.0.1"}
        told = [line["detail"] for line in lines]
        assert any(detail.startswith(f"POST {_KEYS}: 403") for detail in told), told
        assert any(detail.startswith("OPTIONS /admin/") for detail in told), "what a browser asks first"
        assert any("This Host is not served" in detail for detail in told), told
        assert text not in json.dumps(lines)
