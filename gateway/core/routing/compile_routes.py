"""A route of the routing config as compiled, and what is wrong with it.

A setting that can never have an effect is refused, so that nobody relies on it. Such a problem says why there
is no effect, and what was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from gateway.core.errors import BadRequest
from gateway.core.http.request_target import canonical_path
from gateway.core.methods import COMMON, IDEMPOTENT, SAFE
from gateway.core.model import MANAGE, Backend, CorsRule, Route, Timeouts, WebSocketRule
from gateway.core.routing.issuers.callers import bind_problems, caller_problems, compile_callers
from gateway.core.routing.problems import Problem, did_you_mean
from gateway.core.routing.settings import CorsSettings, RouteSettings, TimeoutSettings
from gateway.core.routing.table import compile_pattern

T = TypeVar("T")
A = TypeVar("A")
DOCUMENTS = "documents"  # the target of that name is the gateway's own store
_METRIC_WORDS = frozenset({"none", "other"})  # what the metrics call a route that is none, and one too many
_SCOPE_WORDS = frozenset({"read", "write", MANAGE})
_MANAGING = frozenset({"PUT", "PATCH", "DELETE"})  # methods that change a collection's settings
# Others count only where the route lists them: a misspelt DELTE would leave DELETE without its scope.
_METHODS = frozenset(COMMON)
# What concerns how a backend is talked to. The store is in this process: there is nothing to connect to, to
# wait for, or to pass on.
_OF_BACKENDS = {
    "set_host": "documents are not asked by HTTP, so there is no Host to set",
    "forward_authorization": "documents are in this process, so there is nobody to pass a token on to",
    "retry": "it is about backends, and documents are none",
    "interim": "it is about backends, and documents are none",
}
_TIMES_OF_BACKENDS = {
    "connect": "the document store is in this process: nothing is connected to",
    "first_byte": "the document store is in this process: there is no first byte to wait for",
    "queue": "documents have no seats to wait for",
}


def compile_route(
    written: RouteSettings, backend: Backend | None, target: T, authentication: A | None
) -> Route[T, A]:
    """The route, with the defaults of what is not written. backend: None for documents. authentication: for
    when the route is not public."""
    scopes = {word: frozenset(names) for word, names in written.scopes.items()}
    return Route(
        name=written.name,
        path=written.path,
        target_name=written.target,
        target=target,
        authentication=None if written.public else authentication,
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
        cors=_cors(written.cors) if written.cors else None,
        set_host=written.set_host or "",
        forward_authorization=written.forward_authorization,
        backend=backend,
        websocket=_websocket(written),
        rate=written.rate_limit.compiled() if written.rate_limit else None,
        retry=written.retry == "idempotent",
        interim=written.interim == "relay",
        callers=compile_callers(written),
        bind=written.bind is not None,
        **({"body_limit": written.body_limit} if written.body_limit is not None else {}),
    )


def _websocket(written: RouteSettings) -> WebSocketRule | None:
    rule, cors = written.websocket, written.cors
    if rule is None:
        return None
    given: dict[str, Any] = {"max_message": rule.max_message, "idle": rule.idle}
    given["frames"] = rule.frames.compiled() if rule.frames else None
    return WebSocketRule(
        origins=(*rule.origins, *(cors.origins if cors else ())),
        **{name: value for name, value in given.items() if value is not None},
    )


def _passes_slash(written: RouteSettings) -> bool:
    """The keys of the store are opaque; a backend that decodes `%2F` is asked for another route's path."""
    if written.encoded_slash is None:
        return written.target == DOCUMENTS
    return written.encoded_slash == "pass"


def _strip(written: str) -> str:
    """The part to strip in canonical form, as the path of a request has; empty when it has none."""
    try:
        return canonical_path(written).rstrip("/") if written else ""
    except BadRequest:
        return written


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


# --- what is wrong with it -------------------------------------------------------------------------


