"""What is said of an explained request: names and values, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.admin.explain import certificate, credential
from gateway.admin.explain.run import RecordingRoute, Unread
from gateway.auth.issuers import Issuers
from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.core.http.head import Head
from gateway.core.methods import WITHOUT_BODY
from gateway.core.model import MANAGE, BackendTls, Identity, Route
from gateway.core.policy.limits import Rate


def explanation(
    call: Call,
    refused: GatewayError | None,
    issuers: Issuers | None = None,
    revoked: Iterable[tuple[str, str]] = (),
) -> list[tuple[str, str]]:
    """Names and values to print: route, target, scopes, issuer, key, tenant, limits, outcome. issuers: that
    were asked; without them nothing is said of the credential. revoked: what `Asking.revocations` says."""
    known = credential.rows(call, refused, issuers) if issuers is not None else ()
    if isinstance(call, Unread) and call.certificate is not None:
        known = *certificate.rows(call, call.certificate), *known
    rows = [*_route(call), *known, *revoked, *_identity(call)]
    if call.route is not None and refused is None:
        rows += _limits(call, call.route)
        if isinstance(call, Unread) and call.read:
            rows.append(("body", "not read; in a bulk each line needs the scopes of its own operation"))
    if refused is None:
        rows.append(("outcome", "passed on"))
    else:
        rows.append(("outcome", f"refused: {refused.status} {refused.code}: {refused.detail}"))
    return rows


def _route(call: Call) -> Iterator[tuple[str, str]]:
    route = call.route
    if route is None:
        return
    host = f"host {route.host} has its own" if route.host else "any host"
    methods = " ".join(sorted(route.methods)) or "any method"
    yield "route", f"{route.name}  {route.path}"
    yield "why", f"{host}; {methods}; the most specific path that takes {call.path}"
    if call.params:
        yield "parameters", ", ".join(f"{k} = {v!r}" for k, v in call.params.items())
    yield "target", f"{route.target_name}, which sees {call.subpath}"
    if route.backend is not None:
        yield "addresses", ", ".join(address.text for address in route.backend.addresses) + (
            " (each address of a name)" if route.backend.resolve_each else ""
        )
        if secured := next((one.tls for one in route.backend.addresses if one.tls is not None), None):
            yield "tls", _tls(secured)
    yield "needs", _needs(call, route)
    if route.bind:
        yield "bind", "request: the identity that the backend gets is good for this method and path alone"
    if call.head.upgrades:
        taken = route.backend is not None and call.websocket is not None
        yield "upgrade", "to a WebSocket" if taken else "ignored: the route has none for such a request"


def _tls(tls: BackendTls) -> str:
    said = f"as {tls.server_name}" if tls.server_name else "as the address's host"
    checked = f"its certificate is checked by {tls.ca or 'the authorities of the system'}, {said}"
    shown = f"; it is shown {tls.certificate}" if tls.certificate else ""
    return (checked if tls.verify else f"NOT VERIFIED (verify: false), {said}") + shown


def _needs(call: Call, route: Route[Any, Any]) -> str:
    if route.public:
        return "nothing: it is public"
    if not isinstance(route, RecordingRoute):
        return " ".join(sorted(route.scopes_for(call.method))) or "any valid token"
    actions = list(dict.fromkeys(route.required)) or [call.method]
    named = [f"{_scopes(route, action)} to {_verb(action)}" for action in actions]
    collection = call.subpath.strip("/").partition("/")[0]
    behind = f" (for one collection with its name behind, as in :{collection or 'orders'})"
    return ", ".join(named) + behind


def _scopes(route: Route[Any, Any], action: str) -> str:
    return " ".join(sorted(Route.scopes_for(route, action))) or "any valid token"


def _verb(action: str) -> str:
    return "manage the collection" if action == MANAGE else action


def _identity(call: Call) -> Iterator[tuple[str, str]]:
    identity: Identity | None = call.identity
    if identity is not None:
        by = "caller" if identity.kind == "mtls" else "token"
        yield by, f"subject {identity.subject}, scopes {identity.scope_text or 'none'}"
        name = call.tenant.name if call.tenant is not None else ""
        tenant = identity.tenant.value
        yield "tenant", f"{tenant} ({name})" if name not in ("", tenant) else tenant


def _limits(call: Call, route: Route[Any, Any]) -> Iterator[tuple[str, str]]:
    """The limits that may still refuse the call when it is made."""
    tenant, head = call.tenant, call.head
    found: list[str] = []
    if tenant is not None:
        if tenant.rate is not None:
            found.append(f"the tenant's rate {_rate(tenant.rate)}")
        if tenant.quota:
            found.append(f"its quota {tenant.quota}/day")
        if tenant.concurrency:
            found.append(f"its {tenant.concurrency} requests under way")
        if route.by_collection and tenant.max_documents is not None:
            found.append(f"its {tenant.max_documents} documents")
        if route.by_collection and tenant.max_bytes is not None:
            found.append(f"its {tenant.max_bytes} bytes of documents")
    if route.rate is not None:
        found.append(f"the route's rate {_rate(route.rate)}")
    if route.backend is not None and route.backend.threads:
        seats = route.backend.threads * len(route.backend.addresses)
        found.append(f"the {seats} seats of {route.backend.name}")
    if _has_body(call.method, head):
        found.append(f"a body of {route.body_limit} bytes")
    if route.timeouts.total:
        found.append(f"{route.timeouts.total:g} s in all")
    yield "limits", ", ".join(found) or "none"


def _has_body(method: str, head: Head) -> bool:
    return method not in WITHOUT_BODY or head.length > 0


def _rate(rate: Rate) -> str:
    return f"{rate.per_second:g}/s (burst {rate.burst})"
