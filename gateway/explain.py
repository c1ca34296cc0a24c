"""What would happen to a request, and why: its life run up to where it would be admitted."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.call import Call, Snapshot, Target
from gateway.core.compile import Compiled
from gateway.core.errors import GatewayError
from gateway.core.head import from_pairs
from gateway.edge import front_page
from gateway.edge.cors import is_preflight
from gateway.life import Life, Policies
from gateway.services.keys import Keys


def parse_headers(lines: Iterable[str], token: str | None) -> CIMultiDictProxy[str]:
    """Headers from `Name: value` lines. Raises ValueError."""
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"-H {line!r} is no header; write 'Name: value'")
        headers.add(name.strip(), value.strip())
    headers.setdefault(hdrs.HOST, "localhost")
    if token:
        headers[hdrs.AUTHORIZATION] = f"Bearer {token}"
    return CIMultiDictProxy(headers)


def run(
    compiled: Compiled[Target], keys: Keys, method: str, target: str, headers: CIMultiDictProxy[str]
) -> tuple[Call, GatewayError | None]:
    """The call as far as it came, and what refused it: by the code that serves, no policy twice.

    Raises ValueError for a preflight.
    """
    raw = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
    snapshot = Snapshot(
        revision=0,
        loaded_at=0.0,
        digest="",
        table=compiled.table,
        backends=compiled.backends,
        tenants=compiled.tenants,
        trusted=compiled.trusted,
        limits=compiled.limits,
        front=front_page.route(compiled.front_page),
    )
    policies = Policies(
        snapshot=lambda: snapshot,
        known=keys.known,
        verify=keys.verify,
        limit=lambda call: None,
        limit_client=lambda call: None,
        observe=lambda call: None,
        draining=lambda: False,
        check_via=lambda values: None,
    )
    call = Call(method, target, from_pairs(raw), "127.0.0.1", snapshot)
    if is_preflight(call):
        asked = call.head.asked
        raise ValueError(
            f"a CORS preflight is answered from the route's cors, before any token; explain the {asked}"
        )
    try:
        Life(policies).begin(call)
    except GatewayError as error:
        return call, error
    return call, None


def story(call: Call, refused: GatewayError | None) -> list[tuple[str, str]]:
    """Names and values for a person."""
    rows: list[tuple[str, str]] = []
    route = call.route
    if route is not None:
        host = f"host {route.host} has its own" if route.host else "any host"
        methods = " ".join(sorted(route.methods)) or "any method"
        rows.append(("route", f"{route.name}  {route.path}"))
        rows.append(("why", f"{host}; {methods}; the most specific path that takes {call.path}"))
        if call.params:
            rows.append(("parameters", ", ".join(f"{k} = {v!r}" for k, v in call.params.items())))
        rows.append(("target", f"{route.target_name}, which sees {call.subpath}"))
        if route.backend is not None:
            rows.append(("addresses", ", ".join(address.text for address in route.backend.addresses)))
        needed = " ".join(sorted(route.scopes_for(call.method))) or "any valid token"
        if route.by_collection:
            needed += " (for one collection with its name behind, as in :orders); the store asks"
        rows.append(("needs", "nothing: it is public" if route.public else needed))
    if call.identity is not None:
        rows.append(
            ("token", f"subject {call.identity.subject}, scopes {call.identity.scope_text or 'none'}")
        )
        rows.append(("tenant", call.identity.tenant.value))
    if refused is None:
        rows.append(("outcome", "passed on"))
    else:
        rows.append(("outcome", f"refused: {refused.status} {refused.code}: {refused.detail}"))
    return rows
