"""GET /admin/v1/traffic: what happens in the gateway, second by second, as server-sent events.

One look a second is shared by all who watch, and there is none while nobody does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from aiohttp import web

from gateway.admin import browsers, guard
from gateway.admin.planes import DataPlanes
from gateway.admin.serve import Streamed
from gateway.call import Call
from gateway.config.live import LiveConfig
from gateway.core.errors import Saturated
from gateway.core.merge import views
from gateway.edge.response.stream import Stream
from gateway.runtime.periodic import Boundary
from gateway.telemetry.traffic import sample

EVERY = 1.0  # seconds between two events
_MOST = 50  # who may watch at once
_KEPT = 10  # places of them for who shows a credential
_LONGEST = 900  # events until a stream ends, so that its client shows its credential again
_RETRY = b"retry: 1000\n\n"
_HEADERS = {**browsers.HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class View(Protocol):
    """What is shown of the gateway."""

    live: LiveConfig

    @property
    def planes(self) -> DataPlanes: ...

    @property
    def draining(self) -> bool: ...


def install(app: web.Application, view: View) -> None:
    """Put the page on an application with the guard."""
    app.router.add_get("/admin/v1/traffic", _Watched(view).page, allow_head=False)  # it has no end


class _Watched:
    def __init__(self, view: View) -> None:
        self._view = view
        self._watching = 0
        self._ticker: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes] | None = None
        self._boundary = Boundary("looking at the traffic")

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Events without end. 503 where too many watch."""
        known = guard.shows_credential(request)
        if self._watching >= (_MOST if known else _MOST - _KEPT):
            hint = "close a console that nobody looks at" + ("" if known else ", or sign in")
            raise Saturated(f"{self._watching} watch already; {hint}.")
        return Streamed(self._write)

    async def _write(self, call: Call) -> web.StreamResponse:
        self._watching += 1
        if self._ticker is None:
            self._next = asyncio.get_running_loop().create_future()
            self._ticker = asyncio.create_task(self._tick())
        try:
            with Stream(call, "text/event-stream", _HEADERS, endless=True) as stream:
                await stream.write(_RETRY)
                for _ in range(_LONGEST):
                    assert self._next is not None
                    event = await asyncio.shield(self._next)
                    if self._view.draining:
                        break
                    await stream.write(event)
                return await stream.end()
        finally:
            self._watching -= 1
            if not self._watching and self._ticker is not None:
                self._ticker.cancel()
                self._ticker = None

    async def _tick(self) -> None:
        """Make the next event each second, for all who wait for it."""
        with self._boundary:
            await self._view.planes.ask("traffic", True)  # from now on
        while True:
            await asyncio.sleep(EVERY)
            event = b":\n\n"
            with self._boundary:
                event = b"event: traffic\ndata: %b\n\n" % json.dumps(await self._seen()).encode()
            last, self._next = self._next, asyncio.get_running_loop().create_future()
            if last is not None:
                last.set_result(event)

    async def _seen(self) -> dict[str, Any]:
        ask, live = self._view.planes.ask, self._view.live
        asked = ask("traffic", False), ask("admission"), ask("health")
        looks, admission, health = await asyncio.gather(*asked)
        current, backends = live.current, {}
        for name, state in views.admission(admission).items():
            if name in current.backends:
                backends[name] = _backend(state, current.backends[name].threads)
        for state in views.health(health):
            if state["name"] in backends:
                backends[state["name"]]["addresses"] = [
                    {"address": one["address"], "circuit": one["state"]} for one in state["addresses"]
                ]
        seen, config = sample(looks), _config(live)
        return {"at": round(time.time(), 3), **seen, "backends": backends, "config": config}


def _config(live: LiveConfig) -> dict[str, Any]:
    """What is live, who made it so, and whether it waits for a confirmation."""
    pending, origin = live.pending, live.head.origin
    return {
        "revision": live.current.revision,
        "at": live.current.loaded_at,
        "author": origin.author,
        "reason": origin.reason,
        "pending": None if pending is None else asdict(pending),
        "refused": live.refusal is not None,
    }


def _backend(state: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    inside, waiting = state["in_use_by_tenant"], state["waiting_by_tenant"]
    return {
        "threads": threads or None,
        "seats": state["seats"],
        "in_use": state["in_use"],
        "streams": state["streams"]["in_use"],
        "waiting": state["waiting"],
        "tenants": {
            name: {"in_use": inside.get(name, 0), "waiting": waiting.get(name, 0)}
            for name in {**inside, **waiting}
        },
        "addresses": [],
    }