def route_problems(
    written: RouteSettings,
    backends: Mapping[str, Backend],
    issuers: Collection[str],
    certificates: Collection[str] = (),
) -> Iterator[Problem]:
    """What the words of one route mean together, and at its target; paths begin in the route. backends,
    issuers: what it may name. certificates: that say whose clients' certificates are."""
    callers = caller_problems(written, issuers, certificates)
    found = [*_words(written), *_target_problems(written, backends), *callers]
    yield from found
    reported = {problem.path for problem in found}
    if written.target in backends or written.target == DOCUMENTS:
        for problem in _without_effect(written, backends.get(written.target)):
            if problem.path not in reported:
                yield problem


def _words(written: RouteSettings) -> Iterator[Problem]:
    """What the words of a route mean together, whatever its target is like."""
    if written.name in _METRIC_WORDS:
        reason = f"the metrics mean something else by {written.name!r}"
        yield Problem(("name",), reason, "choose another name")
    if written.target == DOCUMENTS and written.public:
        yield Problem(("public",), "documents belong to tenants, so a token is needed", "remove public")
    if written.public and written.scopes:
        yield Problem(("scopes",), "a public route checks no token", "remove scopes, or public")
    if "{" in written.strip:
        hint = f"strip only literal segments; {_strip_hint(written.path)}"
        yield Problem(("strip",), f"{written.strip!r} holds a parameter", hint)
    elif not _begins_with(written.path, _strip(written.strip)):
        reason = f"{written.strip!r}: the path does not begin with it"
        hint = f"strip a leading part of {written.path}, of whole segments; {_strip_hint(written.path)}"
        yield Problem(("strip",), reason, hint)
    if not _passes_slash(written) and "%2F" in _strip(written.path):
        reason = "it holds %2F, which the route refuses"
        yield Problem(("path",), reason, "add encoded_slash: pass, or write it as /")
    yield from _scope_problems(written)
    if written.cors:
        yield from _cors_problems(written.cors, written.methods)


def _strip_hint(path: str) -> str:
    literal = path.partition("/{")[0]
    return f"write strip: {literal}" if literal and "{" not in literal else "remove it"


def _begins_with(path: str, strip: str) -> bool:
    literals = strip.split("/")
    segments = ("", *compile_pattern(path).segments)
    return list(segments[: len(literals)]) == literals


def _scope_problems(written: RouteSettings) -> Iterator[Problem]:
    strange = [w for w in written.scopes if w not in _SCOPE_WORDS | _METHODS and w not in written.methods]
    for word in strange:
        reason = f"{word!r} is no method that the route takes"
        yield Problem(("scopes", word), reason, _scope_hint(word))
    if MANAGE in written.scopes and written.target != DOCUMENTS:
        yield Problem(("scopes", MANAGE), "a backend has no collections", "remove it")
    if not strange and not written.public:
        yield from _open_to_any_token(written)


def _scope_hint(word: str) -> str:
    near = difflib.get_close_matches(word.lower(), [w.lower() for w in (*_SCOPE_WORDS, *_METHODS)], 1)
    meant = next((w for w in (*_SCOPE_WORDS, *_METHODS) if near and w.lower() == near[0]), "")
    return (f"did you mean {meant}? " if meant else "") + "use read, write, or a method such as DELETE"


def _open_to_any_token(written: RouteSettings) -> Iterator[Problem]:
    """A route that names scopes for one kind of method and forgets the other: it fails closed."""
    for word, reads in (("read", True), ("write", False)):
        takes = [m for m in written.methods if (m in SAFE) is reads and m not in written.scopes]
        if written.scopes and word not in written.scopes and (takes or not written.methods):
            reason = f"it says nothing of {word}, so any valid token could {word}"
            hint = f"add {word}: with its scopes, or {word}: [] if that is meant"
            yield Problem(("scopes", word), reason, hint)
    manages = not written.methods or not _MANAGING.isdisjoint(written.methods)
    if written.scopes and written.target == DOCUMENTS and manages and MANAGE not in written.scopes:
        reason = "it says nothing of manage, so any valid token could change or delete collections"
        hint = "add manage: with its scopes, or manage: [] if that is meant"
        yield Problem(("scopes", MANAGE), reason, hint)


