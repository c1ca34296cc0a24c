"""Which of the last requests another config would answer otherwise: each is judged by the live config and by
the new one, by the functions that decide about a request while it is served.

What a request was is known without its secrets, so not all can be judged: see `Judged.unknown`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from gateway.core.errors import BodyTooLarge, Forbidden, GatewayError, NoRoute, Unauthenticated
from gateway.core.http import request_target as target
from gateway.core.http.head import Outline
from gateway.core.jwt.issuer import LOCAL
from gateway.core.methods import KNOWN
from gateway.core.model import MANAGE, Caller, Identity, Route, Tenant, TenantId
from gateway.core.policy import access, cors
from gateway.core.policy.limits import Rate
from gateway.core.routing.snapshot import Snapshot

Kind = Literal["refused", "allowed", "rerouted", "limited"]
KINDS: tuple[Kind, ...] = ("refused", "allowed", "rerouted", "limited")
_EXAMPLES = 5
_EVIDENCE = frozenset({Unauthenticated.code, Forbidden.code})  # codes that tell of what is not kept
_MANAGING = frozenset({"PUT", "PATCH", "DELETE"})  # of a collection itself, its settings


class Recorded(NamedTuple):
    """A request as it was kept. at: when its head had come, in seconds since the epoch. path: canonical, ""
    where it had none. caller: None where nobody was known. route: its name, "" without one. status, code: of
    the response."""

    at: float
    method: str
    path: str
    outline: Outline
    caller: Caller | None
    route: str
    status: int
    code: str


class Judged(NamedTuple):
    """What a config does with a request.

    status, code, detail: of the refusal; 0 and "" when it would be served. where: what would get it, and in
    which form. limits: what is counted against it, by name. readable: whether a page of its Origin may read
    the response. claims: what the route asks of claims, which are not kept. unknown: why it cannot be said,
    "" when it can.
    """

    route: str = ""
    status: int = 0
    code: str = ""
    detail: str = ""
    where: tuple[object, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    readable: bool = True
    claims: Mapping[str, frozenset[str]] | None = None
    unknown: str = ""


_SERVED = Judged()


def rehearse(
    live: Snapshot[Any, Any], new: Snapshot[Any, Any], requests: Iterable[Recorded]
) -> dict[str, Any]:
    """What the new config would answer otherwise: the JSON of the outcome, but for the time that it took."""
    judges = _Judge(live), _Judge(new)
    groups: dict[tuple[object, ...], tuple[Judged, Judged, list[Recorded]]] = {}
    count, oldest = 0, math.inf
    for one in requests:
        count, oldest = count + 1, min(oldest, one.at)
        before, after = judges[0].judge(one), judges[1].judge(one)
        evidence = one.code if one.code in _EVIDENCE else ""
        key = (id(before), id(after), one.method, one.outline.host, one.caller, one.route, evidence)
        group = groups.get(key)
        if group is None:
            group = groups[key] = (before, after, [])
        group[2].append(one)
    found, issuers = _Found(), _Issuers.of(live, new)
    for before, after, alike in groups.values():
        found.add(alike, *_with_evidence(alike[0], before, after, issuers))
    return {"requests": count, "since": oldest if count else None, **found.view()}


class _Issuers(NamedTuple):
    """How the issuers of two configs differ. changed: whether they do. others: the names of those that are
    there in both, and not alike. certificates: whether the new one names clients' certificates that the
    live one does not, or for another section of gateway.conf."""

    changed: bool
    others: frozenset[str]
    certificates: bool

    @classmethod
    def of(cls, live: Snapshot[Any, Any], new: Snapshot[Any, Any]) -> _Issuers:
        others = frozenset(name for name, one in new.issuers.items() if live.issuers.get(name, one) != one)
        changed = (live.issuers, live.local_issuer) != (new.issuers, new.local_issuer)
        names = [{(one.name, one.subjects, one.tls) for one in config.certificates} for config in (live, new)]
        return cls(changed, others, not names[1] <= names[0])


# --- one request, one config ----------------------------------------------------------------------


class _Judge:
    """Says of requests what a config does with them: once of all that differ in nothing that it looks at, for
    there are thousands of them."""

    def __init__(self, snapshot: Snapshot[Any, Any]) -> None:
        self._snapshot = snapshot
        self._known: dict[tuple[object, ...], Judged] = {}

    def judge(self, request: Recorded) -> Judged:
        """The same object for the same key: two are the same only if they are one."""
        path, outline = request.path, request.outline
        if not path or path == "*":
            return _SERVED
        preflight = bool(request.method == "OPTIONS" and outline.asked and outline.origin)
        try:
            route, params = _match(
                self._snapshot, outline.asked if preflight else request.method, outline.host, path
            )
        except GatewayError as error:
            return self._known.setdefault((error.code, error.detail), _refusal("", error))
        tenant = params.get("tenant")
        key = (
            *(id(route), request.method, request.caller, tenant, "%2F" in path),
            *(outline.tenants, outline.origin, outline.asked, outline.wanted, outline.upgrade),
            *(outline.credential, outline.length > route.body_limit),
            _place(route, path) if route.by_collection else None,
        )
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _judge(self._snapshot, request, route, tenant, preflight)
        return found


def _judge(
    snapshot: Snapshot[Any, Any],
    request: Recorded,
    route: Route[Any, Any],
    tenant: str | None,
    preflight: bool,
) -> Judged:
    """route: the one that takes it. tenant: what its path names, None without."""
    outline, name = request.outline, route.name
    try:
        if not route.encoded_slash:
            target.refuse_encoded_slash(request.path)
        if preflight:
            cors.check_preflight(route.cors, outline.origin, (outline.asked,), outline.wanted)
            return Judged(name, where=(route.name,), limits=_limits(snapshot, route, None))
        if request.method not in KNOWN:
            access.require_listed(route, request.method)
        judged = Judged(
            name,
            where=_where(route, request),
            readable=cors.allows_origin(route.cors, outline.origin),
        )
        if route.public:
            judged = judged._replace(limits=_limits(snapshot, route, None))
        else:
            judged = _authorized(snapshot, route, request, tenant, judged)
        if outline.length > route.body_limit:
            raise BodyTooLarge(f"The body may hold at most {route.body_limit} bytes.")
        return judged
    except GatewayError as error:
        return _refusal(name, error)


def _refusal(route: str, error: GatewayError) -> Judged:
    return Judged(route, error.status, error.code, error.detail)


def _match(
    snapshot: Snapshot[Any, Any], method: str, authority: str, path: str
) -> tuple[Route[Any, Any], Mapping[str, str]]:
    host = target.host_of(authority)
    try:
        return snapshot.table.match(method, host, path)
    except NoRoute:
        return snapshot.own_route(method, path), {}


def _authorized(
    snapshot: Snapshot[Any, Any],
    route: Route[Any, Any],
    request: Recorded,
    tenant: str | None,
    judged: Judged,
) -> Judged:
    """With what depends on who calls. Raises GatewayError."""
    caller = request.caller
    if caller is None:
        if not request.outline.credential:
            raise Unauthenticated("No credential came with it.", error="")
        return judged._replace(unknown="its credential was not verified when it came")
    if caller.kind == "jwt" and not _takes(snapshot, caller.issuer):
        raise Unauthenticated(f"There is no issuer {caller.issuer}.")
    identity = _identity(_by_certificate(snapshot, caller) if caller.kind == "mtls" else caller)
    named = [*request.outline.tenants, *([tenant] if tenant is not None else [])]
    found = access.resolve_tenant(identity, snapshot.tenants, named)
    rule = route.callers
    if rule is not None and rule.claims and caller.kind == "jwt":
        judged = judged._replace(claims=rule.claims)
        route = replace(route, callers=replace(rule, claims={}))
    access.require(route, request.method, identity)
    if route.by_collection:
        _require_in_collection(route, request, identity)
    return judged._replace(limits=_limits(snapshot, route, found))


def _by_certificate(snapshot: Snapshot[Any, Any], caller: Caller) -> Caller:
    """The caller as the entry of `certificates` says, by which it was known. Raises Unauthenticated."""
    entry = next((one for one in snapshot.certificates if one.name == caller.issuer), None)
    if entry is None:
        raise Unauthenticated(f"There is no entry {caller.issuer} of certificates.")
    return caller._replace(tenant=entry.tenant.value, scopes=entry.scopes)


@lru_cache(maxsize=1024)  # the same few call again and again
def _identity(caller: Caller) -> Identity:
    tenant = TenantId(caller.tenant)
    return Identity(tenant, "", caller.scopes, 0.0, issuer=caller.issuer, kind=caller.kind)


def _takes(snapshot: Snapshot[Any, Any], issuer: str) -> bool:
    return snapshot.local_issuer if issuer == LOCAL else issuer in snapshot.issuers


def _require_in_collection(route: Route[Any, Any], request: Recorded, identity: Identity) -> None:
    """What documents ask for themselves. Raises Forbidden."""
    collection, below = _place(route, request.path)
    if not collection:
        access.require_in_some(route, request.method, identity)
    elif not below and request.method in _MANAGING:
        access.require_in(route, [MANAGE], collection, identity)
    else:
        access.require_in(route, [request.method], collection, identity)


def _place(route: Route[Any, Any], path: str) -> tuple[str, bool]:
    """The collection of a path of documents, "" for that of all, and whether the path goes on."""
    collection, slash, _ = path[len(route.strip) :].removeprefix("/").partition("/")
    return collection, bool(slash)


def _where(route: Route[Any, Any], request: Recorded) -> tuple[object, ...]:
    """What gets the request, and in which form: the same for two configs where the target cannot tell."""
    backend = route.backend
    websocket = request.outline.upgrade and route.websocket is not None
    addresses = backend.addresses if backend is not None else ()
    return route.name, route.target_name, addresses, route.strip, route.set_host, websocket


def _limits(
    snapshot: Snapshot[Any, Any], route: Route[Any, Any], tenant: Tenant | None
) -> tuple[tuple[str, str], ...]:
    """What is counted against the request. tenant: None where the client's address counts."""
    found = {"route": _rate(route.rate)}
    if tenant is None:
        found["client"] = _rate(snapshot.limits.client)
    else:
        found["tenant"] = _rate(tenant.rate)
        found["quota"] = f"{tenant.quota}/day" if tenant.quota else ""
        found["concurrency"] = str(tenant.concurrency or "")
    return tuple((name, text) for name, text in found.items() if text)


