"""What a routing config is compiled to: one immutable value that holds all that a request needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from gateway.core.errors import MethodNotAllowed, NoRoute
from gateway.core.jwt.issuer import Issuer
from gateway.core.model import Backend, Route, Tenant, TrustedProxies
from gateway.core.policy.certificates import CertificateRule
from gateway.core.policy.limits import NO_LIMITS, LimitRules
from gateway.core.routing.table import RoutingTable

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T, A]):
    """The routing config as compiled, every name resolved. A request reads it once and keeps it.

    revision: 0 until it is live, then counted from 1. loaded_at: when it became live, in seconds since the
    epoch. digest: of the text that it was compiled from. own: of the front page and of the gateway's own
    endpoints, by their paths, for what no other route takes. issuers: of tokens, by name, beside that of
    gateway.conf. local_issuer: whether that one is taken too. certificates: whose clients' certificates are.
    """

    revision: int
    loaded_at: float
    digest: str
    table: RoutingTable[T, A]
    backends: Mapping[str, Backend]
    tenants: Mapping[str, Tenant]
    trusted: TrustedProxies
    limits: LimitRules = NO_LIMITS
    own: Mapping[str, Route[T, A]] = field(default_factory=dict)
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    local_issuer: bool = True
    certificates: tuple[CertificateRule, ...] = ()

    def route_names(self) -> list[str]:
        """Of all routes, those of our own too."""
        return [route.name for route in (*self.table.routes, *self.own.values())]

    def own_route(self, method: str, path: str) -> Route[T, A]:
        """Of what no route takes, the one of our own. Raises NoRoute, MethodNotAllowed."""
        own = self.own.get(path)
        if own is None:
            raise NoRoute("No route takes this path.")
        if method not in own.methods:
            raise MethodNotAllowed(", ".join(sorted(own.methods)))
        return own

    def made_live(self, revision: int, loaded_at: float, digest: str) -> Snapshot[T, A]:
        """The same config as a numbered revision."""
        return replace(self, revision=revision, loaded_at=loaded_at, digest=digest)

    def view(self) -> dict[str, Any]:
        """What operators are shown of it, as JSON."""
        return {
            "revision": self.revision,
            "loaded_at": self.loaded_at,
            "digest": self.digest,
            "routes": len(self.table.routes),
            "backends": len(self.backends),
            "tenants": len(self.tenants),
        }