def _cors_problems(cors: CorsSettings, methods: list[str]) -> Iterator[Problem]:
    if "*" in cors.origins and (cors.credentials or len(cors.origins) > 1):
        reason = "* stands alone and never with credentials"
        yield Problem(("cors", "origins"), reason, "list the origins instead")
    if "*" in cors.expose and cors.credentials:
        reason = "with credentials a browser takes * for a name"
        yield Problem(("cors", "expose"), reason, "list the headers instead")
    takes = {*methods, *(["HEAD"] if "GET" in methods else [])}
    strange = [method for method in cors.methods if takes and method not in takes]
    if strange:
        reason = f"the route does not take {', '.join(strange)}"
        yield Problem(("cors", "methods"), reason, "remove it, or add it to the route's methods")


def _target_problems(written: RouteSettings, backends: Mapping[str, Backend]) -> Iterator[Problem]:
    backend = backends.get(written.target)
    if backend is None and written.target != DOCUMENTS:
        known = sorted({*backends, DOCUMENTS})
        hint = f"{did_you_mean(written.target, known)}known: {', '.join(known)}"
        yield Problem(("target",), f"there is no backend {written.target!r}", hint)
    elif written.websocket is not None and (backend is None or backend.threaded):
        reason = "the document store has none" if backend is None else "it would hold a thread while it lives"
        yield Problem(("websocket",), reason, "remove it, or target a backend of kind uvicorn, asab or http")


def _without_effect(written: RouteSettings, backend: Backend | None) -> Iterator[Problem]:
    """What of a route has no effect at its target. backend: None for documents."""
    yield from bind_problems(written, backend)
    if backend is None:
        yield from _without_effect_on_documents(written)
    elif written.timeouts.queue is not None and not (backend.threads or backend.concurrency):
        reason = f"any number of requests may be inside the backend {backend.name!r}, so none waits"
        hint = "remove it, or give the backend its concurrency"
        yield Problem(("timeouts", "queue"), reason, hint)
    if written.methods:
        yield from _without_methods(written, backend)


def _without_effect_on_documents(written: RouteSettings) -> Iterator[Problem]:
    for name, reason in _OF_BACKENDS.items():
        if getattr(written, name) != RouteSettings.model_fields[name].default:
            yield Problem((name,), reason, "remove it")
    if written.encoded_slash == "pass":
        reason = "documents take %2F as it is: it is never a slash there"
        yield Problem(("encoded_slash",), reason, "remove it")
    for name, reason in _TIMES_OF_BACKENDS.items():
        if getattr(written.timeouts, name) is not None:
            hint = "remove it; timeouts.total bounds the whole call"
            yield Problem(("timeouts", name), reason, hint)


def _without_methods(written: RouteSettings, backend: Backend | None) -> Iterator[Problem]:
    """What is about methods that the route does not take. HEAD comes with GET. A bulk of documents is a POST
    that asks for the scopes of PUT, PATCH and DELETE too."""
    methods = {*written.methods, *(("HEAD",) if "GET" in written.methods else ())}
    only = f"the route takes only {', '.join(written.methods)}"
    for word in written.scopes if backend is not None else ():
        if word.isupper() and word not in methods:
            reason, hint = f"{only}, so nobody needs them", f"add {word} to methods, or remove it"
            yield Problem(("scopes", word), reason, hint)
    if written.websocket is not None and "GET" not in methods:
        reason = f"{only}, and a WebSocket begins with GET"
        yield Problem(("websocket",), reason, "add GET to methods, or remove it")
    if written.retry != "none" and methods.isdisjoint(IDEMPOTENT):
        yield Problem(("retry",), f"{only}, which is never tried again", "remove it")