@lru_cache(maxsize=1024)
def _rate(rate: Rate | None) -> str:
    return f"{rate.per_second:g}/s, burst {rate.burst}" if rate is not None else ""


# --- one request, both configs --------------------------------------------------------------------


def _with_evidence(
    request: Recorded, before: Judged, after: Judged, issuers: _Issuers
) -> tuple[Judged, Judged]:
    """With what the response that it had tells of what is not kept."""
    caller = request.caller
    if before.unknown and request.code == Unauthenticated.code:  # a bad credential
        before = _refused(before, Unauthenticated)
        if after.unknown and not issuers.changed:
            after = _refused(after, Unauthenticated)
    elif before.unknown:
        before = before._replace(unknown="")
    if before.claims and (request.route, request.code) == (before.route, Forbidden.code):
        before = _refused(before, Forbidden)
    if before.claims == after.claims and before.status == Forbidden.status and before.claims:
        after = _refused(after, Forbidden)
    elif after.claims and after.claims != before.claims:
        after = after._replace(unknown="the claims of its token are not kept")
    if caller is not None and caller.kind == "mtls" and issuers.certificates:
        if after.code in ("", *_EVIDENCE):
            after = after._replace(status=0, unknown="what is known of its certificate is not kept")
    elif caller is not None and caller.issuer in issuers.others and not after.status:
        after = after._replace(unknown=f"the issuer {caller.issuer} is another one")
    return before, after


