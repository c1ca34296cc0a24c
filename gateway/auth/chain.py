"""Who calls: from the credentials of a request to an identity, at once where that can be."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Protocol

from gateway.auth.api_keys import REVOKED
from gateway.auth.credentials import SEVERAL, Credentials, presented
from gateway.auth.issuers import Issuers, Takes
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.revocations import Revocations
from gateway.auth.stored import StoredCredentials
from gateway.call import Call, CallRoute, Certificate
from gateway.core.api_keys import is_api_key
from gateway.core.errors import Unauthenticated
from gateway.core.http.head import Head, read
from gateway.core.http.tickets import MARK, tickets_of, without_tickets
from gateway.core.model import Identity
from gateway.core.policy.certificates import CertificateRule, identify
from gateway.core.websocket.handshake import BEARER, bearer_tokens

_MTLS = "mtls"
_MOST = 10_000  # clients' certificates that are remembered
_NO_CERTIFICATE = "This path takes a client's certificate, and this connection showed none."
_OUTDATED = "The certificate was verified with what has been replaced: connect again."
_EXPIRED = "The client's certificate is not valid at this time."
_TICKET = "\0"  # before a ticket that is still to be redeemed, where a token is looked for: in no header


class ClientLimits(Protocol):
    """Counts a call of nobody known against the limit of its client's address (limits/checks.py). Both raise
    ClientLimit. take_client gives False where the call has to wait before it is let on."""

    def take_client(self, call: Call) -> bool: ...
    def take_client_now(self, call: Call) -> None: ...


class Unlimited:
    """Counts nothing: who calls has limits of their own, or is only looked at."""

    def take_client(self, call: Call) -> bool:
        """See ClientLimits."""
        return True

    def take_client_now(self, call: Call) -> None:
        """See ClientLimits."""


class AuthenticationChain:
    """Authenticates the calls of all routes that are not public: the snapshot is compiled with it
    (`Route.authentication`).

    clients: count each call with a credential not verified before, once, and before it is verified, so that
    no client can keep the gateway busy with made-up tokens.
    """

    def __init__(
        self,
        credentials: Credentials,
        issuers: Issuers,
        stored: StoredCredentials,
        clients: ClientLimits,
        tickets: Tickets,
    ) -> None:
        self._credentials = credentials
        self._issuers = issuers
        self._stored = stored
        stored.revocations.on_change(self._forget_revoked)
        self._certificates = _Certificates(credentials, stored.revocations, clients)
        self._tickets = tickets
        self._clients = clients

    def try_authenticate(self, call: Call) -> Identity | None:
        """The identity, where that needs no waiting; None where only `authenticate` can tell, after the limit
        of the client's address where the call is `uncounted`. Raises Unauthenticated, IssuerUnavailable,
        ClientLimit."""
        if call.route is not None and call.route.callers is not None:
            shown = self._certificates.identity(call)
            if shown is not None:
                return shown
        head = call.head
        try:
            if head.protocols or (call.query and MARK in call.query):
                head = self._of_a_page(call)
            if not head.token:
                head.remember_token(presented(head))
        except Unauthenticated:
            self._clients.take_client_now(call)
            raise
        if head.token.startswith(_TICKET):
            return None
        known = self._credentials.known(head.token)
        if known is not None:
            return known
        if not self._clients.take_client(call):
            call.uncounted = True
            return None
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
        token = offered[0] if offered else self._tickets.try_redeem(shown[0], call)
        head.remember_token(_TICKET + shown[0] if token is None else token)
        return head

    async def authenticate(self, call: Call) -> Identity:
        """The identity, for a call of which `try_authenticate` could not tell it; may wait for an issuer on
        the network. Raises Unauthenticated, IssuerUnavailable."""
        if call.identity is not None and call.identity.kind == _MTLS:
            shown = self._certificates.identity(call)
            if shown is None:
                raise Unauthenticated(REVOKED)
            return shown
        if call.head.token.startswith(_TICKET):
            await self._redeem(call, call.head.token.removeprefix(_TICKET))
        return await self.identity(call.head.token, takes(call.route))

    async def _redeem(self, call: Call, ticket: str) -> None:
        """A ticket that another process may have given."""
        call.head.remember_token("")
        try:
            token = await self._tickets.redeem(ticket, call)
        except Unauthenticated:
            self._clients.take_client_now(call)
            raise
        if self._credentials.known(token) is None:
            self._clients.take_client_now(call)
        call.head.remember_token(token)

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


# --- by the certificate of the connection ---


class _Certificates:
    """Verified certificates and their identities. clients: see AuthenticationChain. now: seconds since the
    epoch."""

    def __init__(
        self,
        credentials: Credentials,
        revocations: Revocations,
        clients: ClientLimits,
        now: Callable[[], float] = time,
    ) -> None:
        self._credentials = credentials
        self._revocations = revocations
        self._clients = clients
        self._now = now
        # By the section that has verified it, and its fingerprint.
        self._known: dict[tuple[str, str], tuple[tuple[CertificateRule, ...], Identity]] = {}
        revocations.on_change(self._known.clear)

    def identity(self, call: Call) -> Identity | None:
        """The identity by the certificate of the call's connection; None where the route takes none, and
        where it takes other credentials too and one of them is presented, or no certificate. Raises
        Unauthenticated, ClientLimit."""
        rule = call.route.callers if call.route is not None else None
        if rule is None or _MTLS not in rule.kinds:
            return None
        certificate = call.client.certificate if call.client is not None else None
        if len(rule.kinds) > 1 and (certificate is None or _presents_another(call)):
            return None
        if certificate is None:
            self._clients.take_client_now(call)
            raise Unauthenticated(_NO_CERTIFICATE)
        rules = call.snapshot.certificates
        key = certificate.tls, certificate.fingerprint
        known = self._known.get(key)
        if known is None or known[0] is not rules:
            self._clients.take_client_now(call)
            known = rules, self._verify(certificate, rules)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = known
        if not certificate.is_current:
            raise Unauthenticated(_OUTDATED, close=True)
        if not certificate.begins <= self._now() < certificate.ends:
            raise Unauthenticated(_EXPIRED, close=True)
        return known[1]

    def _verify(self, certificate: Certificate, rules: tuple[CertificateRule, ...]) -> Identity:
        """Raises Unauthenticated."""
        of = certificate.names, certificate.fingerprint, certificate.begins, certificate.ends
        issuer = ""
        try:
            identity = identify(rules, certificate.tls, *of)
            issuer = identity.issuer
            if self._revocations.covers(identity):
                raise Unauthenticated(REVOKED)
        except Unauthenticated:
            self._credentials.count(issuer or _MTLS, "refused")
            raise
        self._credentials.count(issuer, "verified")
        return identity


def _presents_another(call: Call) -> bool:
    head = call.head
    return bool(head.authorization or head.api_keys or head.protocols or MARK in call.query)
