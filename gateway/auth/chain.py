"""Who calls: from the credentials of a request to an identity, at once where that can be."""

from __future__ import annotations

from collections.abc import Callable

from gateway.auth.credentials import Credentials, presented
from gateway.auth.issuers import Issuers, Takes
from gateway.call import Call, CallRoute
from gateway.core.errors import Unauthenticated
from gateway.core.http.head import Head
from gateway.core.model import Identity


class AuthenticationChain:
    """Authenticates the calls of all routes that are not public: the snapshot is compiled with it
    (`Route.authentication`).

    limit_client: counts a call against the rate limit of its client's address; raises ClientLimit. It is
    called once for each call with a credential not verified before, and before it is verified, so that
    no client can keep the gateway busy with made-up tokens.
    """

    def __init__(
        self, credentials: Credentials, issuers: Issuers, limit_client: Callable[[Call], None]
    ) -> None:
        self._credentials = credentials
        self._issuers = issuers
        self._limit_client = limit_client

    def try_authenticate(self, call: Call) -> Identity | None:
        """The identity, where that needs no waiting; None where only `authenticate` can tell. Raises
        Unauthenticated, IssuerUnavailable, ClientLimit."""
        head = call.head
        try:
            if not head.token:
                head.remember_token(presented(head))
        except Unauthenticated:
            self._limit_client(call)
            raise
        known = self._credentials.known(head.token)
        if known is not None:
            return known
        self._limit_client(call)
        identity = self._issuers.try_verify(head.token, takes(call.route))
        return None if identity is None else self._remember(head.token, identity)

    async def authenticate(self, call: Call) -> Identity:
        """The identity, for a call of which `try_authenticate` could not tell it; may wait for an issuer on
        the network. Raises Unauthenticated, IssuerUnavailable."""
        return await self.identity(call.head.token, takes(call.route))

    async def identity(self, text: str, takes: Takes = lambda name: False) -> Identity:
        """The identity of a credential, wherever it came; may wait. Raises Unauthenticated,
        IssuerUnavailable."""
        known = self._credentials.known(text)
        return known if known is not None else self._remember(text, await self._issuers.verify(text, takes))

    def known(self, head: Head) -> Identity | None:
        """The identity of a credential that was verified before and is still good. Verifies nothing."""
        text = _text(head)
        return self._credentials.known(text) if text else None

    def peek(self, head: Head) -> Identity | None:
        """As `known`, where nobody is let in by it: the credential may have expired, and no metric counts
        it."""
        text = _text(head)
        return self._credentials.peek(text) if text else None

    def _remember(self, text: str, identity: Identity) -> Identity:
        self._credentials.remember(text, identity)
        return identity


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
