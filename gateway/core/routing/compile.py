"""Settings to a Snapshot: every name resolved, every pattern compiled, or all problems."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TypeVar

from gateway.core import front_page
from gateway.core.errors import BadRequest
from gateway.core.front_page import FrontPage
from gateway.core.http import headers, paths
from gateway.core.model import (
    MANAGE,
    READ_METHODS,
    Address,
    Backend,
    CorsRule,
    Route,
    Tenant,
    TenantId,
    Timeouts,
    TrustedProxies,
    WebSocketRule,
)
from gateway.core.policy.budget import LEAST
from gateway.core.routing import effects, table
from gateway.core.routing.compile_seats import seat_problems, with_seats
from gateway.core.routing.names import METHODS
from gateway.core.routing.problems import Problem, Problems
from gateway.core.routing.settings import (
    BackendSettings,
    CorsSettings,
    RouteSettings,
    Settings,
    TimeoutSettings,
)
from gateway.core.routing.snapshot import Snapshot

T = TypeVar("T")
DOCUMENTS = "documents"
_DEFAULT_BODY_LIMIT = 10 * 1024 * 1024
_DEFAULT_MAX_MESSAGE = 1024 * 1024
_BODY_MEMORY = 64 * 1024 * 1024
_DEFAULT_WEBSOCKET_IDLE = 60.0
_MAX_SOCKET_PATH = 107  # bytes; unix(7): sun_path holds 108 with the NUL at its end
_METRIC_WORDS = frozenset({"none", "other"})  # what the metrics call a route that is none, and one too many
_SCOPE_WORDS = frozenset({"read", "write", MANAGE})
_MANAGING = frozenset({"PUT", "PATCH", "DELETE"})  # methods that change a collection's settings
# Others count only where the route lists them: a misspelt DELTE would leave DELETE without its scope.
_METHODS = frozenset(METHODS)


def compile_settings(
    settings: Settings, target: Callable[[Backend | FrontPage | None], T], sockets: str
) -> Snapshot[T]:
    """The snapshot that the settings mean, not live yet. target: makes what answers for a backend, for a
    front page, and (None) for documents. sockets: the folder that relative unix: addresses are in. Raises
    Problems with all of them."""
    problems: list[Problem] = []
    backends = {
        name: _backend(name, written, sockets, problems) for name, written in settings.backends.items()
    }
    _share_no_address(backends, problems)
    if DOCUMENTS in backends:
        problems.append(
            Problem(("backends", DOCUMENTS), "this name means the gateway's own store", "choose another name")
        )
    tenants = {
        name: Tenant(
            TenantId(name),
            written.name or name,
            written.rate_limit.compiled() if written.rate_limit else None,
            written.disabled,
            written.quota or 0,
            written.weight,
            written.concurrency or 0,
            written.documents.max_documents,
            written.documents.max_bytes,
            written.documents.max_feeds,
            written.documents.max_collections,
            _BODY_MEMORY if written.documents.body_memory is None else written.documents.body_memory,
        )
        for name, written in settings.tenants.items()
    }
    for name, tenant in tenants.items():
        if tenant.body_memory < LEAST:
            where = ("tenants", name, "documents", "body_memory")
            problems.append(Problem(where, "an import takes 2MiB at a time", "write 2MiB or more"))
    targets = {name: target(backend) for name, backend in backends.items()} | {DOCUMENTS: target(None)}
    routes = [_route(i, r, backends, targets, problems) for i, r in enumerate(settings.routes)]
    built = _table([route for route in routes if route is not None], settings, problems)
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
        front=_front(settings, built, target),
    )


def _front(
    settings: Settings, built: table.RoutingTable[T], target: Callable[[FrontPage], T]
) -> Route[T] | None:
    """The route that takes `/` when no other does; None when there is no page."""
    page = settings.front_page
    if page is None:
        return None
    made = front_page.make(page.title, page.token, page.links, built.routes if page.routes else None)
    return Route(
        name=front_page.NAME,
        path=front_page.PATH,
        target_name=front_page.NAME,
        target=target(made),
        methods=front_page.METHODS,
        public=True,
    )


def _backend(name: str, written: BackendSettings, sockets: str, problems: list[Problem]) -> Backend:
    where = ("backends", name, "threads")
    if written.kind == "gunicorn" and written.threads is None:
        problems.append(
            Problem(
                where, "a threaded backend needs its number of threads", "write the --threads it runs with"
            )
        )
    if written.kind != "gunicorn" and written.threads is not None:
        problems.append(
            Problem(
                where, f"a backend of kind {written.kind} has no threads", "remove it, or use kind: gunicorn"
            )
        )
    if len(set(written.addresses)) != len(written.addresses):
        problems.append(
            Problem(("backends", name, "addresses"), "an address is there twice", "list each address once")
        )
    addresses = tuple(_address(text, sockets) for text in written.addresses)
    for index, address in enumerate(addresses):
        size = len(address.path.encode())
        if size > _MAX_SOCKET_PATH:
            reason = f"the path of the socket has {size} bytes ({address.path}), and {_MAX_SOCKET_PATH} fit"
            problems.append(Problem(("backends", name, "addresses", index), reason, "use a shorter path"))
    health = written.health
    if health.path is None and health.model_fields_set - {"server_errors"}:
        reason = "there are no probes, so it changes nothing"
        problems.append(Problem(("backends", name, "health"), reason, "add path, such as /healthz"))
    problems.extend(seat_problems(name, written))
    for path, reason, hint in effects.of_backend(written):
        problems.append(Problem(("backends", name, *path), reason, hint))
    backend = Backend(name, written.kind, addresses, written.threads or 0, health.compiled())
    return with_seats(backend, written)


def _share_no_address(backends: dict[str, Backend], problems: list[Problem]) -> None:
    """Two backends at one address would each fill it with as many requests as it has threads."""
    owners: dict[tuple[str, int, str], str] = {}
    for name, backend in backends.items():
        for index, address in enumerate(backend.addresses):
            owner = owners.setdefault((address.host.lower(), address.port, address.path), name)
            if owner != name:
                reason = f"the backend {owner!r} has this address too"
                hint = "let the routes name one backend, or correct the address"
                problems.append(Problem(("backends", name, "addresses", index), reason, hint))


def _address(text: str, sockets: str) -> Address:
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        return Address(text, path=path if path.startswith("/") else f"{sockets}/{path}")
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    return Address(text, host=host.strip("[]"), port=int(port))


def _route(
    index: int,
    written: RouteSettings,
    backends: dict[str, Backend],
    targets: dict[str, T],
    problems: list[Problem],
) -> Route[T] | None:
    backend = backends.get(written.target)
    found = [*_route_problems(written, targets.keys()), *_websocket_problems(written, backend)]
    if written.target in targets:
        told = {path for path, _, _ in found}
        found += [problem for problem in effects.of_route(written, backend) if problem[0] not in told]
    problems.extend(Problem(("routes", index, *path), reason, hint) for path, reason, hint in found)
    if written.target not in targets:
        return None
    scopes = {word: frozenset(names) for word, names in written.scopes.items()}
    return Route(
        name=written.name,
        path=written.path,
        target_name=written.target,
        target=targets[written.target],
        host=written.host or "",
        methods=frozenset(written.methods),
        strip=_strip(written.strip),
        encoded_slash=_passes_slash(written),
        public=written.public,
        read_scopes=scopes.get("read", frozenset()),
        write_scopes=scopes.get("write", frozenset()),
        method_scopes={word: names for word, names in scopes.items() if word not in _SCOPE_WORDS},
        by_collection=backend is None,
        manage_scopes=scopes.get(MANAGE, frozenset()),
        timeouts=_timeouts(written.timeouts, backend),
        body_limit=written.body_limit if written.body_limit is not None else _DEFAULT_BODY_LIMIT,
        cors=_cors(written.cors) if written.cors else None,
        set_host=written.set_host or "",
        forward_authorization=written.forward_authorization,
        backend=backend,
        websocket=_websocket(written),
        rate=written.rate_limit.compiled() if written.rate_limit else None,
        retry=written.retry == "idempotent",
        interim=written.interim == "relay",
    )


def _route_problems(written: RouteSettings, targets: object) -> list[effects.Found]:
    """What the words of one route mean together."""
    found: list[effects.Found] = []
    known = sorted(targets)  # type: ignore[call-overload]
    if written.name in _METRIC_WORDS:
        found.append(
            (("name",), f"the metrics mean something else by {written.name!r}", "choose another name")
        )
    if written.target not in known:
        near = difflib.get_close_matches(written.target, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        hint += f"known: {', '.join(known)}"
        found.append((("target",), f"there is no backend {written.target!r}", hint))
    if written.target == DOCUMENTS and written.public:
        found.append((("public",), "documents belong to tenants, so a token is needed", "remove public"))
    if written.public and written.scopes:
        found.append((("scopes",), "a public route checks no token", "remove scopes, or public"))
    if "{" in written.strip:
        reason = f"{written.strip!r} holds a parameter"
        found.append((("strip",), reason, f"strip only literal segments; {_strip_hint(written.path)}"))
    elif not _begins_with(written.path, _strip(written.strip)):
        reason = f"{written.strip!r}: the path does not begin with it"
        hint = f"strip a leading part of {written.path}, of whole segments; {_strip_hint(written.path)}"
        found.append((("strip",), reason, hint))
    if not _passes_slash(written) and "%2F" in _strip(written.path):
        found.append(
            (("path",), "it holds %2F, which the route refuses", "add encoded_slash: pass, or write it as /")
        )
    strange = [w for w in written.scopes if w not in _SCOPE_WORDS | _METHODS and w not in written.methods]
    for word in strange:
        found.append((("scopes", word), f"{word!r} is no method that the route takes", _scope_hint(word)))
    if MANAGE in written.scopes and written.target != DOCUMENTS:
        found.append((("scopes", MANAGE), "a backend has no collections", "remove it"))
    if not strange and not written.public:
        found.extend(_open_to_any_token(written))
    if written.cors:
        found.extend(_cors_problems(written.cors, written.methods))
    return found


def _strip_hint(path: str) -> str:
    literal = path.partition("/{")[0]
    return f"write strip: {literal}" if literal and "{" not in literal else "remove it"


def _scope_hint(word: str) -> str:
    near = difflib.get_close_matches(word.lower(), [w.lower() for w in (*_SCOPE_WORDS, *_METHODS)], 1)
    meant = next((w for w in (*_SCOPE_WORDS, *_METHODS) if near and w.lower() == near[0]), "")
    return (f"did you mean {meant}? " if meant else "") + "use read, write, or a method such as DELETE"


def _cors_problems(cors: CorsSettings, methods: list[str]) -> Iterator[effects.Found]:
    if "*" in cors.origins and (cors.credentials or len(cors.origins) > 1):
        yield ("cors", "origins"), "* stands alone and never with credentials", "list the origins instead"
    if "*" in cors.expose and cors.credentials:
        yield ("cors", "expose"), "with credentials a browser takes * for a name", "list the headers instead"
    takes = {*methods, *(["HEAD"] if "GET" in methods else [])}
    strange = [method for method in cors.methods if takes and method not in takes]
    if strange:
        reason = f"the route does not take {', '.join(strange)}"
        yield ("cors", "methods"), reason, "remove it, or add it to the route's methods"


def _websocket_problems(written: RouteSettings, backend: Backend | None) -> list[effects.Found]:
    if written.websocket is None or (backend is not None and not backend.threaded):
        return []
    if backend is None and written.target != DOCUMENTS:
        return []  # that there is no such backend is said already
    why = "the document store has none" if backend is None else "it would hold a thread while it lives"
    return [(("websocket",), why, "remove it, or target a backend of kind uvicorn, asab or http")]


def _websocket(written: RouteSettings) -> WebSocketRule | None:
    rule, cors = written.websocket, written.cors
    if rule is None:
        return None
    return WebSocketRule(
        max_message=rule.max_message if rule.max_message is not None else _DEFAULT_MAX_MESSAGE,
        idle=rule.idle if rule.idle is not None else _DEFAULT_WEBSOCKET_IDLE,
        origins=(*rule.origins, *(cors.origins if cors else ())),
        **({"frames": rule.frames.compiled()} if rule.frames else {}),
    )


def _passes_slash(written: RouteSettings) -> bool:
    """The keys of the store are opaque; a backend that decodes `%2F` is asked for another route's path."""
    if written.encoded_slash is None:
        return written.target == DOCUMENTS
    return written.encoded_slash == "pass"


