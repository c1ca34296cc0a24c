"""The routes of the admin listener. It reads services; every change goes through config/live.py, and those of
credentials through admin/credentials.py."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from aiohttp import hdrs, web

from gateway.admin import credentials, guard
from gateway.admin.console import pages as console
from gateway.admin.operators import Operators
from gateway.admin.pieces import gathered, json_bytes
from gateway.admin.planes import DataPlanes
from gateway.admin.refusals import Refusals
from gateway.admin.v1 import (
    asked,
    audit,
    changing,
    explain,
    nodes,
    objects,
    rehearse,
    revisions,
    sign_in,
    traffic,
    usage,
)
from gateway.admin.v1 import config as config_pages
from gateway.admin.v1.openapi import document as openapi
from gateway.auth.issuers import Issuers
from gateway.auth.stored import StoredCredentials
from gateway.config.live import LiveConfig
from gateway.config.nodes.nodes import Nodes
from gateway.config.rehearsals import Rehearsals
from gateway.core.http.hops import Via
from gateway.core.merge import views
from gateway.core.process.settings import ProcessConfig
from gateway.core.redact import redact_pieces
from gateway.documents.request import head
from gateway.edge.client.sockets import LostPaths
from gateway.edge.tls.sites import TlsSites
from gateway.process.supervisor import Supervisor
from gateway.telemetry.metrics import CONTENT_TYPE

_PROBED = 0.9  # seconds for what the data planes say to a probe: Kubernetes waits for one second


class View(Protocol):
    """What the admin listener shows of the gateway."""

    config: ProcessConfig
    live: LiveConfig
    nodes: Nodes
    issuers: Issuers
    via: Via
    operators: Operators
    stored: StoredCredentials
    rehearsals: Rehearsals
    tls: TlsSites
    lost: LostPaths

    @property
    def planes(self) -> DataPlanes: ...

    def shared(self) -> dict[str, str]:
        """What is shared with other processes or hosts: by which `engine`, in which `state`, and the
        `reason`."""
        ...

    @property
    def ready(self) -> bool: ...

    @property
    def draining(self) -> bool: ...

    async def reload(self) -> dict[str, Any]: ...

    @property
    def supervisor(self) -> Supervisor: ...


def install(app: web.Application, view: View) -> None:
    """Put the guard and the routes on an aiohttp application (that of an ASAB WebContainer)."""
    config = view.config
    token_needed = not all(one.is_local for one in config.admin)
    refusals = Refusals(view.live.audit.record)
    app.middlewares.append(
        guard.make(view.operators, refusals, config.admin_hosts, token_needed=token_needed)
    )
    pages = _Pages(view)
    app.router.add_get("/livez", pages.livez)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/admin/config", pages.config)
    app.router.add_get("/admin/auth", pages.auth)
    credentials.install(app, view.stored, view.planes)
    sign_in.install(app, view.operators, refusals)
    traffic.install(app, view)
    explain.install(app, view)
    usage.install(app, view)
    nodes.install(app, view)
    live = changing.Config(view.live)
    rehearse.install(app, view, live.one_each)
    for part in (config_pages, objects, revisions, audit):
        part.install(app, live)
    openapi.install(app)
    console.install(app)
    app.router.add_get("/admin/backends", pages.backends)
    app.router.add_get("/admin/health", pages.health)
    app.router.add_get("/admin/admission", pages.admission)


class _Pages:
    def __init__(self, view: View) -> None:
        self._view = view

    async def livez(self, request: web.Request) -> web.Response:
        """The process runs and its loop turns."""
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """The snapshot is applied and the listeners are open, of all workers at the start and of one later;
        503 as soon as draining begins, and until the config's source was read. A store that is away is
        reported, but no reason for 503: all else is served, and no other gateway would reach it. `?verbose`
        tells of each worker, the store, what machines share and the config."""
        view = self._view
        if view.draining:
            return web.Response(status=503, text="draining\n")
        if not view.ready:
            return web.Response(status=503, text="starting\n")
        if not view.live.synced:
            text = f"{view.live.source.name} was not read yet; the last good config here is served\n"
            return web.Response(status=503, text=text)
        is_verbose = "verbose" in request.query
        workers: list[dict[str, Any]] = []
        if is_verbose:  # together, since each waits for whoever does not answer
            asks = view.planes.ask("state", wait=_PROBED), view.planes.workers(wait=_PROBED)
            states, workers = await asyncio.gather(*asks)
        else:
            states = await view.planes.ask("state", wait=_PROBED)
        if not any(state["ready"] for state in states):
            return web.Response(status=503, text="no worker answers\n")
        available = all(state["store"] for state in states)
        away = "" if available else "the documents' store is away: documents are answered 503\n"
        more = self._verbose(states, workers, available=available) if is_verbose else ""
        return web.Response(text=f"ready\n{away}{more}")

    def _verbose(
        self, states: list[dict[str, Any]], workers: list[dict[str, Any]], *, available: bool
    ) -> str:
        live = self._view.live
        lines = [
            f"worker {one['worker']} (pid {one['pid']}): {one['state']}, revision {one['revision'] or '?'}"
            for one in workers
        ]
        lines.append(f"store: {'available' if available else 'away'}")
        shared = [self._view.shared(), *(state["shared"] for state in states)]
        away = next((one for one in shared if one["state"] != "ok"), None)
        reason = f" ({away['reason']})" if away is not None else ""
        lines.append(f"shared state: {shared[0]['engine']}, {'away' if away is not None else 'ok'}{reason}")
        refused = ", and what its source has now is refused" if live.refusal is not None else ""
        source = f"its source ({live.source.kind}) is {'available' if live.source.available else 'away'}"
        lines.append(f"config: revision {live.current.revision}; {source}{refused}")
        lines += [f"tls: {note}" for note in self._view.tls.notes()]
        lines += [f"listen: {note}" for note in self._view.lost.notes()]
        return "".join(f"{line}\n" for line in lines)

    async def metrics(self, request: web.Request) -> web.Response:
        """All metrics, in the OpenMetrics format."""
        response = web.Response(body=await gathered(await self._view.planes.metrics()))
        response.headers["Content-Type"] = CONTENT_TYPE
        return response

    async def config(self, request: web.Request) -> web.Response:
        """The live revision, and what was refused after it with all its problems; `?text`: its very text, but
        for what resembles a secret in it (in a comment; no key of the config holds one)."""
        live = self._view.live
        if "text" not in request.query:
            return await _json(live.status())
        etag = f'"{live.current.digest}"'
        headers = {
            hdrs.ETAG: etag,
            "X-Config-Revision": str(live.current.revision),
        }
        if head.is_current(asked.precondition(request), etag):
            return web.Response(status=304, headers=headers)
        body = await gathered(redact_pieces(live.text))
        return web.Response(body=body, content_type="text/plain", charset="utf-8", headers=headers)

    async def auth(self, request: web.Request) -> web.Response:
        """The issuers of tokens, their keys (nothing secret of them) and how fresh they are, and what became
        of the tokens that came."""
        found = views.credentials(await self._view.planes.ask("credentials"))
        return await _json({**found, "operators": self._view.operators.states()})

    async def backends(self, request: web.Request) -> web.Response:
        """The supervised backends."""
        return await _json({"backends": self._view.supervisor.states()})

    async def health(self, request: web.Request) -> web.Response:
        """The circuits of the backends' addresses. That one is open does not make the gateway unready: its
        other backends are served, and no other gateway would reach this one."""
        return await _json({"backends": views.health(await self._view.planes.ask("health"))})

    async def admission(self, request: web.Request) -> web.Response:
        """The seats of each backend, the requests that wait for one, and those that got none."""
        return await _json({"backends": views.admission(await self._view.planes.ask("admission"))})


async def _json(body: Any) -> web.Response:
    return web.Response(body=await json_bytes(body), content_type="application/json", charset="utf-8")
