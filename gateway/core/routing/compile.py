"""Plain data to a Snapshot: every name resolved, every pattern compiled; or all problems at once.

Problems come in two kinds: of shape (settings.py) and of meaning (here, in backends/compile.py, in
compile_routes.py and in issuers/). Both are found at once: see partial.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gateway.core import front_page
from gateway.core.front_page import FrontPage
from gateway.core.jwt.issuer import LOCAL, Issuer
from gateway.core.model import Backend, Route, Tenant, TenantId, TrustedProxies
from gateway.core.own_endpoints import OF_TOKENS, OwnEndpoint, own_route, ticket_pages
from gateway.core.policy import forwarding
from gateway.core.policy.budget import LEAST
from gateway.core.routing import table
from gateway.core.routing.backends.compile import backend_problems, compile_backend, shared_addresses
from gateway.core.routing.compile_routes import DOCUMENTS, compile_route, route_problems
from gateway.core.routing.issuers.callers import ambiguous
from gateway.core.routing.issuers.certificates import certificate_problems, compile_certificates
from gateway.core.routing.issuers.compile import compile_issuer, issuer_problems, same_issuer
from gateway.core.routing.issuers.settings import ABOUT_LOCAL
from gateway.core.routing.partial import Parts, well_formed, whole
from gateway.core.routing.problems import Path, Problem, Problems
from gateway.core.routing.settings import TenantSettings, parse
from gateway.core.routing.snapshot import Snapshot

T = TypeVar("T")
A = TypeVar("A")
# What a target is made of; None is the documents.
TargetOf = Backend | FrontPage | OwnEndpoint | None
_BODY_MEMORY = 64 * 1024 * 1024  # bytes, of a tenant that does not say


def compile_data(
    data: Any,
    target: Callable[[TargetOf], T],
    sockets: str,
    authentication: A | None = None,
    folder: str = "",
    local: str = "",
) -> Snapshot[T, A]:
    """The snapshot that the config means, not live yet. data: as YAML gives it. target: makes what serves a
    backend, a front page, an endpoint of our own, and (None) documents. sockets: the folder that relative
    unix: addresses are in.
    authentication: of the routes that are not public; without it they cannot be served, only looked at.
    folder: where relative paths of files begin. local: the `iss` of gateway.conf's issuer, "" when not known.
    Raises Problems with all of them."""
    problems: list[Problem] = []
    try:
        parts = whole(parse(data))
    except Problems as shape:
        if not isinstance(data, Mapping):
            raise
        problems.extend(shape.items)
        parts = well_formed(data, problems)
    settings = parts.settings
    backends = _backends(parts, sockets, folder, problems)
    tenants = {name: _tenant(name, written) for name, written in settings.tenants.items()}
    for name, tenant in tenants.items():
        if tenant.body_memory < LEAST:
            where = ("tenants", name, "documents", "body_memory")
            problems.append(Problem(where, "an import takes 2MiB at a time", "write 2MiB or more"))
    issuers = _issuers(parts, folder, local, problems)
    targets = {name: target(backend) for name, backend in backends.items()} | {DOCUMENTS: target(None)}
    certificates = settings.certificates
    problems.extend(certificate_problems(certificates, parts.tenants, parts.issuers()))
    built = _table(parts, backends, targets, authentication, issuers, problems)
    if problems:
        raise Problems(problems)
    return Snapshot(
        revision=0,
        loaded_at=0.0,
        digest="",
        table=built,
        backends=backends,
        tenants=tenants,
        trusted=_trusted(settings.trusted_proxies),
        limits=settings.limits(),
        own=_own(parts, built, target, authentication),
        issuers=issuers,
        local_issuer=parts.local_issuer,
        certificates=compile_certificates(certificates),
    )


def _backends(parts: Parts, sockets: str, folder: str, problems: list[Problem]) -> dict[str, Backend]:
    backends: dict[str, Backend] = {}
    for name, written in parts.settings.backends.items():
        backends[name] = compile_backend(name, written, sockets, folder)
        problems.extend(_under(("backends", name), backend_problems(written, backends[name])))
    problems.extend(shared_addresses(backends))
    if DOCUMENTS in parts.backends(backends):
        reason = "this name means the gateway's own store"
        problems.append(Problem(("backends", DOCUMENTS), reason, "choose another name"))
    return backends


def _issuers(parts: Parts, folder: str, local: str, problems: list[Problem]) -> dict[str, Issuer]:
    issuers: dict[str, Issuer] = {}
    for name, written in parts.settings.issuers.items():
        if name == LOCAL:
            problems.extend([ABOUT_LOCAL] if written else [])
        elif written is None:
            reason, hint = "only local can be switched off", "write the issuer, or remove it"
            problems.append(Problem(("issuers", name), reason, hint))
        else:
            issuers[name] = compile_issuer(name, written, folder)
            problems.extend(_under(("issuers", name), issuer_problems(written, parts.tenants)))
    problems.extend(same_issuer(issuers, local if parts.local_issuer else ""))
    return issuers


def _under(path: Path, problems: Iterable[Problem]) -> Iterator[Problem]:
    """Problems of a part, with the path of the part before their own."""
    return (replace(problem, path=(*path, *problem.path)) for problem in problems)


def _tenant(name: str, written: TenantSettings) -> Tenant:
    documents = written.documents
    return Tenant(
        TenantId(name),
        written.name or name,
        written.rate_limit.compiled() if written.rate_limit else None,
        written.disabled,
        written.quota or 0,
        written.weight,
        written.concurrency or 0,
        documents.max_documents,
        documents.max_bytes,
        documents.max_feeds,
        documents.max_collections,
        _BODY_MEMORY if documents.body_memory is None else documents.body_memory,
    )


def _table(
    parts: Parts,
    backends: Mapping[str, Backend],
    targets: Mapping[str, T],
    authentication: A | None,
    issuers: Mapping[str, Issuer],
    problems: list[Problem],
) -> table.RoutingTable[T, A]:
    """The table of the complete routes that have a target."""
    known = parts.backends(backends)
    positions: dict[str, int] = {}
    routes: dict[int, Route[T, A]] = {}
    named = parts.issuers(), parts.certificates
    for position, written in parts.routes.items():
        problems.extend(_under(("routes", position), route_problems(written, known, *named)))
        first = positions.setdefault(written.name, position)
        if first != position:
            reason = f"the name {written.name!r} is taken by routes[{first}]"
            problems.append(Problem(("routes", position, "name"), reason, "give each route its own name"))
        if position not in parts.incomplete and (written.target in known or written.target == DOCUMENTS):
            # A backend that is left out has a problem, so this stand-in is never called.
            made = targets.get(written.target, targets[DOCUMENTS])
            routes[position] = compile_route(written, known.get(written.target), made, authentication)
    problems.extend(ambiguous(routes, issuers))
    built, clashes = table.build(routes.values())
    for clash in clashes:
        which = "never matches" if clash.whole else f"never matches {', '.join(clash.methods)}"
        reason = f"the route {clash.loser!r} {which}: {' and '.join(clash.winners)} took its requests before"
        hint = "remove one of them, or change its path, host or methods"
        problems.append(Problem(("routes", positions[clash.loser]), reason, hint))
    return built


def _own(
    parts: Parts,
    built: table.RoutingTable[T, A],
    target: Callable[[FrontPage | OwnEndpoint], T],
    authentication: A | None,
) -> dict[str, Route[T, A]]:
    """The routes that take what no other does, by their paths: the front page, unless there is none, and the
    gateway's own endpoints."""
    pages = ticket_pages(built.routes)
    points = [point for point in OwnEndpoint if parts.local_issuer or point not in OF_TOKENS]
    own = {point.value: own_route(point, target(point), authentication, pages) for point in points}
    page = parts.settings.front_page
    if page is not None:
        made = front_page.make(page.title, page.token, page.links, built.routes if page.routes else None)
        own[front_page.PATH] = Route(
            name=front_page.NAME,
            path=front_page.PATH,
            target_name=front_page.NAME,
            target=target(made),
            methods=front_page.METHODS,
            public=True,
        )
    return own


def _trusted(networks: list[str]) -> TrustedProxies:
    return TrustedProxies(
        tuple(forwarding.network(text) for text in networks if text != "unix"), unix="unix" in networks
    )
