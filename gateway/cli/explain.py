"""gateway explain: what would happen to a request, and why.

Nothing is decided here: the code that serves is run, up to where it needs the body, the store or a backend.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.auth.chain import AuthenticationChain
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.stored import StoredCredentials
from gateway.call import Call, Snapshot
from gateway.cli import credential
from gateway.core.errors import GatewayError, UnsupportedMediaType
from gateway.core.http.head import Head
from gateway.core.http.hops import Via
from gateway.core.http.request_reader import Request, RequestReader
from gateway.core.jwt.issuer import Issuer
from gateway.core.methods import WITHOUT_BODY
from gateway.core.model import MANAGE, Identity, Route, TenantId
from gateway.core.policy.budget import Budget
from gateway.core.policy.limits import Rate
from gateway.documents.changes import Feeds
from gateway.documents.target import Documents
from gateway.edge.backend.origin import Origins
from gateway.edge.backend.pool import Pools
from gateway.edge.lifetimes import Lifetimes
from gateway.edge.response.cors import is_preflight
from gateway.edge.websocket.tunnel import Tunnels
from gateway.life import Life, Policies
from gateway.proxy import target as proxy
from gateway.runtime import threads
from gateway.runtime.files import read_text
from gateway.store.model.write import Quota

_MAX_FILE = 256 * 1024  # bytes of a file of headers
_BEARER = re.compile(r"(?:authorization\s*:\s*)?(?:bearer\s+)?(\S+)", re.IGNORECASE)


# --- the request -----------------------------------------------------------------------------------


def read_token(given: str, option: str = "--token") -> str:
    """The credential in the argument of an option: itself, `Bearer ...`, `Authorization: Bearer ...`, `-` for
    standard input, @file for a file with any of these. Raises ValueError, FileUnusable; neither repeats the
    token."""
    text = _content(given) if given == "-" or given.startswith("@") else given
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith("authorization:")]
    found = _BEARER.fullmatch((named or lines or [""])[0])
    if found is None or (len(lines) > 1 and not named):
        where = f" in {given}" if given == "-" or given.startswith("@") else ""
        what = "token" if option == "--token" else "key"
        raise ValueError(f"{option}: there is no {what}{where}; write it, @FILE or - (standard input)")
    return found[1]


def _content(given: str) -> str:
    return sys.stdin.read(_MAX_FILE) if given in ("-", "@-") else read_text(Path(given[1:]), _MAX_FILE)


def parse_headers(lines: Iterable[str], token: str | None) -> CIMultiDictProxy[str]:
    """Headers from `Name: value` lines; @file for a file of such lines, as curl takes them. token: as
    `read_token` takes it. Raises ValueError, FileUnusable."""
    headers: CIMultiDict[str] = CIMultiDict()
    for given in lines:
        for line in _content(given).splitlines() if given.startswith("@") else [given]:
            name, colon, value = line.partition(":")
            if not colon and line.strip():
                shown = f"a line of {given}" if given.startswith("@") else repr(line)
                raise ValueError(f"-H: {shown} is no header; write 'Name: value'")
            if colon:
                headers.add(name.strip(), value.strip())
    if token is not None:
        headers[hdrs.AUTHORIZATION] = f"Bearer {read_token(token)}"
    return CIMultiDictProxy(headers)


# --- running it ------------------------------------------------------------------------------------


class _Reached(Exception):
    """The call came to the part that is left out, so nothing refused it."""


class _Unread(Call):
    """A call that ends where its body would be read. read: whether it came to that."""

    read = False

    @property
    def body(self) -> bytes:
        self.read = True
        raise _Reached

    @body.setter
    def body(self, value: bytes) -> None:
        return


class _NoStore:
    """A document store that ends the call at its first use."""

    def tenant(self, tenant: TenantId, quota: Quota | None = None, weight: float = 1.0) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        def reached(*_: Any, **__: Any) -> NoReturn:
            raise _Reached

        return reached


@dataclass(frozen=True, slots=True)
class _RecordingRoute(Route[Any, Any]):
    """A route that records for which methods its scopes were required."""

    required: list[str] = field(default_factory=list)

    def scopes_for(self, method: str) -> frozenset[str]:
        self.required.append(method)
        return Route.scopes_for(self, method)


class Asking:
    """Authentication as the gateway's own, but it counts nobody's calls and begins with nothing: the issuers
    are asked anew. store: the file of API keys and revocations, which may not be there. chain: for compiling
    the snapshot."""

    def __init__(self, store: Path) -> None:
        credentials, self._origins = Credentials(), Origins()
        self._stored = StoredCredentials(store)
        self.issuers = Issuers(credentials, self._origins)
        self.chain = AuthenticationChain(
            credentials, self.issuers, self._stored, lambda call: None, Tickets()
        )

    @asynccontextmanager
    async def of(self, local: Issuer | None, others: Mapping[str, Issuer]) -> AsyncIterator[None]:
        """While it asks these issuers. Raises KeysUnusable for the local one's file."""
        self.issuers.reconcile(local, others)
        try:
            if local is not None:
                self.issuers.load(local.name)
            if self._stored.store.path.exists():
                await self._stored.refresh()
            yield
        finally:
            await self.issuers.close()
            await self._origins.close()
            await threads.run(threads.AUTH, self._stored.store.close)

    async def revocations(self, call: Call, refused: GatewayError | None) -> list[tuple[str, str]]:
        """See credential.revocations. To be called while it asks."""
        return await credential.revocations(call, refused, self.issuers, self._stored.store.path)


