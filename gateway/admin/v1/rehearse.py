"""POST /admin/v1/config:rehearse: which of the last requests another config would answer otherwise. And GET
/admin/v1/routes/{name}/recent: what became of the last requests of a route."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import web

from gateway.admin.guard import operator
from gateway.admin.planes import DataPlanes
from gateway.admin.refusals import OneEach
from gateway.admin.serve import Streamed
from gateway.admin.v1 import asked
from gateway.admin.v1.changing import as_errors, reply
from gateway.call import Call
from gateway.config.rehearsals import Rehearsals
from gateway.core.errors import BadRequest, Saturated
from gateway.core.merge import views


class View(Protocol):
    """What is asked of the gateway."""

    rehearsals: Rehearsals

    @property
    def planes(self) -> DataPlanes: ...


def install(app: web.Application, view: View, one_each: OneEach) -> None:
    """Put the pages on an application with the guard."""
    pages = _Pages(view, one_each)
    app.router.add_post("/admin/v1/config:rehearse", pages.rehearse)
    app.router.add_get("/admin/v1/routes/{name}/recent", pages.recent)


class _Pages:
    def __init__(self, view: View, one_each: OneEach) -> None:
        self._view = view
        self._one_each = one_each

    async def rehearse(self, request: web.Request) -> web.StreamResponse:
        """The outcome for another config. InvalidConfig, as of a change, where it cannot be compiled;
        Saturated where it is not done `within` that time."""
        within = asked.duration(asked.parameters(request, "within"), "within")
        text, given = asked.config_text(request)
        if given:
            raise BadRequest("Nothing is changed here: there is no other member than text.")

        async def respond(call: Call) -> web.Response:
            client, task = call.client, asyncio.current_task()
            assert client is not None and task is not None
            client.when_gone(task.cancel)  # else the next check of this operator would wait for it
            try:
                async with asyncio.timeout(within), self._one_each.of(operator(request)):
                    with as_errors():
                        return await reply(await self._view.rehearsals.rehearse(text))
            except TimeoutError:
                raise Saturated(f"It was not done in {within:g} s.", retry_after=5) from None
            finally:
                client.when_gone(None)

        return Streamed(respond)  # other pages need not wait for it

    async def recent(self, request: web.Request) -> web.Response:
        """The codes of a route's last requests with their counts, and the last of them."""
        asked.parameters(request)
        name = request.match_info["name"]
        return await reply(views.recent(await self._view.planes.ask("recent of route", name)))
