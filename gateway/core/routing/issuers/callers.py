"""Which callers a route takes, beside scopes: as compiled, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.core.jwt.issuer import LOCAL, Introspection, Issuer
from gateway.core.model import Backend, CallerRule, Route
from gateway.core.routing.problems import Problem, did_you_mean
from gateway.core.routing.settings import RouteSettings

DEFAULT_KINDS = frozenset({"jwt", "api_key"})  # what a route takes that does not say
_TOKENS_ONLY = "it takes no tokens (auth), and nothing else has these"
_OF_SCOPES = frozenset({"scope", "scp"})


def compile_callers(written: RouteSettings) -> CallerRule | None:
    """What the route asks of its callers; None when it takes all."""
    kinds = frozenset(written.auth) if frozenset(written.auth) != DEFAULT_KINDS else frozenset()
    claims = {path: frozenset(texts) for path, texts in written.require.items()}
    rule = CallerRule(kinds, frozenset(written.issuers), claims)
    return rule if kinds or rule.issuers or claims else None


def caller_problems(
    written: RouteSettings, issuers: Collection[str], certificates: Collection[str] = ()
) -> Iterator[Problem]:
    """Paths begin in the route. issuers: that it may name, `local` unless it is off. certificates: those
    that say whose clients' certificates are."""
    if written.public:
        for name in ("auth", "issuers", "require", "bind"):
            if getattr(written, name):
                yield Problem((name,), "a public route looks at no credentials", f"remove {name}, or public")
        return
    for index, name in enumerate(written.issuers):
        if name not in issuers:
            off = "local is switched off at the top (issuers)"
            reason = off if name == LOCAL else f"there is no issuer {name!r}"
            yield Problem(("issuers", index), reason, _known(name, issuers))
    if "mtls" in written.auth and not certificates:
        hint = "write certificates: at the top, with the names in them and their tenant"
        yield Problem(("auth",), "no certificate of a client is anybody's", hint)
    if written.auth and "jwt" not in written.auth:
        for name in ("issuers", "require"):
            if getattr(written, name):
                yield Problem((name,), _TOKENS_ONLY, f"remove {name}, or add jwt to auth")
    elif written.require and (others := [kind for kind in written.auth if kind != "jwt"]):
        reason = f"{others[0]} has no claims, so none gets past require"
        yield Problem(("auth",), reason, f"remove {others[0]}")
    for path in _OF_SCOPES & written.require.keys():
        reason = "it holds many names in one text, so it is compared with none of them"
        hint = "write scopes: { read: [...], write: [...] }, which looks at each of them"
        yield Problem(("require", path), reason, hint)
    if "iss" in written.require:
        yield Problem(("require", "iss"), "issuers are known by name", "write issuers: and their names")


def _known(name: str, issuers: Collection[str]) -> str:
    return f"{did_you_mean(name, issuers)}known: {', '.join(sorted(issuers)) or 'none'}"


def bind_problems(written: RouteSettings, backend: Backend | None) -> Iterator[Problem]:
    """What a signed identity is bound to needs a backend that gets one. backend: None for documents."""
    if written.bind is None or written.public:
        return
    if backend is None:
        yield Problem(("bind",), "documents are in this process: no identity is sent to them", "remove it")
    elif backend.identity == "headers":
        reason = f"the backend {backend.name!r} gets headers, which are not signed"
        yield Problem(("bind",), reason, "remove it, or write identity: signed at the backend")


def ambiguous(routes: Mapping[int, Route[Any, Any]], issuers: Mapping[str, Issuer]) -> Iterator[Problem]:
    """A token that is not a JSON Web Token does not say whose it is: to ask one issuer about the tokens of
    another would hand them over. Routes by their positions; paths begin at the top."""
    asked = {name for name, issuer in issuers.items() if isinstance(issuer.keys, Introspection)}
    found = [at for at, route in routes.items() if not route.public and len(_taken(route, asked)) > 1]
    if found:
        both = " and ".join(sorted(_taken(routes[found[0]], asked)))
        reason = f"it takes tokens that are asked about of {both}, and such a token does not say whose it is"
        more = f"; so do {len(found) - 1} other routes" if found[1:] else ""
        yield Problem(("routes", found[0]), reason + more, "name one of them in issuers: of the route")


def _taken(route: Route[Any, Any], asked: set[str]) -> set[str]:
    rule = route.callers
    if rule is None:
        return asked
    if rule.kinds and "jwt" not in rule.kinds:
        return set()
    return asked & rule.issuers if rule.issuers else asked
