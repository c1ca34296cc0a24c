"""GET /admin/v1/nodes: which gateway on which host, and which worker of this one, runs which revision of the
config, and since when. POST /admin/v1/gateway:reload: this one loads all again, as on SIGHUP."""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from aiohttp import web

from gateway.admin.body import json_response
from gateway.admin.guard import operator
from gateway.admin.planes import DataPlanes
from gateway.call import Snapshot
from gateway.config.live import LiveConfig
from gateway.config.nodes.nodes import LAG, Nodes

L = logging.getLogger(__name__)


class View(Protocol):
    """What knows of the processes, and what can be loaded again."""

    nodes: Nodes
    live: LiveConfig

    @property
    def planes(self) -> DataPlanes: ...

    async def reload(self) -> dict[str, Any]: ...


def install(app: web.Application, view: View) -> None:
    """Put the pages on an application with the guard."""

    async def page(request: web.Request) -> web.Response:
        """See Nodes.view. This one has its `workers` too, see DataPlanes.workers, with `lags` and `why`."""
        found, current = await view.nodes.view(), view.live.current
        workers = [{**one, **_lag(one, current)} for one in await view.planes.workers()]
        own = {**found["nodes"][0], "workers": workers}
        return await json_response({**found, "nodes": [own, *found["nodes"][1:]]})

    async def reload(request: web.Request) -> web.Response:
        """Load keys and configs again, and replace the workers. `workers`: how many were replaced. `restart`:
        the keys of gateway.conf that are changed and count from the next restart on. `refused`: why the
        workers go on as they are, empty if they do not."""
        L.info("a reload was asked for by %s", operator(request).name)
        return await json_response(await view.reload())

    app.router.add_get("/admin/v1/nodes", page)
    app.router.add_post("/admin/v1/gateway:reload", reload)


def _lag(worker: dict[str, Any], live: Snapshot) -> dict[str, Any]:
    why = None
    if worker["state"] == "silent":
        why = "it does not answer"
    elif worker["state"] == "ready" and worker["revision"] != live.revision:
        behind = time.time() - live.loaded_at
        if behind > LAG:
            why = f"it has revision {worker['revision']}; {live.revision} is live for {behind:.0f} s"
    return {"lags": why is not None, "why": why}
