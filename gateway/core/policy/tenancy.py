"""Which tenant a call is for. The token says; anything else may only agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.errors import Forbidden
from gateway.core.model import Identity, Tenant


def resolve(identity: Identity, tenants: Mapping[str, Tenant], named: Iterable[str]) -> Tenant:
    """The tenant of the token. `named`: tenants named elsewhere (X-Tenant, a path parameter).

    Raises Forbidden when one of them disagrees, and when the tenant is unknown or disabled (the same
    answer for both: which tenants exist is nobody's business).
    """
    mine = identity.tenant.value
    for other in named:
        if other != mine:
            raise Forbidden("The request names another tenant than the token does.")
    tenant = tenants.get(mine)
    if tenant is None or tenant.disabled:
        raise Forbidden("The token's tenant is not served here.")
    return tenant
