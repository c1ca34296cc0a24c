"""What the description says of each page, beside the words of its handler: what it takes and what it gives.

A page is named as in the description, `GET /admin/v1/config`; parameters and schemas as in schemas.py.
"""

from __future__ import annotations

from typing import NamedTuple

_CHANGE = ("reason", "X-Reason", "confirm_within")
_CONFIG = ("Config", "application/yaml")


class Page(NamedTuple):
    """gives: the schema of its JSON, or a media type; "" for nothing. takes: the schema of its body, or media
    types, of which any may come. with_: its parameters beside those in its path. status: of success. public:
    no token is ever needed."""

    gives: str = "Object"
    takes: tuple[str, ...] = ()
    with_: tuple[str, ...] = ()
    status: int = 200
    public: bool = False


def _of_object(kind: str, schema: str) -> dict[str, Page]:
    path = f"/admin/v1/{kind}"
    return {
        f"GET {path}": Page("Objects", with_=("If-None-Match",)),
        f"GET {path}/{{name}}": Page(schema, with_=("If-None-Match",)),
        f"PUT {path}/{{name}}": Page(
            "Outcome", (schema, "application/yaml"), ("If-Match", "If-None-Match", *_CHANGE)
        ),
        f"PATCH {path}/{{name}}": Page("Outcome", ("application/merge-patch+json",), ("If-Match", *_CHANGE)),
        f"DELETE {path}/{{name}}": Page("Outcome", (), ("If-Match", *_CHANGE)),
    }


PAGES: dict[str, Page] = {
    "GET /livez": Page("text/plain", public=True),
    "GET /readyz": Page("text/plain", with_=("verbose",), public=True),
    "GET /metrics": Page("application/openmetrics-text"),
    "GET /admin/openapi.json": Page(),
    "GET /admin/config": Page(with_=("text", "If-None-Match")),
    "GET /admin/auth": Page(),
    "GET /admin/auth/keys": Page(),
    "POST /admin/auth/keys": Page("Object", ("NewKey",), status=201),
    "DELETE /admin/auth/keys/{id}": Page(),
    "POST /admin/auth/keys/{id}:rotate": Page("Object", ("Rotation",)),
    "GET /admin/auth/revocations": Page(),
    "POST /admin/auth/revocations": Page("Object", ("NewRevocation",), status=201),
    "DELETE /admin/auth/revocations/{number}": Page(),
    "GET /admin/backends": Page(),
    "GET /admin/health": Page(),
    "GET /admin/admission": Page(),
    "GET /admin/v1/config": Page("LiveConfig", with_=("If-None-Match",)),
    "PUT /admin/v1/config": Page("Outcome", _CONFIG, ("If-Match", *_CHANGE)),
    "PATCH /admin/v1/config": Page("Outcome", ("application/merge-patch+json",), ("If-Match", *_CHANGE)),
    "POST /admin/v1/config:check": Page("Checked", _CONFIG),
    "POST /admin/v1/config:confirm": Page("Confirmed", ("Confirmation",)),
    "POST /admin/v1/config:rehearse": Page("Rehearsal", _CONFIG, ("within",)),
    **_of_object("routes", "RouteSettings"),
    **_of_object("backends", "BackendSettings"),
    **_of_object("tenants", "TenantSettings"),
    **_of_object("issuers", "IssuerSettings"),
    "GET /admin/v1/routes/{name}/recent": Page("RecentRequests"),
    "GET /admin/v1/tenants/{name}/usage": Page(),
    "GET /admin/v1/revisions": Page("Revisions", with_=("before", "limit", "If-None-Match")),
    "GET /admin/v1/revisions/{number}": Page("Revision", with_=("text", "If-None-Match")),
    "GET /admin/v1/revisions/{before}/diff/{after}": Page("Difference", with_=("If-None-Match",)),
    "POST /admin/v1/revisions/{number}:rollback": Page("Outcome", ("Rollback",), ("If-Match", *_CHANGE)),
    "POST /admin/v1/revisions/{number}:pin": Page("Revision", (), ("reason", "X-Reason")),
    "POST /admin/v1/revisions/{number}:unpin": Page("Revision", (), ("reason", "X-Reason")),
    "GET /admin/v1/audit": Page("Audit", with_=("before", "limit", "author", "action")),
    "GET /admin/v1/audit:verify": Page("Verified"),
    "GET /admin/v1/nodes": Page(),
    "POST /admin/v1/gateway:reload": Page(),
    "GET /admin/v1/traffic": Page("text/event-stream"),
    "POST /admin/v1/explain": Page("Object", ("Explained",)),
    "POST /admin/v1/tickets": Page(status=201),
    "POST /admin/v1/session": Page("Object", ("Ticket",), status=201, public=True),
    "POST /admin/v1/session:end": Page("", status=204),
    "GET /admin/v1/whoami": Page(),
}
