"""Who calls: all that makes an identity of a credential. Both planes ask for it: one for clients, the
other for operators."""

from __future__ import annotations

from gateway.auth.chain import AuthenticationChain, ClientLimits
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.oauth.once import Once
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.store import FILE as AUTH_STORE
from gateway.auth.stored import StoredCredentials
from gateway.call import Snapshot
from gateway.core.jwt.issuer import LOCAL
from gateway.edge.backend.origin import ALONE, Flights, Origins
from gateway.planes.ground import Ground
from gateway.planes.steps import ENDING, Step

KEYS_POLL = 1.0  # seconds between two looks whether keys are due


class Callers:
    """clients: count the calls of clients that are not known, by address. once, flights: what is shared with
    other processes."""

    def __init__(
        self,
        ground: Ground,
        clients: ClientLimits,
        once: Once | None = None,
        flights: Flights = ALONE,
    ) -> None:
        self._tokens = ground.config.tokens
        self.stored = StoredCredentials(ground.data / AUTH_STORE, ground.wall)
        self.credentials, self.origins = Credentials(), Origins()
        self.issuers = Issuers(self.credentials, self.origins, now=ground.now, flights=flights)
        self.tickets = Tickets(ground.now, once)
        self.authentication = AuthenticationChain(
            self.credentials, self.issuers, self.stored, clients, self.tickets
        )

    def load_keys(self) -> None:
        """The keys of this gateway itself, at the start. Raises KeysUnusable."""
        self.issuers.reconcile(self._tokens, {})
        self.issuers.load(LOCAL)

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow the config."""
        self.issuers.reconcile(self._tokens if snapshot.local_issuer else None, snapshot.issuers)

    def steps(self) -> tuple[Step, ...]:
        """Those of its end."""
        return (
            Step(self.issuers.close, "what is asked of issuers", ENDING),
            Step(self.origins.close, "the connections to issuers", ENDING),
            Step(self.stored.close, "the file of API keys and revocations", ENDING),
        )
