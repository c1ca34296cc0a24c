"""Who calls: from the credentials of a request to an identity, at once where that can be."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from gateway.auth.api_keys import REVOKED
from gateway.auth.credentials import SEVERAL, Credentials, presented
from gateway.auth.issuers import Issuers, Takes
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.stored import StoredCredentials
from gateway.call import Call, CallRoute
from gateway.core.api_keys import is_api_key
from gateway.core.errors import Unauthenticated
from gateway.core.http.head import Head, read
from gateway.core.http.tickets import MARK, tickets_of, without_tickets
from gateway.core.model import Identity
from gateway.core.websocket.handshake import BEARER, bearer_tokens


class AuthenticationChain:
    """Authenticates the calls of all routes that are not public: the snapshot is compiled with it
    (`Route.authentication`).

    limit_client: counts a call against the rate limit of its client's address; raises ClientLimit. It is
    called once for each call with a credential not verified before, and before it is verified, so that
    no client can keep the gateway busy with made-up tokens.
    """

    def __init__(
        self,
        credentials: Credentials,
        issuers: Issuers,
        stored: StoredCredentials,
        limit_client: Callable[[Call], None],
        tickets: Tickets,
    ) -> None:
        self._credentials = credentials
        self._issuers = issuers
        self._stored = stored
        stored.revocations.on_change(self._forget_revoked)
        self._tickets = tickets
        self._limit_client = limit_client

    def try_authenticate(self, call: Call) -> Identity | None:
        """The identity, where that needs no waiting; None where only `authenticate` can tell. Raises
        Unauthenticated, IssuerUnavailable, ClientLimit."""
        head = call.head
        try:
            if head.protocols or (call.query and MARK in call.query):
                head = self._of_a_page(call)
            if not head.token:
                head.remember_token(presented(head))
        except Unauthenticated:
            self._limit_client(call)
            raise
        known = self._credentials.known(head.token)
        if known is not None:
            return known
        self._limit_client(call)
        if is_api_key(head.token):
            return self._of_api_key(head.token)
        identity = self._issuers.try_verify(head.token, takes(call.route))
        return None if identity is None else self._remember(head.token, identity)

    def _of_a_page(self, call: Call) -> Head:
        """The head, with the token of a page that can set no header: that of a ticket in the query, which
        nobody sees after this, or the one that is offered as a subprotocol. Raises Unauthenticated."""
        head, shown = call.head, tickets_of(call.query)
        offered = bearer_tokens(head.protocols) if call.websocket is not None else []
        call.query = without_tickets(call.query)
        if len(shown) + len(offered) + len(head.authorization) + len(head.api_keys) > 1:
            raise Unauthenticated(SEVERAL, error="invalid_request")
        if not shown and not offered:
            return head
        if offered == [""]:
            raise Unauthenticated(f"The token is to stand behind {BEARER}.", error="invalid_request")
        # Of its own: another request with these lines may show no ticket, or be no handshake.
        call.head = head = read(head.raw)
        head.remember_token(offered[0] if offered else self._tickets.redeem(shown[0], call))
        return head

    async def authenticate(self, call: Call) -> Identity:
        """The identity, for a call of which `try_authenticate` could not tell it; may wait for an issuer on
        the network. Raises Unauthenticated, IssuerUnavailable."""
        return await self.identity(call.head.token, takes(call.route))

    async def identity(self, text: str, takes: Takes = lambda name: False) -> Identity:
        """The identity of a credential, wherever it came; may wait. takes: see `takes`; by default no issuer
        is asked about a token that only it can read. Raises Unauthenticated, IssuerUnavailable."""
        known = self._credentials.known(text)
        if known is not None:
            return known
        if is_api_key(text):
            return self._of_api_key(text)
        return self._remember(text, await self._issuers.verify(text, takes))

    def known(self, head: Head) -> Identity | None:
        """The identity of a credential that was verified before and is still good. Verifies nothing."""
        text = _text(head)
        return self._credentials.known(text) if text else None

    def peek(self, head: Head) -> Identity | None:
        """As `known`, where nobody is let in by it: the credential may have expired, and no metric counts
        it."""
        text = _text(head)
        return self._credentials.peek(text) if text else None

    def _of_api_key(self, text: str) -> Identity:
        try:
            return self._remember(text, self._stored.api_keys.identity(text, time()))
        except Unauthenticated:
            self._credentials.count("", "refused")
            raise

    def _remember(self, text: str, identity: Identity) -> Identity:
        """A credential was found good. Raises Unauthenticated where it was revoked."""
        if self._stored.revocations.covers(identity):
            if identity.kind != "api_key":
                self._credentials.count(identity.issuer, "refused")
            raise Unauthenticated(REVOKED)
        self._credentials.remember(text, identity)
        return identity

    def _forget_revoked(self) -> None:
        self._credentials.forget(self._stored.revocations.covers)


def takes(route: CallRoute | None) -> Takes:
    """Whether a route takes the tokens of an issuer."""
    named = route.callers.issuers if route is not None and route.callers is not None else frozenset()
    return (lambda name: name in named) if named else (lambda name: True)


def _text(head: Head) -> str:
    """The credential, "" when there is none that could be one."""
    try:
        return head.token or presented(head)
    except Unauthenticated:
        return ""