def _strip(written: str) -> str:
    """The part to strip in canonical form, as the path of a request has; empty when it has none."""
    try:
        return paths.canonical(written).rstrip("/") if written else ""
    except BadRequest:
        return written


def _begins_with(path: str, strip: str) -> bool:
    literals = strip.split("/")
    segments = ("", *table.compile_pattern(path).segments)
    return list(segments[: len(literals)]) == literals


def _open_to_any_token(written: RouteSettings) -> Iterator[effects.Found]:
    """A route that names scopes for one kind of method and forgets the other: it fails closed."""
    for word, reads in (("read", True), ("write", False)):
        takes = [m for m in written.methods if (m in READ_METHODS) is reads and m not in written.scopes]
        if written.scopes and word not in written.scopes and (takes or not written.methods):
            reason = f"it says nothing of {word}, so any valid token could {word}"
            yield ("scopes", word), reason, f"add {word}: with its scopes, or {word}: [] if that is meant"
    manages = not written.methods or not _MANAGING.isdisjoint(written.methods)
    if written.scopes and written.target == DOCUMENTS and manages and MANAGE not in written.scopes:
        reason = "it says nothing of manage, so any valid token could change or delete collections"
        yield ("scopes", MANAGE), reason, "add manage: with its scopes, or manage: [] if that is meant"