def _refused(judged: Judged, error: type[GatewayError]) -> Judged:
    return judged._replace(status=error.status, code=error.code, detail=error.title, unknown="")


def _kind(before: Judged, after: Judged) -> Kind | None:
    if bool(before.status) != bool(after.status):
        return "refused" if after.status else "allowed"
    if after.status:
        return None
    if before.readable != after.readable:
        return "allowed" if after.readable else "refused"
    if before.where != after.where:
        return "rerouted"
    return "limited" if before.limits != after.limits else None


# --- all of them ----------------------------------------------------------------------------------


class _Alike(NamedTuple):
    """What the requests of one example have in common."""

    kind: Kind
    method: str
    host: str
    tenant: str | None
    before: Judged
    after: Judged


class _Found:
    """What differs, as it is gathered."""

    def __init__(self) -> None:
        self._unchanged = 0
        self._unknown: Counter[str] = Counter()
        self._counts: Counter[Kind] = Counter()
        self._alike: dict[str, tuple[_Alike, list[Recorded]]] = {}

    def add(self, requests: list[Recorded], before: Judged, after: Judged) -> None:
        """Requests of one method, host and caller."""
        count, request = len(requests), requests[0]
        if after.unknown:
            self._unknown[after.unknown] += count
            return
        kind = _kind(before, after)
        if kind is None:
            self._unchanged += count
            return
        self._counts[kind] += count
        tenant = request.caller.tenant if request.caller is not None else None
        alike = _Alike(kind, request.method, request.outline.host, tenant, before, after)
        self._alike.setdefault(repr(alike), (alike, []))[1].extend(requests)

    def view(self) -> dict[str, Any]:
        unknown = [{"reason": reason, "count": count} for reason, count in self._unknown.most_common()]
        kinds = {kind: {"count": self._counts[kind], "examples": self._examples(kind)} for kind in KINDS}
        return {"unchanged": self._unchanged, "unknown": unknown, "kinds": kinds}

    def _examples(self, kind: Kind) -> list[dict[str, Any]]:
        those = [one for one in self._alike.values() if one[0].kind == kind]
        those.sort(key=lambda one: -len(one[1]))
        return [_example(alike, requests) for alike, requests in those[:_EXAMPLES]]


def _example(alike: _Alike, requests: list[Recorded]) -> dict[str, Any]:
    (path, _), *_ = Counter(one.path for one in requests).most_common(1)
    request = max((one for one in requests if one.path == path), key=lambda one: one.at)
    before = {**_side(alike.before), "status": request.status or None, "code": request.code or None}
    after = _side(alike.after)
    if not (alike.before.status or alike.after.status) and alike.before.readable != alike.after.readable:
        side = after if alike.before.readable else before
        side |= {"code": "cors", "detail": f"No page of {request.outline.origin} may read the response."}
    return {
        "method": request.method,
        "host": request.outline.host,
        "path": request.path,
        "tenant": alike.tenant,
        "before": before,
        "after": after,
        "count": len(requests),
    }


def _side(judged: Judged) -> dict[str, Any]:
    """What explains it: the route, its target, the limits that count, the refusal."""
    return {
        "route": judged.route or None,
        "target": judged.where[1] if len(judged.where) > 1 else None,
        "limits": dict(judged.limits),
        "status": judged.status or None,
        "code": judged.code or None,
        "detail": judged.detail or None,
    }
