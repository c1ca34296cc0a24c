"""GET /admin/v1/nodes: which process on which host runs which revision of the config, and since when."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from gateway.admin.body import json_response
from gateway.config.nodes.nodes import Nodes


class View(Protocol):
    """What knows of the processes."""

    nodes: Nodes


def install(app: web.Application, view: View) -> None:
    """Put the page on an application with the guard."""

    async def page(request: web.Request) -> web.Response:
        """See Nodes.view."""
        return await json_response(await view.nodes.view())

    app.router.add_get("/admin/v1/nodes", page)