async def run(
    snapshot: Snapshot,
    chain: AuthenticationChain,
    method: str,
    target: str,
    given: CIMultiDictProxy[str],
    via: Via | None = None,
) -> tuple[Call, GatewayError | None]:
    """The call as far as it came, and the error that refused it. The request is serialised and read by the
    reader that serves, so that its framing and length are checked too.

    chain: what the snapshot was compiled with. target: of the request line, or a URL. via: the gateway's own;
    None when it has none because it never ran. Raises ValueError for a preflight.
    """
    reader = RequestReader()
    reader.feed(_written(method, target, given))
    refused: GatewayError | None = None
    request: Request | None = None
    try:
        request = reader.read_head()
    except GatewayError as error:
        refused = error
    if request is None:
        begun = reader.begun() or Request(method, target, Head(), False)
        return _Unread(begun.method, begun.target, begun.head, "127.0.0.1", snapshot), refused
    call = _Unread(request.method, request.target, request.head, "127.0.0.1", snapshot)
    if is_preflight(call):
        method = call.head.asked
        raise ValueError(
            f"a CORS preflight is answered from the route's cors, before any token; explain the {method}"
        )
    try:
        with suppress(_Reached):
            life = Life(_policies(call.snapshot, chain, via))
            if not life.begin(call):
                await chain.authenticate(call)
                life.begin(call)  # now it is known
        await _continue_at_target(call)
    except GatewayError as error:
        return call, error
    return call, None


def _written(method: str, target: str, given: CIMultiDictProxy[str]) -> bytes:
    """The head as bytes on the wire. Raises ValueError when a value holds a line break."""
    headers = CIMultiDict(given)
    if "://" in target:
        parts = urlsplit(target)
        headers.setdefault(hdrs.HOST, parts.netloc.rpartition("@")[2])
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers.setdefault(hdrs.HOST, "localhost")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line break stands in the request's line or in a header; write one -H for each")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape")


class _Only(NamedTuple):
    """Has one snapshot for ever (see `life.Live`)."""

    current: Snapshot


def _policies(snapshot: Snapshot, chain: AuthenticationChain, via: Via | None) -> Policies:
    return Policies(
        live=_Only(snapshot),
        known=chain.known,
        peek=chain.peek,
        limit=lambda call: None,
        limit_client=lambda call: None,
        count=lambda call: None,
        log=lambda call: None,
        check_via=via.check if via is not None else lambda values: None,
    )


async def _continue_at_target(call: _Unread) -> None:
    """Let the target check the head. Raises GatewayError when it refuses it."""
    route = call.route
    if route is None:
        return
    if route.backend is not None:
        if not proxy.ends_here(call):
            proxy.accept(call, Pools(), Tunnels(Lifetimes()))
        return
    if not route.by_collection:
        return
    call.route = _RecordingRoute(**{one.name: getattr(route, one.name) for one in fields(route)})
    documents = Documents(_NoStore(), Feeds(Lifetimes()), Budget(sys.maxsize))  # type: ignore[arg-type]
    try:
        with suppress(_Reached):
            await documents.serve(call)
    except UnsupportedMediaType:
        if call.headers.get(hdrs.CONTENT_TYPE):
            raise
        call.read = True  # only because there is no body, and no type of it


# --- the explanation -------------------------------------------------------------------------------


def explanation(
    call: Call,
    refused: GatewayError | None,
    issuers: Issuers | None = None,
    revoked: Iterable[tuple[str, str]] = (),
) -> list[tuple[str, str]]:
    """Names and values to print: route, target, scopes, issuer, key, tenant, limits, outcome. issuers: that
    were asked; without them nothing is said of the credential. revoked: what `Asking.revocations` says."""
    known = credential.rows(call, refused, issuers) if issuers is not None else ()
    rows = [*_route(call), *known, *revoked, *_identity(call)]
    if call.route is not None and refused is None:
        rows += _limits(call, call.route)
        if isinstance(call, _Unread) and call.read:
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
        yield "addresses", ", ".join(address.text for address in route.backend.addresses)
    yield "needs", _needs(call, route)
    if route.bind:
        yield "bind", "request: the identity that the backend gets is good for this method and path alone"
    if call.head.upgrades:
        taken = route.backend is not None and call.websocket is not None
        yield "upgrade", "to a WebSocket" if taken else "ignored: the route has none for such a request"


def _needs(call: Call, route: Route[Any, Any]) -> str:
    if route.public:
        return "nothing: it is public"
    if not isinstance(route, _RecordingRoute):
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
        yield "token", f"subject {identity.subject}, scopes {identity.scope_text or 'none'}"
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
