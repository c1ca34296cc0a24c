"""What would happen to a request, and why.

Nothing is decided here: the code that serves is run, up to where it needs the body, the store or a backend.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.admin.explain import credential
from gateway.admin.explain.certificate import Showing, Shown
from gateway.auth.chain import AuthenticationChain, Unlimited
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.stored import StoredCredentials
from gateway.call import Call, CallRoute, Snapshot
from gateway.core.errors import GatewayError, UnsupportedMediaType
from gateway.core.http.head import Head
from gateway.core.http.hops import Via
from gateway.core.http.request_reader import Request, RequestReader
from gateway.core.jwt.issuer import Issuer
from gateway.core.model import Route, TenantId
from gateway.core.policy.budget import Budget
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
from gateway.store.model.write import Quota


class _Reached(Exception):
    """The call came to the part that is left out, so nothing refused it."""


class Unread(Call):
    """A call that ends where its body would be read, and whose credential is looked at by this chain instead
    of its route's. read: whether it came to that."""

    read = False
    certificate: Shown | None = None  # the client's
    chain: AuthenticationChain | None = None

    @property
    def route(self) -> CallRoute | None:
        return self._route

    @route.setter
    def route(self, value: CallRoute | None) -> None:
        own = value is None or value.public or self.chain is None
        self._route = value if own or value is None else replace(value, authentication=self.chain)

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
class RecordingRoute(Route[Any, Any]):
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
        self.chain = AuthenticationChain(credentials, self.issuers, self._stored, Unlimited(), Tickets())

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

    async def revocations(
        self, call: Call, refused: GatewayError | None, program: str = "gateway"
    ) -> list[tuple[str, str]]:
        """See credential.revocations. To be called while it asks."""
        store, shown = self._stored.store.path, call.certificate if isinstance(call, Unread) else None
        return await credential.revocations(call, refused, self.issuers, store, program, shown)


async def run(
    snapshot: Snapshot,
    chain: AuthenticationChain,
    method: str,
    target: str,
    given: CIMultiDictProxy[str],
    via: Via | None = None,
    certificate: Shown | None = None,
) -> tuple[Call, GatewayError | None]:
    """The call as far as it came, and the error that refused it. The request is serialised and read by the
    reader that serves, so that its framing and length are checked too.

    chain: what looks at the credential. target: of the request line, or a URL. via: the gateway's own;
    None when it has none because it never ran. certificate: that the client shows. Raises ValueError for a
    preflight.
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
        return Unread(begun.method, begun.target, begun.head, "127.0.0.1", snapshot), refused
    call = Unread(request.method, request.target, request.head, "127.0.0.1", snapshot)
    call.chain, call.certificate = chain, certificate
    if certificate is not None:
        call.client = Showing(certificate)  # type: ignore[assignment]  # it asks for no more than that
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
        call.client = None
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


async def _asks_nobody(call: Call) -> None:
    """No limit counts the call."""


def _policies(snapshot: Snapshot, chain: AuthenticationChain, via: Via | None) -> Policies:
    return Policies(
        live=_Only(snapshot),
        known=chain.known,
        peek=chain.peek,
        limit=lambda call: True,
        limit_later=_asks_nobody,
        limit_client=lambda call: True,
        limit_client_later=_asks_nobody,
        limit_client_now=lambda call: None,
        count=lambda call: None,
        log=lambda call: None,
        keep=lambda call: None,
        check_via=via.check if via is not None else lambda values: None,
    )


async def _continue_at_target(call: Unread) -> None:
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
    call.route = RecordingRoute(**{one.name: getattr(route, one.name) for one in fields(route)})
    documents = Documents(_NoStore(), Feeds(Lifetimes()), Budget(sys.maxsize))  # type: ignore[arg-type]
    try:
        with suppress(_Reached):
            await documents.serve(call)
    except UnsupportedMediaType:
        if call.headers.get(hdrs.CONTENT_TYPE):
            raise
        call.read = True  # only because there is no body, and no type of it
