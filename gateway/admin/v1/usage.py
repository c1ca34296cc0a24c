"""GET /admin/v1/tenants/{name}/usage: what a tenant may have, what it has, and where it waits."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from gateway.admin.body import json_response
from gateway.admin.planes import DataPlanes
from gateway.config.live import LiveConfig
from gateway.core.errors import NotFound, StoreUnavailable
from gateway.core.merge import views
from gateway.core.model import Tenant
from gateway.core.policy.limits import Rate


class View(Protocol):
    """What knows of tenants."""

    live: LiveConfig

    @property
    def planes(self) -> DataPlanes: ...


def install(app: web.Application, view: View) -> None:
    """Put the page on an application with the guard."""
    app.router.add_get("/admin/v1/tenants/{name}/usage", _Usage(view).page)


class _Usage:
    def __init__(self, view: View) -> None:
        self._view = view

    async def page(self, request: web.Request) -> web.Response:
        """The tenant as the live config has it, with its `quota` of today, `documents`, and by backend the
        requests inside and waiting. 404 for a tenant that the config has not."""
        view = self._view
        tenant = view.live.current.tenants.get(request.match_info["name"])
        if tenant is None:
            raise NotFound("The live config has no tenant of that name.")
        name = tenant.id.value
        has = views.tenant(await view.planes.ask("tenant", name))
        return await json_response(
            {
                "tenant": name,
                "name": tenant.name,
                "disabled": tenant.disabled,
                "weight": tenant.weight,
                "rate": _rate(tenant.rate),
                "concurrency": tenant.concurrency or None,
                "quota": {
                    "limit": tenant.quota or None,
                    "used": has["used"],
                    "resets_in": round(has["left"]),
                },
                "documents": await self._documents(tenant),
                "backends": has["backends"],
            }
        )

    async def _documents(self, tenant: Tenant) -> dict[str, Any] | None:
        """None while the store is away. `complete`: whether all collections were looked at."""
        try:
            found = await self._view.planes.ask_one("documents", tenant.id.value)
        except StoreUnavailable:
            found = None
        limits = {
            "max_documents": tenant.max_documents,
            "max_bytes": tenant.max_bytes,
            "max_collections": tenant.max_collections,
        }
        return None if found is None else {**found, **limits}


def _rate(rate: Rate | None) -> dict[str, float] | None:
    return None if rate is None else {"per_second": rate.per_second, "burst": rate.burst}
