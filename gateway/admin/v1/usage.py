"""GET /admin/v1/tenants/{name}/usage: what a tenant may have, what it has, and where it waits."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from gateway.admin.body import json_response
from gateway.admission.admission import Admission
from gateway.config.live import LiveConfig
from gateway.core.errors import NotFound, StoreUnavailable
from gateway.core.model import Tenant
from gateway.core.policy.limits import Rate
from gateway.limits.quotas import Quotas
from gateway.store.port import DocumentStore

_PAGE = 100  # collections in a page
_MOST = 1000  # collections whose documents are summed up


class View(Protocol):
    """What knows of tenants."""

    live: LiveConfig
    quotas: Quotas
    admission: Admission
    store: DocumentStore


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
                    "used": view.quotas.used(name),
                    "resets_in": round(view.quotas.left_today),
                },
                "documents": await self._documents(tenant),
                "backends": view.admission.of_tenant(name),
            }
        )

    async def _documents(self, tenant: Tenant) -> dict[str, Any] | None:
        """None while the store is away. `complete`: whether all collections were looked at."""
        found = {"collections": 0, "documents": 0, "bytes": 0, "complete": True}
        store, cursor = self._view.store.tenant(tenant.id), None
        try:
            while found["collections"] < _MOST:
                page = await store.collections(_PAGE, cursor)
                found["collections"] += len(page.items)
                found["documents"] += sum(one.documents for one in page.items)
                found["bytes"] += sum(one.bytes for one in page.items)
                cursor = page.next
                if cursor is None:
                    break
        except StoreUnavailable:
            return None
        found["complete"] = cursor is None
        limits = {
            "max_documents": tenant.max_documents,
            "max_bytes": tenant.max_bytes,
            "max_collections": tenant.max_collections,
        }
        return {**found, **limits}


def _rate(rate: Rate | None) -> dict[str, float] | None:
    return None if rate is None else {"per_second": rate.per_second, "burst": rate.burst}