def _timeouts(written: TimeoutSettings, backend: Backend | None) -> Timeouts:
    given = {name: value for name, value in written if value is not None}
    if backend is not None and backend.queue_timeout is not None:
        given.setdefault("queue", backend.queue_timeout)
    return Timeouts(**given)


def _cors(written: CorsSettings) -> CorsRule:
    return CorsRule(
        origins=tuple(written.origins),
        methods=tuple(written.methods),
        headers=tuple(written.headers),
        expose=tuple(written.expose),
        credentials=written.credentials,
        max_age=written.max_age if written.max_age is not None else 600,
    )


def _table(routes: list[Route[T]], settings: Settings, problems: list[Problem]) -> table.RoutingTable[T]:
    positions: dict[str, int] = {}
    for index, written in enumerate(settings.routes):
        if written.name in positions:
            problems.append(
                Problem(
                    ("routes", index, "name"),
                    f"the name {written.name!r} is taken by routes[{positions[written.name]}]",
                    "give each route its own name",
                )
            )
        positions.setdefault(written.name, index)
    built, clashes = table.build(routes)
    for clash in clashes:
        which = "never matches" if clash.whole else f"never matches {', '.join(clash.methods)}"
        problems.append(
            Problem(
                ("routes", positions[clash.loser]),
                f"the route {clash.loser!r} {which}: {' and '.join(clash.winners)} took its requests before",
                "remove one of them, or change its path, host or methods",
            )
        )
    return built


def _trusted(networks: list[str]) -> TrustedProxies:
    return TrustedProxies(
        tuple(headers.network(text) for text in networks if text != "unix"), unix="unix" in networks
    )
