"""Who calls: from the credentials of a request to an identity, at once where that can be."""

from __future__ import annotations

from collections.abc import Callable

from gateway.auth.keys import Keys
from gateway.call import Call
from gateway.core.errors import Unauthenticated
from gateway.core.http.head import Head
from gateway.core.jwt.verify import bearer
from gateway.core.model import Identity


class AuthenticationChain:
    """Authenticates the calls of all routes that are not public: the snapshot is compiled with it
    (`Route.authentication`).

    limit_client: counts a call against the rate limit of its client's address; raises ClientLimit. It is
    called once for each call with a credential not verified before, and before it is verified, so that
    no client can keep the gateway busy with made-up tokens.
    """

    def __init__(self, keys: Keys, limit_client: Callable[[Call], None]) -> None:
        self._keys = keys
        self._limit_client = limit_client

    def try_authenticate(self, call: Call) -> Identity | None:
        """The identity, where that needs no waiting; None where only `authenticate` can tell. Raises
        Unauthenticated, ClientLimit."""
        head = call.head
        try:
            if not head.token:
                head.remember_token(bearer(head.authorization))
        except Unauthenticated:
            self._limit_client(call)
            raise
        known = self._keys.known(head.token)
        if known is not None:
            return known
        self._limit_client(call)
        return self._keys.verify(head.token)

    async def authenticate(self, call: Call) -> Identity:
        """The identity, for a call of which `try_authenticate` could not tell it; may wait for an issuer on
        the network. Raises Unauthenticated."""
        return self._keys.verify(call.head.token)

    def known(self, head: Head) -> Identity | None:
        """The identity of a credential that was verified before and is still good. Verifies nothing."""
        token = _token(head)
        return self._keys.known(token) if token else None

    def peek(self, head: Head) -> Identity | None:
        """As `known`, where nobody is let in by it: the credential may have expired, and no metric counts
        it."""
        token = _token(head)
        return self._keys.peek(token) if token else None


def _token(head: Head) -> str:
    """The bearer token, "" when there is none that could be one."""
    try:
        return head.token or bearer(head.authorization)
    except Unauthenticated:
        return ""
