"""Which tenant a call is for, and whether its identity may do this on this route.

The token says which tenant; anything else may only agree. Where documents are the target, a scope counts for
every collection, or with a collection's name behind it (`documents:read:orders`) for that one: the target
knows which, and asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.core.errors import Forbidden, NotImplementedByGateway, Unauthenticated
from gateway.core.jwt.claims import claim_texts
from gateway.core.model import CallerRule, Identity, Tenant

ADMIN_SCOPE = "gateway:admin"  # what a token needs at the admin listener


def resolve_tenant(identity: Identity, tenants: Mapping[str, Tenant], named: Iterable[str]) -> Tenant:
    """The tenant of the token. `named`: tenants named elsewhere (X-Tenant, a path parameter).

    Raises Forbidden when one of them disagrees, and when the tenant is unknown or disabled (the same
    answer for both: which tenants exist is nobody's business).
    """
    mine = identity.tenant.value
    for other in named:
        if other != mine:
            raise Forbidden("The request names another tenant than the credential does.")
    tenant = tenants.get(mine)
    if tenant is None or tenant.disabled:
        raise Forbidden("The credential's tenant is not served here.")
    return tenant


class ScopeRule(Protocol):
    """What a route asks of a token, see `model.Route`."""

    @property
    def by_collection(self) -> bool: ...
    @property
    def callers(self) -> CallerRule | None: ...
    def scopes_for(self, method: str) -> frozenset[str]:
        """The scopes that a token needs for this method."""
        ...


class Listing(Protocol):
    """A route that may list methods."""

    @property
    def methods(self) -> frozenset[str]: ...


def require(route: ScopeRule, method: str, identity: Identity) -> None:
    """Nothing when allowed, or when the target asks for the scopes. Raises Forbidden naming the missing ones
    (RFC 6750 section 3.1) or the claim; Unauthenticated where such a credential is not taken here."""
    if route.callers is not None:
        _require_caller(route.callers, identity)
    needed = route.scopes_for(method)
    if needed <= identity.scopes or route.by_collection:
        return
    raise lacks(needed - identity.scopes)


def require_listed(route: Listing, method: str) -> None:
    """Of a method that nobody knows, nobody knows what it does. Raises NotImplementedByGateway."""
    if method not in route.methods:
        raise NotImplementedByGateway("The method is unknown, and the route does not list it.")


def _require_caller(rule: CallerRule, identity: Identity) -> None:
    if rule.kinds and identity.kind not in rule.kinds:
        raise Unauthenticated(f"This path takes {' or '.join(sorted(rule.kinds))}, and not {identity.kind}.")
    if rule.issuers and identity.kind == "jwt" and identity.issuer not in rule.issuers:
        raise Unauthenticated("This path takes no tokens of this issuer.")
    for path, wanted in rule.claims.items():
        if wanted.isdisjoint(claim_texts(identity.claims, path)):
            raise Forbidden(f"The token's claim {path} does not allow it.")


def allows(route: ScopeRule, action: str, collection: str, identity: Identity) -> bool:
    """Whether the token may do this in a collection. action: a method, or MANAGE."""
    scopes = identity.scopes
    needed = route.scopes_for(action)
    return needed <= scopes or all(s in scopes or f"{s}:{collection}" in scopes for s in needed)


def require_in_some(route: ScopeRule, action: str, identity: Identity) -> None:
    """Raises Forbidden unless there can be a collection in which the token may do this."""
    scopes = identity.scopes
    needed = route.scopes_for(action)
    missing = [s for s in needed if s not in scopes and not any(t.startswith(f"{s}:") for t in scopes)]
    if missing:
        raise lacks(missing)


def require_in(route: ScopeRule, actions: Iterable[str], collection: str, identity: Identity) -> None:
    """Raises Forbidden unless the token may do all of these in a collection."""
    for action in actions:
        if not allows(route, action, collection, identity):
            break
    else:
        return
    scopes = identity.scopes
    needed = {scope for action in actions for scope in route.scopes_for(action)}
    raise lacks(s for s in needed if s not in scopes and f"{s}:{collection}" not in scopes)


def lacks(scopes: Iterable[str]) -> Forbidden:
    """The refusal of a token without these scopes, with a challenge that names them (RFC 6750, 3.1)."""
    missing = " ".join(sorted(scopes))
    challenge = f'Bearer error="insufficient_scope", scope="{missing}"'
    return Forbidden(f"The credential lacks the scope {missing}.", headers={"WWW-Authenticate": challenge})
